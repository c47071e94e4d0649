"""What a simulation asks: rows that no version was trained on, as the bodies of requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from timonel.errors import BadRequest
from timonel.project import Project, Read
from timonel.serving.rows import first_alias

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Case", "Held", "cases_of", "held_out"]

_MOST = 5_000  # rows; there are as many bodies in memory, twice with a drift


@dataclass(frozen=True)
class Case:
    """One request's body (JSON), and the true label of its row as JSON takes it."""

    body: bytes
    label: int | str


@dataclass(frozen=True)
class Held:
    """Held-out rows in random order, where they came from, and what is to be known of that."""

    frame: "pl.DataFrame"
    origin: str
    notes: tuple[str, ...]


def held_out(project: Project, read: Read, *, seed: int) -> Held:
    """The test side of the project's split: up to 5,000 rows that are fit to predict.

    Raises:
        SourceError: the source cannot be read.
        BadRequest: the split leaves no test rows.
    """
    import polars as pl

    from timonel.data.quality import examine
    from timonel.data.split import COLUMN, assign

    rows = project.source.read(read)
    frame, _ = project.prepared(rows.frame)
    frame = examine(frame, project).frame
    sides = assign(frame, project.split, project.columns, project.target)
    test = sides.filter(pl.col(COLUMN) == "test").drop(COLUMN)
    if test.is_empty():
        raise BadRequest(
            f"Expected rows of {project.name} that no version was trained on, got none.",
            remedy="Give its Split(test=…) a share.",
        )
    drawn = test.sample(min(test.height, _MOST), shuffle=True, seed=seed)
    return Held(drawn, rows.origin, rows.notes)


def cases_of(project: Project, frame: "pl.DataFrame") -> Sequence[Case]:
    """Each row as the body that the project's contract takes."""
    import msgspec

    names = {column.name: first_alias(project.features, column.name) for column in project.columns}
    contract = project.contract
    found = []
    for row in frame.select(*names, project.target).iter_rows(named=True):
        body: Any = {
            wire: list(row[name]) if isinstance(row[name], bytes) else row[name]
            for name, wire in names.items()
        }
        if contract.under:
            body = {contract.under: body}
        if contract.rows == "many":
            body = [body]
        label = row[project.target]
        found.append(
            Case(msgspec.json.encode(body), label if isinstance(label, int) else str(label))
        )
    return found
