"""How records lie in a segment and in a text log."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timonel.journal.records import Meta, Record
from timonel.schema import Kind

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "OWN_COLUMNS",
    "Rows",
    "TextLines",
    "completed",
    "fits",
    "own_schema",
    "scan",
    "stored_name",
]

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
    "seconds",
    "error",
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
        "seconds": pl.Float32(),
    }
    return {name: types.get(name, pl.String()) for name in OWN_COLUMNS}


def stored_name(column: str) -> str:
    """An input's name in a segment: its own, or `input.<name>` where that is one of ours."""
    return f"input.{column}" if column in OWN_COLUMNS else column


def scan(files: Sequence[Path]) -> "pl.LazyFrame":
    """The rows of segments one after the other, with the columns of all of them.

    What segments of earlier releases lack is null.
    """
    import polars as pl

    alike = groupby(files, key=lambda file: list(pl.read_parquet_schema(file).items()))
    frames = [pl.scan_parquet(list(group), glob=False) for _, group in alike]
    return pl.concat([pl.LazyFrame(schema=own_schema()), *frames], how="diagonal_relaxed")


def completed(segment: "pl.DataFrame") -> "pl.DataFrame":
    """A segment with the columns that those of earlier releases lack, null."""
    import polars as pl

    return pl.concat([pl.DataFrame(schema=own_schema()), segment], how="diagonal_relaxed")


class TextLines:
    """Makes lines of a text log, such as `2026-11-20 13:04:05 - 7 - dev`, with times in `tz`.

    `tz` None is the server's local time.
    """

    def __init__(self, tz: tzinfo | None) -> None:
        self._tz = tz
        self._second = -1
        self._text = ""

    def __call__(self, time_ns: int, prediction: object, environment: str) -> str:
        """One line, without its end."""
        second = time_ns // 1_000_000_000
        if second != self._second:  # most are of the same second as the one before
            time = datetime.fromtimestamp(second, UTC).astimezone(self._tz)
            self._second, self._text = second, f"{time:%Y-%m-%d %H:%M:%S}"
        return f"{self._text} - {prediction} - {environment}"


def _text_of(identifier: bytes) -> str:
    """The UUID as text, as str(UUID(…)) says it in four times the time."""
    text = identifier.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def fits(record: Record, columns: tuple[tuple[str, Kind], ...] | None) -> bool:
    """Whether a record can be laid out; one that cannot must not stop the export of the rest."""
    rows = len(record.rows)
    return (
        columns is not None
        and len(record.id) == 16
        and all(len(row) == len(columns) for row in record.rows)
        and all(
            len(answer.labels) == (0 if answer.error else rows)
            and len(answer.probabilities) % (4 * rows or 1) == 0
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
        self._scores: list[bytes] = []
        self._width = 0  # bytes of scores a row, in what is not yet a frame
        self.count = 0

    def add(self, record: Record) -> None:
        """Lay out a record that `fits`."""
        rows, name = len(record.rows), _text_of(record.id)
        for answer in record.answers if rows else ():
            width = len(answer.probabilities) // rows
            if width and width != self._width:
                self._pack()
                self._width = width
            places = self._classes((record.project, answer.model, answer.version))
            for n, label in enumerate(answer.labels or [None] * rows):
                self._own.append((
                    name if rows == 1 else f"{name}.{n}",
                    record.time_ns // 1_000,
                    answer.model,
                    answer.version,
                    None if label is None else str(label),
                    places.get(label, -1),  # its probability is looked up for all rows at once
                    width > 0,
                    record.environment,
                    record.via,
                    record.seconds,
                    answer.error or None,
                ))  # fmt: skip
            self._scores.append(answer.probabilities or bytes(self._width * rows))
            self._values.extend(record.rows)
            self.count += rows
        if len(self._own) >= _PIECE:
            self._pack()

    def frame(self) -> "pl.DataFrame":
        """The segment's content; at least one row is expected."""
        import polars as pl

        self._pack()
        return pl.concat(self._frames)

    def _classes(self, key: tuple[str, str, str]) -> dict[Any, int]:
        """Where each class stands among the probabilities; empty when nothing explains them."""
        if key not in self._places:
            meta = self._metas.get(key)
            self._places[key] = {label: n for n, label in enumerate(meta.classes if meta else ())}
        return self._places[key]

    def _pack(self) -> None:
        """Turn the rows held as objects into a frame."""
        import numpy as np
        import polars as pl

        if not self._own:
            return
        own = zip(own_schema().items(), zip(*self._own, strict=True), strict=True)
        held = {name: (kind, values) for (name, kind), values in own}
        places, scored = (np.array(held.pop(name)[1]) for name in ("probability", "probabilities"))
        scores = np.frombuffer(b"".join(self._scores), "<f4").reshape(len(places), -1)
        known = scored & (places >= 0) & (places < scores.shape[1])
        chosen = np.zeros(len(places), np.float32)
        chosen[known] = scores[known, places[known]]
        lists = pl.Series(scores).cast(pl.List(pl.Float32)) if scores.shape[1] else None
        kinds: dict[str, Any] = {
            "number": pl.Float64,
            "integer": pl.Int64,
            "boolean": pl.Boolean,
            "category": pl.String,
            "image": pl.Binary,
        }
        inputs = zip(self._inputs, zip(*self._values, strict=True), strict=True)
        series = [
            *(pl.Series(name, values, dtype=kind) for name, (kind, values) in held.items()),
            *(
                pl.Series(name, values, dtype=kinds[kind], strict=False)
                for (name, kind), values in inputs
            ),
        ]
        frame = pl.DataFrame(series).with_columns(
            probability=pl.when(pl.Series(known)).then(pl.Series(chosen)),
            probabilities=pl.when(pl.Series(scored)).then(pl.lit(lists, pl.List(pl.Float32))),
        )
        self._frames.append(frame.select(*OWN_COLUMNS, *(name for name, _ in self._inputs)))
        self._own, self._values, self._scores = [], [], []
