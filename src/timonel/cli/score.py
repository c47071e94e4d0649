"""`timonel score`: a file's rows with their predictions, into another file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from timonel.cli.output import Json, emit, settings

__all__ = ["score"]


class Bad(StrEnum):
    """What becomes of rows that do not fit."""

    refuse = "refuse"
    skip = "skip"
    keep = "keep"


def score(
    model: Annotated[str, typer.Argument(help="PROJECT, PROJECT/MODEL or PROJECT/MODEL@N.")],
    rows: Annotated[
        Path, typer.Argument(help="A .csv, .parquet, .arrow or .jsonl file; text may be .gz.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to; its suffix says the form."),
    ] = None,
    bad: Annotated[
        Bad,
        typer.Option(
            help="Rows that do not fit: refuse all and write nothing; skip them into a file beside "
            "the output; or keep them without a prediction."
        ),
    ] = Bad.refuse,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="A column with the probability of each class.")
    ] = False,
    only: Annotated[
        bool, typer.Option("--only", help="Write the predictions without the file's columns.")
    ] = False,
    json: Json = False,
) -> None:
    """Predict every row of a file; nothing is written to the journal.

    The output appears when it is whole, by default beside the input: rows.csv → rows.scored.csv.

    Example: timonel score penguins rows.parquet --output answers.csv
    """
    from timonel.data.chunks import form_of
    from timonel.serving.local import load

    form_of(rows)
    stem, dot, suffix = rows.name.partition(".")
    target = output or rows.with_name(f"{stem}.scored{dot}{suffix}")
    form_of(target)
    scorer = load(model, settings()).scorer(probabilities=probabilities, only=only)
    with _showing(rows.name, quiet=json) as report:
        done = scorer.file(rows, target, bad=bad.value, report=report)
    if json:
        emit(done.to_json())
        return
    typer.echo(
        f"{done.output}: {done.rows:,} rows by {done.version} in {done.seconds:.1f} s "
        f"({done.speed:,.0f} a second, {done.engine})"
    )
    if done.refused:
        where = f"see {done.rejected}" if done.rejected else "they have no prediction"
        typer.echo(f"{done.refused:,} rows did not fit: {where}")
    if done.note:
        typer.echo(done.note)


@contextmanager
def _showing(name: str, *, quiet: bool) -> Iterator[Callable[[float, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stdout.isatty():
        yield lambda share, rows: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]} rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(name, total=1.0, rows="0")
        yield lambda share, rows: progress.update(task, completed=share, rows=f"{rows:,}")
