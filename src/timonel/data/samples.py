"""A few rows of a project to try it with: pictures as files, anything else as JSON values."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timonel.errors import BadRequest
from timonel.project import Project, Read

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Sample", "as_json", "rows_of", "write_pictures"]

_SIDE = 280  # pixels; as large as a picture that somebody took


@dataclass(frozen=True)
class Sample:
    """Rows drawn from a project's source, and where that got them."""

    frame: "pl.DataFrame"
    origin: str
    notes: tuple[str, ...]


def rows_of(project: Project, read: Read, count: int, seed: int | None = None) -> Sample:
    """`count` random rows that are fit to predict, in the order drawn; `seed` repeats a draw.

    Where the source says which rows are for testing, only those are drawn.

    Raises:
        SourceError: the source cannot be read.
        BadRequest: more rows are asked for than there are.
    """
    import polars as pl

    from timonel.data.quality import examine

    rows = project.source.read(read)
    frame, _ = project.prepared(rows.frame)
    frame = examine(frame, project).frame
    if project.split.given:
        frame = frame.filter(pl.col(project.split.given) == "test")
    if not 1 <= count <= frame.height:
        raise BadRequest(f"Expected 1 to {frame.height:,} rows, got {count:,}.")
    return Sample(frame.sample(count, shuffle=True, seed=seed), rows.origin, rows.notes)


def write_pictures(project: Project, sample: Sample, folder: Path) -> Iterator[Path]:
    """Write each row's picture as `<feature>_<n>.jpg`, dark on white, with their `labels.csv`.

    Raises:
        BadRequest: the project has no pictures, or the folder cannot be written.
    """
    from PIL import Image

    column = project.columns[0]
    if column.image is None:
        raise BadRequest(f"Project {project.name} has no pictures: leave out --out.")
    noun = project.features.__name__.lower()
    labels = io.StringIO()
    table = csv.writer(labels, lineterminator="\n")
    table.writerow(["file", project.target])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, row in enumerate(sample.frame.iter_rows(named=True), 1):
            size = (column.image.width, column.image.height)
            ink = Image.frombytes("L", size, row[column.name])
            paper = ink.point(lambda value: 255 - value) if column.image.ink == "light" else ink
            path = folder / f"{noun}_{number}.jpg"
            side = (_SIDE, _SIDE * size[1] // size[0])
            paper.resize(side, Image.Resampling.BICUBIC).save(path, quality=90)
            table.writerow([path.name, row[project.target]])
            yield path
        (folder / "labels.csv").write_text(labels.getvalue())
    except OSError as error:
        raise BadRequest(
            f"Expected a folder to write at {folder}, got: {error.strerror}."
        ) from None


def as_json(project: Project, sample: Sample) -> Iterator[dict[str, Any]]:
    """Each row's features, as a request would send them."""
    names = [column.name for column in project.columns]
    for row in sample.frame.select(names).iter_rows(named=True):
        yield {
            name: list(value) if isinstance(value, bytes) else value for name, value in row.items()
        }
