"""`timonel sample`: a few real rows or pictures to try a project with."""

from pathlib import Path
from typing import Annotated

import typer

from timonel.cli.output import emit, needs, settings

__all__ = ["sample"]


def sample(
    project: Annotated[str, typer.Argument(help="A bundled name, or a path to a Python file.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Folder for pictures: digit_1.jpg, … and labels.csv.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draw the same rows again.")] = None,
) -> None:
    """Draw random rows of a project's source: pictures into a folder, or rows as JSON lines.

    Example: timonel sample digits --n 20 --out pictures
    """
    from timonel.data.samples import as_json, rows_of, write_pictures
    from timonel.project import Read, load_project

    needs("timonel sample", "train")
    given = settings()
    definition = load_project(project)
    folder = given.data.expanduser() if given.data else None
    read = Read(folder=folder, cache=given.cache_folder, database=given.database_url)
    drawn = rows_of(definition, read, n, seed)
    for note in drawn.notes:
        typer.echo(note, err=True)
    if out is None:
        for row in as_json(definition, drawn):
            emit(row)
        return
    for path in write_pictures(definition, drawn, out):
        typer.echo(path)
