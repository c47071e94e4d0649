"""`timonel restart`: new worker processes for a running server."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from timonel.cli.output import Json, emit, settings

__all__ = ["restart"]

_POLL_SECONDS = 0.05


def restart(
    home: Annotated[
        Path | None,
        typer.Option(help="Folder that the server keeps all in.", show_default=".timonel"),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Longest time to wait, in seconds.")] = 300.0,
    json: Json = False,
) -> None:
    """Replace the workers of the server that runs on this home, without failing a request.

    One after the other, each by a process that has loaded all that it answers with. They read the
    projects' definitions anew. A new worker that does not come up changes nothing.

    Example: [bold]timonel restart[/bold]
    """
    from timonel.errors import NotFound, StoreError, TimonelError
    from timonel.serving.roster import running

    options = settings(home=home)
    began = time.monotonic()
    roster = running(options.serving_folder)
    if roster is None:
        raise NotFound(
            f"Expected a server that runs on {options.root}, got none.",
            remedy="Name its home with --home, or start one with: timonel serve PROJECT",
        )
    before = roster.restarts
    os.kill(roster.pid, signal.SIGHUP)
    while (now := running(options.serving_folder)) and now.restarts == before:
        if time.monotonic() - began > timeout:
            raise StoreError(
                f"Expected the workers to be replaced within {timeout:g} s; they are not yet.",
                remedy="It goes on; see /health of the server.",
            )
        time.sleep(_POLL_SECONDS)
    if now is None:
        raise NotFound("The server ended meanwhile.")
    if now.trouble:
        raise TimonelError(
            now.trouble, remedy="The former workers go on; the server's log says why."
        )
    pids, seconds = [worker.pid for worker in now.workers], time.monotonic() - began
    if json:
        emit({"address": now.address, "workers": pids, "seconds": round(seconds, 3)})
    else:
        typer.echo(f"{len(pids)} workers of {now.address} were replaced in {seconds:.1f} s.")
