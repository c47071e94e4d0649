"""`timonel feedback`: what was true of predictions, and the labelled rows as a file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from timonel.cli.moments import MOMENT, moment
from timonel.cli.output import Json, emit, settings
from timonel.cli.remote import send
from timonel.cli.stores import open_database
from timonel.errors import BadRequest, NotFound, StoreError

if TYPE_CHECKING:
    from timonel.project import Project
    from timonel.settings import Settings
    from timonel.signature import Label
    from timonel.stores.database import Database

__all__ = ["app"]

_MOST_ROWS = 10_000_000


class _Feedback(TyperGroup):
    """`timonel feedback penguins truth.csv` is `timonel feedback add penguins truth.csv`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["add", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Feedback,
    help="True labels of predictions: say them, and collect the labelled rows.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Named = Annotated[str, typer.Argument(metavar="PROJECT", help="The project that was asked.")]


@app.command("add")
def add(
    project: Named,
    file: Annotated[
        Path | None,
        typer.Argument(help="A CSV with columns id and label, and row if ids name none; or JSON."),
    ] = None,
    identifier: Annotated[
        str | None, typer.Option("--id", help="One prediction's id, or ID.n for its row n.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="What was true of it.")] = None,
    url: Annotated[
        str | None, typer.Option(help="A server to tell it, instead of this home's database.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar="TIMONEL_KEY", help="The key for that server.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what was true of predictions, by their ids; the same again changes nothing.

    Ids are those of X-Prediction-Id, of `id` in replies, or of the journal. Which of them are known
    is seen when labels are joined: timonel accuracy PROJECT. The word `add` may be left out.

    Examples: timonel feedback add penguins --id 01a1f957-f998-7000-84db-70c947e9c63e --label 0

    timonel feedback penguins truth.csv
    """
    body, is_json = _body(file, identifier, label)
    if url is not None:
        _tell(send(project, body, url, key, is_json=is_json), as_json=json)
        return
    _tell(_kept(project, body, is_json=is_json), as_json=json)


@app.command("collect")
def collect(
    project: Named,
    out: Annotated[Path, typer.Option(help="The file to write: .parquet, or .csv without images.")],
    refused: Annotated[
        Path | None, typer.Option(help="A file for rows that are not fit, with the reason.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help=f"Of predictions from this time on: {MOMENT}."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Before this time, written alike.")
    ] = None,
    json: Json = False,
) -> None:
    """Write live rows whose label is known to a file, as the project's source would give them.

    They pass the rules that the source's rows pass. The dataset is kept in the object store too,
    under the hash of its content.

    Example: [bold]timonel feedback collect penguins --out labelled.parquet[/bold]
    """
    import math

    from timonel.monitoring.collect import collected
    from timonel.project import load_project
    from timonel.stores.labels import Labels
    from timonel.stores.objects import ObjectStore
    from timonel.stores.segments import Segments

    begin = 0.0 if since is None else moment("--since", since)
    end = math.inf if until is None else moment("--until", until)
    _check_file(out)
    if refused is not None:
        _check_file(refused)
    options, definition = settings(), load_project(project)
    database = _database(options, definition.name)
    found = collected(
        definition,
        Segments(database),
        Labels(database),
        ObjectStore.open(options.objects_url),
        since=begin,
        until=end,
        classes=_classes(definition, database, options),
    )
    _write(found.frame, out)
    if refused is not None:
        _write(found.refused, refused)
    if json:
        emit(
            {
                "rows": found.rows,
                "dataset": found.key,
                "refused": found.refused.height,
                "refused_dataset": found.refused_key,
                "labels": found.labels,
                "unknown": found.unknown,
                "report": found.report.to_json(),
            }
        )
        return
    typer.echo(f"{found.report.sentence()}")
    typer.echo(f"{found.rows:,} rows to {out} (dataset {found.key})")
    if found.unknown:
        typer.echo(f"{found.unknown:,} labels name no prediction of the journal.", err=True)


def _body(file: Path | None, identifier: str | None, label: str | None) -> tuple[bytes, bool]:
    """What is said, and whether it is JSON rather than CSV."""
    if (file is None) == (identifier is None) or (identifier is None) != (label is None):
        raise BadRequest(
            "Expected a file, or one prediction with its label.",
            remedy="Name a CSV file, or write --id ID --label LABEL.",
        )
    if file is None:
        return json.dumps({"id": identifier, "label": label}).encode(), True
    try:
        return file.read_bytes(), file.suffix.lower() == ".json"
    except OSError as error:
        raise NotFound(f"{file}: expected a file of labels, got: {error.strerror}.") from None


def _kept(project: str, body: bytes, *, is_json: bool) -> dict[str, Any]:
    """Put labels into this home's database."""
    import time
    import uuid

    from timonel.journal.feedback import FeedbackReader
    from timonel.project import load_project
    from timonel.stores.database import Database
    from timonel.stores.labels import Label as Kept
    from timonel.stores.labels import Labels

    options, definition = settings(), load_project(project)
    classes = _classes(definition, _database(options, definition.name), options)
    reader = FeedbackReader(definition.name, max_rows=_MOST_ROWS, max_table_rows=_MOST_ROWS)
    read = reader.json if is_json else reader.csv
    said, rows = read(body, classes, time.time_ns())
    changed = Labels(Database.open(options.database_url)).put(
        Kept(one.project, str(uuid.UUID(bytes=one.id)), one.row, one.label, one.time_ns / 1e9)
        for one in said
    )
    return {"received": rows, "recorded": len(said), "changed": changed}


def _database(options: "Settings", project: str) -> "Database":
    """The home's database. Raises NotFound while there is none."""
    database = open_database(options)
    if database is None:
        raise NotFound(
            f"There are no predictions in {options.root} yet.",
            remedy=f"Serve the project and ask it something: timonel serve {project}",
        )
    return database


def _classes(project: "Project", database: "Database", options: "Settings") -> "tuple[Label, ...]":
    """The labels that may be said: those declared, or those that the champions answer."""
    from timonel.signature import Signature
    from timonel.stores.artifacts import fetch_version
    from timonel.stores.objects import ObjectStore
    from timonel.stores.versions import Versions

    if project.labels:
        return tuple(project.labels)
    objects = ObjectStore.open(options.objects_url)
    found: dict[Label, None] = {}
    for version in Versions(database).champions(project.name):
        folder = fetch_version(version.digest, objects, options.serving_folder)
        signature = Signature.from_json((folder / "signature.json").read_bytes())
        found |= dict.fromkeys(signature.classes)
    if not found:
        raise NotFound(
            f"The classes of {project.name} are not known: it declares none and has no champion.",
            remedy=f"Train one with: timonel run {project.name}",
        )
    return tuple(found)


def _check_file(path: Path) -> None:
    if path.suffix.lower() not in (".parquet", ".csv") or path.is_dir():
        raise BadRequest(f"Expected a file called ….parquet or ….csv, got {path}.")


def _write(frame: Any, path: Path) -> None:
    import polars as pl

    if path.suffix.lower() == ".csv" and pl.Binary in frame.dtypes:
        raise BadRequest(f"Expected a .parquet file for images, got {path}.")
    try:
        (frame.write_csv if path.suffix.lower() == ".csv" else frame.write_parquet)(path)
    except OSError as error:
        raise StoreError(f"{path}: expected a place to write to, got: {error}.") from None


def _tell(said: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(said)
        return
    text = f"{said['recorded']:,} labels of {said['received']:,} rows are recorded"
    if "changed" in said:
        text += f", {said['changed']:,} of them new or another than before"
    typer.echo(f"{text}.")
