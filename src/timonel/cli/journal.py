"""`timonel journal`: what was asked and answered, listed and exported."""

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timonel.cli.moments import MOMENT, moment, utc
from timonel.cli.output import Json, emit, settings, table
from timonel.cli.stores import open_database

if TYPE_CHECKING:
    from timonel.settings import Settings
    from timonel.stores.segments import Segments

__all__ = ["app"]

app = typer.Typer(
    help="Every answer that was given: list its segments, or write it to a file.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class _Format(StrEnum):
    txt = "txt"
    csv = "csv"
    parquet = "parquet"


@app.command("list")
def list_segments(json: Json = False) -> None:
    """List the journal's segments: project, rows, from when to when, and where they are.

    Example: [bold]timonel journal list --json[/bold]
    """
    options = settings()
    segments = _segments(options)
    found = segments.list() if segments else []
    if json:
        times = ("first_time", "last_time", "added")
        emit([{**vars(one), **{name: utc(getattr(one, name)) for name in times}} for one in found])
        return
    table(
        "segments",
        ["project", "rows", "first (UTC)", "last (UTC)", "key"],
        [
            [one.project, one.rows, utc(one.first_time), utc(one.last_time), one.object_key]
            for one in found
        ],
    )
    _say_waiting(options)


@app.command("export")
def export(
    project: Annotated[str, typer.Argument(help="The project whose answers are wanted.")],
    form: Annotated[
        _Format,
        typer.Option("--format", help="txt: a line a prediction; csv and parquet: inputs as well."),
    ] = _Format.txt,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; without it, standard output.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help=f"From this time on: {MOMENT}."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Before this time, written alike.")
    ] = None,
) -> None:
    """Write a project's answers to a file.

    Times without a zone are this machine's local time. A server exports its journal every few
    seconds; what is younger follows with the next export.

    Example: [bold]timonel journal export digits --format csv --out digits.csv[/bold]
    """
    import shutil
    import sys
    import tempfile

    from timonel.errors import BadRequest
    from timonel.journal.export import export_journal
    from timonel.stores.objects import ObjectStore

    if out is None and form is _Format.parquet:
        raise BadRequest(
            "Expected a file for Parquet, got standard output.",
            remedy=f"Add --out {project}.parquet",
        )
    if out is not None and out.is_dir():
        raise BadRequest(f"Expected --out to be a file, got the folder {out}.")
    start = None if since is None else moment("--since", since)
    end = None if until is None else moment("--until", until)
    options = settings()
    segments = _known(_segments(options), project)
    objects = ObjectStore.open(options.objects_url)
    with tempfile.TemporaryDirectory(prefix="timonel-") as folder:
        target = Path(folder, "rows") if out is None else out
        rows = export_journal(
            segments,
            objects,
            project=project,
            format=form.value,
            out=target,
            since=start,
            until=end,
        )
        if out is None:
            with target.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            typer.echo(f"{rows:,} rows to {out}")
    _say_waiting(options)


def _segments(options: "Settings") -> "Segments | None":
    """The segments, or None while there is no database yet."""
    from timonel.stores.segments import Segments

    database = open_database(options)
    return Segments(database) if database else None


def _known(segments: "Segments | None", project: str) -> "Segments":
    """The segments, when there are any of the project. Raises NotFound, naming those there are."""
    from timonel.errors import NotFound

    names = sorted({one.project for one in segments.list()}) if segments else []
    if segments is None or project not in names:
        raise NotFound(
            f"The journal has no answers of {project!r}; it has those of: "
            f"{', '.join(names) or 'no project yet'}.",
            remedy="Serve the project and ask it something: timonel serve NAME",
        )
    return segments


def _say_waiting(options: "Settings") -> None:
    """Tell of answers that no export has reached for a minute, as after a server was killed."""
    import time

    from timonel.journal.files import CLOSED, OPEN

    latest = time.time() - 60 - options.journal_rotate_seconds
    waiting = 0
    for path in options.journal_folder.glob("*"):
        with suppress(FileNotFoundError):  # exported this moment
            waiting += path.suffix in (CLOSED, OPEN) and path.stat().st_mtime < latest
    if waiting:
        typer.echo(
            f"{waiting} journal files wait for their export, and are not in this; the next server "
            "does it when it starts (timonel serve NAME).",
            err=True,
        )
