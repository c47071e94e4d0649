"""Segments with their labels: a row of a prediction finds its truth, however late that was said."""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from timonel.journal.layout import OWN_COLUMNS, completed
from timonel.journal.records import SHADOW
from timonel.monitoring.traffic import with_rows
from timonel.stores.labels import Label, Labels
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

if TYPE_CHECKING:
    import polars as pl

__all__ = ["INPUT", "joined"]

INPUT = "input."


def joined(
    segments: Segments,
    labels: Labels,
    objects: ObjectStore,
    project: str,
    ids: tuple[str, str],
    columns: Callable[[str], bool] = lambda name: True,
) -> "Iterator[pl.DataFrame]":
    """The rows that callers were given, a segment at a time, in order of the segments' times.

    `ids` are the lowest and the highest prediction id; `columns` says which of a segment's are
    read. Each frame has `request`, `row` (from 0) and `label`, null where none was said; inputs
    are called `input.<name>`.

    Raises:
        StoreError: a store does not answer.
    """
    import polars as pl

    for segment in segments.holding(project, *ids):
        content = BytesIO(objects.get(segment.object_key))
        names = [name for name in pl.read_parquet_schema(content) if columns(name)]
        frame = completed(pl.read_parquet(content, columns=names))
        # An input may be called as one of the columns that are added.
        inputs = {name: stored for name in frame.columns if (stored := _renamed(name)) != name}
        frame = frame.rename(inputs)
        rows = with_rows(frame.filter(pl.col("via").ne_missing(SHADOW)))
        rows = rows.filter(pl.col("request").is_between(pl.lit(ids[0]), pl.lit(ids[1])))
        first, last = max(ids[0], segment.first_id), min(ids[1], segment.last_id)
        truth = _frame(labels.between(project, first, last))
        yield rows.join(truth, ["request", "row"], how="left", maintain_order="left")


def _renamed(column: str) -> str:
    return column if column in OWN_COLUMNS or column.startswith(INPUT) else f"{INPUT}{column}"


def _frame(labels: Sequence[Label]) -> "pl.DataFrame":
    import polars as pl

    return pl.DataFrame(
        {
            "request": [label.prediction for label in labels],
            "row": [label.row for label in labels],
            "label": [label.label for label in labels],
        },
        schema={"request": pl.String, "row": pl.Int64, "label": pl.String},
    )
