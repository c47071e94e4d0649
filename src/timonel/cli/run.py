"""`timonel run`: the pipeline of one project, once."""

import getpass
import signal
from types import FrameType
from typing import Annotated

import typer

from timonel.cli.moments import MOMENT, moment
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
    with_feedback: Annotated[
        bool,
        typer.Option(
            "--with-feedback",
            help="Train and judge on labelled live rows too, as the project's Retrain says.",
        ),
    ] = False,
    feedback_since: Annotated[
        str | None, typer.Option(help=f"Live rows from this time on: {MOMENT}.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option(help="The run's id, given by whoever waits for it.", hidden=True)
    ] = None,
    who: Annotated[
        str | None, typer.Option(help="Who began it.", show_default="this user", hidden=True)
    ] = None,
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

    since = None if feedback_since is None else moment("--feedback-since", feedback_since)
    given = settings()
    definition = load_project(project)
    with _Stopping(), showing(as_json=json) as tell:
        outcome = run_project(
            definition,
            given,
            who=who or getpass.getuser(),
            until=until,
            models=model or (),
            seed=seed,
            fresh=fresh,
            with_feedback=with_feedback or feedback_since is not None,
            feedback_since=since,
            tell=tell,
            ids=None if run_id is None else lambda: run_id,
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
