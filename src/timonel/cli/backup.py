"""`timonel backup` and `timonel restore`: a home as one file."""

import getpass
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timonel.cli.moments import utc
from timonel.cli.output import Json, emit, settings

if TYPE_CHECKING:
    from timonel.stores.archive import Backup

__all__ = ["backup", "restore"]

Home = Annotated[
    Path | None, typer.Option(help="The home.", show_default="TIMONEL_HOME, or .timonel")
]


def backup(
    file: Annotated[
        Path, typer.Argument(help="The file to write: .tar, .tar.gz, .tgz or .tar.zst.")
    ],
    home: Home = None,
    json: Json = False,
) -> None:
    """Write a home's state to one file, also while a server runs.

    In it are the database, MLflow's with its artifacts, all objects and the journal; not what can
    be made again: copies that serve, logs, downloads. Keep it well: it holds what people asked.

    Example: [bold]timonel backup home.tar.gz[/bold]
    """
    from timonel.stores.backup import back_up

    options = settings(home=home)
    with _progress("backup", quiet=json) as report:
        made = back_up(options, file, clock=time.time, report=report)
    _tell(made, f"{options.root} is in {file}", as_json=json)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `timonel backup` wrote.")],
    home: Home = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move a home that is there aside, and say where to.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a home of a backup: every file is checked, and it appears whole or not at all.

    Example: [bold]timonel restore home.tar.gz --home restored[/bold]
    """
    from timonel.errors import BadRequest, Busy
    from timonel.serving.roster import running
    from timonel.stores.restore import restore as act

    options = settings(home=home)
    if options.database or options.objects:
        raise BadRequest(
            "Expected a home that has everything in it, got TIMONEL_DATABASE or TIMONEL_OBJECTS.",
            remedy="Unset them; move what was restored to where you want it.",
        )
    if (server := running(options.serving_folder)) is not None:
        raise Busy(
            f"Expected a home that nobody serves, got {options.root}, which process {server.pid} "
            "serves.",
            remedy="Stop it, or restore to another with --home.",
        )
    with _progress("restore", quiet=json) as report:
        made = act(
            file,
            options.root,
            who=getpass.getuser(),
            clock=time.time,
            replace=replace,
            report=report,
        )
    _tell(made, f"{options.root} is as it was at {utc(made.created)}", as_json=json)


def _tell(made: "Backup", sentence: str, *, as_json: bool) -> None:
    if as_json:
        facts = {**vars(made), "file": str(made.file), "created": utc(made.created)}
        emit({**facts, "packed": made.file.stat().st_size, "notes": list(made.notes)})
        return
    typer.echo(f"{sentence} ({made.files:,} files, {made.bytes / 1e6:,.1f} MB)")
    for note in made.notes:
        typer.echo(note, err=True)


@contextmanager
def _progress(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
