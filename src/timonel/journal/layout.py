"""How records lie in a segment and in a text log."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from io import BytesIO
from typing import TYPE_CHECKING, Any
from uuid import UUID

from timonel.journal.records import Meta, Record
from timonel.schema import Kind

if TYPE_CHECKING:
    import polars as pl

__all__ = ["OWN_COLUMNS", "Rows", "fits", "own_schema", "stored_name", "text_line"]

OWN_COLUMNS = (
    "id",
    "time",
    "model",
    "version",
    "prediction",
    "probability",
    "probabilities",
    "environment",
    "via",
)
"""A segment's columns before those of the inputs."""

_PIECE = 10_000  # rows held as Python objects at a time


def own_schema() -> "dict[str, pl.DataType]":
    """The names and types of `OWN_COLUMNS`."""
    import polars as pl

    types = {
        "time": pl.Datetime("us", "UTC"),
        "probability": pl.Float32(),
        "probabilities": pl.List(pl.Float32),
    }
    return {name: types.get(name, pl.String()) for name in OWN_COLUMNS}


def stored_name(column: str) -> str:
    """An input's name in a segment: its own, or `input.<name>` where that is one of ours."""
    return f"input.{column}" if column in OWN_COLUMNS else column


def text_line(time_ns: int, prediction: object, environment: str, tz: tzinfo | None) -> str:
    """A line of the text log, such as `2026-11-20 13:04:05 - 7 - dev`."""
    time = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).astimezone(tz)
    return f"{time:%Y-%m-%d %H:%M:%S} - {prediction} - {environment}\n"


def fits(record: Record, columns: tuple[tuple[str, Kind], ...] | None) -> bool:
    """Whether a record can be laid out; one that cannot must not stop the export of the rest."""
    rows = len(record.rows)
    return (
        columns is not None
        and len(record.id) == 16
        and all(len(row) == len(columns) for row in record.rows)
        and all(
            len(answer.labels) == rows and (len(answer.probabilities) % (4 * rows or 1) == 0)
            for answer in record.answers
        )
    )


class Rows:
    """One project's rows of one journal file, a row a model; `metas` may grow meanwhile.

    `ids` and `times` (ns) are the lowest and the highest, when `count` is not 0.
    """

    def __init__(
        self,
        columns: tuple[tuple[str, Kind], ...],
        metas: Mapping[tuple[str, str, str], Meta],
    ) -> None:
        self._inputs = [(stored_name(name), kind) for name, kind in columns]
        self._metas = metas
        self._places: dict[tuple[str, str, str], dict[Any, int]] = {}
        self._frames: list[pl.DataFrame] = []
        self._own: list[tuple[Any, ...]] = []
        self._values: list[tuple[Any, ...]] = []
        self.count = 0
        self.ids: tuple[str, str] = ("", "")
        self.times: tuple[int, int] = (0, 0)

    def add(self, record: Record) -> None:
        """Lay out a record that `fits`."""
        import numpy as np

        rows, name = len(record.rows), str(UUID(bytes=record.id))
        for answer in record.answers if rows else ():
            places = self._classes((record.project, answer.model, answer.version))
            scores: Sequence[list[float] | None] = [None] * rows
            if answer.probabilities:
                scores = np.frombuffer(answer.probabilities, "<f4").reshape(rows, -1).tolist()
            for n, label in enumerate(answer.labels):
                row, place = scores[n], places.get(label)
                self._own.append((
                    name if rows == 1 else f"{name}.{n}",
                    record.time_ns // 1_000,
                    answer.model,
                    answer.version,
                    str(label),
                    row[place] if row and place is not None and place < len(row) else None,
                    row,
                    record.environment,
                    record.via,
                ))  # fmt: skip
            self._values.extend(record.rows)
            if not self.count:
                self.ids, self.times = (name, name), (record.time_ns, record.time_ns)
            self.ids = min(self.ids[0], name), max(self.ids[1], name)
            self.times = min(self.times[0], record.time_ns), max(self.times[1], record.time_ns)
            self.count += rows
        if len(self._own) >= _PIECE:
            self._frame()

    def parquet(self) -> bytes:
        """The segment; the same records give the same bytes. At least one row is expected."""
        import polars as pl

        self._frame()
        file = BytesIO()
        pl.concat(self._frames).write_parquet(file, compression="zstd")
        return file.getvalue()

    def _classes(self, key: tuple[str, str, str]) -> dict[Any, int]:
        """Where each class stands among the probabilities; empty when nothing explains them."""
        if key not in self._places:
            meta = self._metas.get(key)
            self._places[key] = {label: n for n, label in enumerate(meta.classes if meta else ())}
        return self._places[key]

    def _frame(self) -> None:
        """Turn the rows held as objects into a frame."""
        import polars as pl

        if not self._own:
            return
        kinds: dict[str, Any] = {
            "number": pl.Float64,
            "integer": pl.Int64,
            "boolean": pl.Boolean,
            "category": pl.String,
            "image": pl.Binary,
        }
        own = zip(own_schema().items(), zip(*self._own, strict=True), strict=True)
        series = [pl.Series(name, values, dtype=kind) for (name, kind), values in own]
        inputs = zip(self._inputs, zip(*self._values, strict=True), strict=True)
        series += [
            pl.Series(name, values, dtype=kinds[kind], strict=False)
            for (name, kind), values in inputs
        ]
        self._frames.append(pl.DataFrame(series))
        self._own, self._values = [], []
