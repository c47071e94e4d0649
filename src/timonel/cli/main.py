"""`timonel`: the commands, and what happens when one fails.

Command modules import what they need inside their functions, so that `--help` answers at once.
"""

import sys
from typing import Annotated

import typer

from timonel.cli import (
    accuracy,
    adopt,
    backup,
    check,
    doctor,
    drift,
    events,
    feedback,
    forget,
    history,
    journal,
    keys,
    models,
    new,
    predict,
    promote,
    restart,
    rollout,
    run,
    sample,
    score,
    serve,
    simulate,
)
from timonel.cli.output import fail

__all__ = ["app", "main"]

app = typer.Typer(
    name="timonel",
    help="Takes a machine-learning model from data to production and keeps it on course.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: timonel up digits penguins",
)
app.command("up")(serve.up)
app.command("run")(run.run)
app.command("serve")(serve.serve)
app.command("predict")(predict.predict)
app.command("score")(score.score)
app.add_typer(models.app, name="models")
app.command("promote")(promote.promote)
app.command("rollback")(promote.rollback)
app.add_typer(rollout.app, name="rollout")
app.command("drift")(drift.drift)
app.add_typer(feedback.app, name="feedback")
app.command("accuracy")(accuracy.accuracy)
app.command("restart")(restart.restart)
app.command("adopt")(adopt.adopt)
app.command("sample")(sample.sample)
app.command("simulate")(simulate.simulate)
app.command("check")(check.check)
app.command("new")(new.new)
journal.app.command("prune")(forget.prune)
journal.app.command("delete")(forget.delete)
app.add_typer(journal.app, name="journal")
app.command("events")(events.events)
app.command("history")(history.history)
app.add_typer(keys.app, name="keys")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("doctor")(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"timonel {version('timonel')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Settings come from TIMONEL_* variables; options override them."""


def main() -> None:
    """Run a command; a user's mistake is a sentence on stderr and an exit code, no traceback."""
    from timonel.errors import TimonelError

    try:
        app()
    except TimonelError as error:
        fail(error, as_json="--json" in sys.argv)
