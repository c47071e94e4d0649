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


def fits(record: Record, columns: tuple[tuple[str, Kind], ...] | None) -> bool:
    """Whether a record can be laid out; one that cannot must not stop the export of the rest."""
    if columns is None or len(record.id) != 16:
        return False
    rows, width = len(record.rows), len(columns)
    for row in record.rows:
        if len(row) != width:
            return False
    for answer in record.answers:
        if len(answer.labels) != (0 if answer.error else rows):
            return False
        if len(answer.probabilities) % (4 * rows or 1):
            return False
    return True


class Rows:
    """One project's rows of one journal file, a row a model; `metas` may grow meanwhile."""

    def __init__(
        self,
        columns: tuple[tuple[str, Kind], ...],
        metas: Mapping[tuple[str, str, str], Meta],
    ) -> None:
        self._inputs = [(stored_name(name), kind) for name, kind in columns]
        self._metas = metas
        self._places: dict[tuple[str, str, str], dict[Any, int]] = {}
        self._frames: list[pl.DataFrame] = []
        self._piece = _Piece(0)
        self.count = 0
        """rows so far"""

    def add(self, record: Record) -> None:
        """Lay out a record that `fits`."""
        rows, piece = len(record.rows), self._piece
        for answer in record.answers if rows else ():
            width = len(answer.probabilities) // rows
            if width and width != piece.width:
                self._pack()
                piece = self._piece = _Piece(width)
            places = self._classes((record.project, answer.model, answer.version))
            piece.ids.append(record.id)
            piece.counts.append(rows)
            piece.times.append(record.time_ns // 1_000)
            piece.models.append(answer.model)
            piece.versions.append(answer.version)
            piece.environments.append(record.environment)
            piece.vias.append(record.via)
            piece.seconds.append(record.seconds)
            piece.errors.append(answer.error or None)
            piece.scored.append(width > 0)
            piece.scores.append(answer.probabilities or bytes(piece.width * rows))
            if answer.labels:
                for label in answer.labels:
                    piece.predictions.append(str(label))
                    piece.places.append(places.get(label, -1))
            else:
                piece.predictions.extend([None] * rows)
                piece.places.extend([-1] * rows)
            for row in record.rows:
                piece.values.extend(row)
            self.count += rows
        if len(piece.places) >= _PIECE:
            self._pack()

    def frame(self) -> "pl.DataFrame":
        """The segment's content; at least one row is expected."""
        import polars as pl

        self._pack()
        return pl.concat(self._frames)

    def _classes(self, key: tuple[str, str, str]) -> dict[Any, int]:
        """Where each class stands among the probabilities; empty when nothing explains them."""
        places = self._places.get(key)
        if places is None:
            meta = self._metas.get(key)
            places = {label: n for n, label in enumerate(meta.classes if meta else ())}
            self._places[key] = places
        return places

    def _pack(self) -> None:
        """Turn the rows held as objects into a frame."""
        if self._piece.places:
            self._frames.append(self._piece.frame(self._inputs))
            self._piece = _Piece(self._piece.width)


class _Piece:
    """Rows as flat lists of plain values: what holds no other objects costs no garbage collection.

    `ids` to `scores` have an item an answer, of `counts` rows; `predictions` and `places`, where
    the label's probability is among the scores (or -1), one a row; `values` one a row and column.
    `width` is that of a row's scores in bytes.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.ids: list[bytes] = []
        self.counts: list[int] = []
        self.times: list[int] = []
        self.models: list[str] = []
        self.versions: list[str] = []
        self.environments: list[str] = []
        self.vias: list[str] = []
        self.seconds: list[float] = []
        self.errors: list[str | None] = []
        self.scored: list[bool] = []
        self.scores: list[bytes] = []
        self.predictions: list[str | None] = []
        self.places: list[int] = []
        self.values: list[Any] = []

    def frame(self, inputs: Sequence[tuple[str, Kind]]) -> "pl.DataFrame":
        """The rows with the columns of a segment; `inputs` are stored names and kinds."""
        import numpy as np
        import polars as pl

        parts = ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))
        hexadecimal = pl.col("id").bin.encode("hex")
        types = own_schema()
        own = pl.DataFrame([
            pl.Series("id", self.ids, dtype=pl.Binary),
            pl.Series("time", self.times, dtype=types["time"]),
            pl.Series("model", self.models, dtype=pl.String),
            pl.Series("version", self.versions, dtype=pl.String),
            pl.Series("environment", self.environments, dtype=pl.String),
            pl.Series("via", self.vias, dtype=pl.String),
            pl.Series("seconds", self.seconds, dtype=types["seconds"]),
            pl.Series("error", self.errors, dtype=pl.String),
            pl.Series("scored", self.scored, dtype=pl.Boolean),
        ]).with_columns(
            hexadecimal.pipe(
                lambda text: pl.concat_str([text.str.slice(*part) for part in parts], separator="-")
            )
        )  # fmt: skip
        if len(self.places) != len(self.counts):
            counts = np.array(self.counts)
            own = own[np.repeat(np.arange(len(counts)), counts)].with_columns(
                rows=pl.Series(np.repeat(counts, counts)),
                row=pl.Series(
                    np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
                ),
            )
            numbered = pl.concat_str("id", pl.lit("."), "row")
            own = own.with_columns(id=pl.when(pl.col("rows") > 1).then(numbered).otherwise("id"))
        scored, places = own["scored"].to_numpy(), np.array(self.places)
        scores = np.frombuffer(b"".join(self.scores), "<f4").reshape(len(places), -1)
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
        own = own.with_columns(
            prediction=pl.Series(self.predictions, dtype=pl.String),
            probability=pl.when(pl.Series(known)).then(pl.Series(chosen)),
            probabilities=pl.when("scored").then(pl.lit(lists, pl.List(pl.Float32))),
        ).select(OWN_COLUMNS)
        return own.hstack([
            pl.Series(name, self.values[n :: len(inputs)], dtype=kinds[kind], strict=False)
            for n, (name, kind) in enumerate(inputs)
        ])  # fmt: skip
