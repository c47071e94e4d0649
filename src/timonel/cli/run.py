"""`timonel run`: the pipeline of one project, once."""

import getpass
import signal
from types import FrameType
from typing import Annotated

import typer

from timonel.cli.output import Json, settings
from timonel.cli.progress import showing

__all__ = ["run"]


def run(
    project: Annotated[str, typer.Argument(help="A bundled name, or a path to a Python file.")],
    until: Annotated[
        str | None,
        typer.Option(
            help="Last step to do: ingest, validate, split, train, evaluate or register.",
            show_default="register",
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only this model; may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed instead of the models' own.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do every step anew, whatever is kept.")
    ] = False,
    json: Json = False,
) -> None:
    """Ingest → validate → split → train → evaluate → register.

    Steps whose code, parameters and rows are those of an earlier run are taken from it, so a run
    that failed goes on where it ended. A version that the gate refuses is kept out; the exit code
    is then 4.

    Example: timonel run penguins
    """
    from timonel.cli.output import needs
    from timonel.project import load_project

    needs("timonel run", "train")
    from timonel.pipeline.run import run_project

    given = settings()
    definition = load_project(project)
    with _Stopping(), showing(as_json=json) as tell:
        outcome = run_project(
            definition,
            given,
            who=getpass.getuser(),
            until=until,
            models=model or (),
            seed=seed,
            fresh=fresh,
            tell=tell,
        )
    if outcome.status == "refused":
        raise typer.Exit(4)


class _Stopping:
    """SIGTERM ends a run as Ctrl-C does: cleanly, with its record closed."""

    def __enter__(self) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        self._former = signal.signal(signal.SIGTERM, stop)

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGTERM, self._former)
