"""Sketches: what a window's columns and answers were like, in counts that can be added up.

Memory is bounded by columns, not rows. Sketches of any parts of the rows, added in any order, are
equal to the sketch of all of them: they hold whole numbers, minima and maxima only.
"""

import hashlib
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec
import numpy as np

from timonel.errors import ArtifactError
from timonel.monitoring.measures import SEASONS, Measure, season_of, series_of
from timonel.monitoring.scales import UNIT, Bins, Scale, Unseen, counts_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FORMAT", "Shape", "Sketch", "Tally", "sketch_of_frame", "sketch_of_parquet"]

FORMAT = 1

_BATCH = 65_536  # rows read at a time


@dataclass(frozen=True)
class Shape:
    """The measures of a version and the scales that its reference gave them."""

    measures: tuple[Measure, ...]
    scales: tuple[Scale, ...]
    dated: str | None = None

    @cached_property
    def digest(self) -> str:
        """What names it: sketches of one shape can be added up, and no others."""
        content = msgspec.msgpack.encode((self.measures, self.scales, self.dated))
        return hashlib.sha256(content).hexdigest()[:16]

    def items(self) -> Iterable[tuple[Measure, Scale]]:
        """Each measure with its scale."""
        return zip(self.measures, self.scales, strict=True)


@dataclass
class Tally:
    """One measure's counts (seasons, cells) as int64, and what the cells do not say.

    `under` and `over` sum up how far values lie beyond the scale's ends, in `UNIT`s of a bin.
    """

    counts: np.ndarray
    under: int = 0
    over: int = 0
    low: float | None = None
    high: float | None = None
    unseen: Unseen = field(default_factory=Unseen)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.counts + other.counts,
            self.under + other.under,
            self.over + other.over,
            _least(self.low, other.low),
            _most(self.high, other.high),
            self.unseen.add(other.unseen.counts),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tally):
            return NotImplemented
        mine, theirs = ({**vars(tally), "counts": None} for tally in (self, other))
        return mine == theirs and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]

    @property
    def missing(self) -> int:
        """How many values were missing."""
        return int(self.counts[:, -1].sum())

    @property
    def rows(self) -> int:
        """How many rows were counted, missing values included."""
        return int(self.counts.sum())

    @property
    def cells(self) -> np.ndarray:
        """The counts of all seasons together, without the missing ones, as int64 (cells - 1,)."""
        total: np.ndarray = self.counts.sum(axis=0)[:-1]
        return total

    def mean(self, bins: Bins) -> float | None:
        """The mean of a number's values, to about a thousandth of a bin; None without any."""
        cells = self.cells
        if not cells.sum():
            return None
        inset = 0.5 if bins.whole else 0.0
        middle = (np.arange(bins.size) + 0.5) @ cells[:-2]
        below = inset * cells[-2] - self.under / UNIT
        above = (bins.size - inset) * cells[-1] + self.over / UNIT
        return bins.edge(float(middle + below + above) / int(cells.sum()))


@dataclass
class Sketch:
    """The tallies of one window by measure; `rows` of it, from `since` to `until` (s since 1970).

    A measure that the rows have no column for, such as the answers of a dataset, has none.
    """

    shape: Shape
    rows: int = 0
    since: float | None = None
    until: float | None = None
    tallies: dict[str, Tally] = field(default_factory=dict)

    def __add__(self, other: "Sketch") -> "Sketch":
        """Both together; raises ArtifactError when they are of different shapes."""
        if self.shape.digest != other.shape.digest:
            raise ArtifactError(
                f"Expected sketches of one shape, got {self.shape.digest} and "
                f"{other.shape.digest}.",
                remedy="Sketch the window anew with the version that it is compared with.",
            )
        tallies = dict(self.tallies)
        for name, tally in other.tallies.items():
            tallies[name] = tallies[name] + tally if name in tallies else tally
        return Sketch(
            self.shape,
            self.rows + other.rows,
            _least(self.since, other.since),
            _most(self.until, other.until),
            tallies,
        )

    def to_bytes(self) -> bytes:
        """It without its shape, which `from_bytes` is given."""
        return msgspec.msgpack.encode(
            _Stored(
                FORMAT,
                self.shape.digest,
                self.rows,
                self.since,
                self.until,
                {name: _packed(tally) for name, tally in sorted(self.tallies.items())},
            )
        )

    @classmethod
    def from_bytes(cls, content: bytes, shape: Shape) -> "Sketch":
        """What `to_bytes` gave.

        Raises:
            ArtifactError: it is no sketch of this shape, or of a newer format.
        """
        try:
            stored = msgspec.msgpack.decode(content, type=_Stored)
        except msgspec.MsgspecError as error:
            raise ArtifactError(f"Expected a sketch, got: {error}.") from None
        if stored.format > FORMAT or stored.shape != shape.digest:
            raise ArtifactError(
                f"Expected a sketch of format {FORMAT} and shape {shape.digest}, got "
                f"{stored.format} and {stored.shape}.",
                remedy="Sketch the window anew with the version that it is compared with.",
            )
        tallies = {name: _unpacked(packed) for name, packed in stored.tallies.items()}
        return cls(shape, stored.rows, stored.since, stored.until, tallies)


class _Packed(msgspec.Struct, array_like=True):
    seasons: int
    counts: bytes
    under: str  # whole numbers of any size
    over: str
    low: float | None
    high: float | None
    unseen: dict[str, int]


class _Stored(msgspec.Struct):
    format: int
    shape: str
    rows: int
    since: float | None
    until: float | None
    tallies: dict[str, _Packed]


def _packed(tally: Tally) -> _Packed:
    counts = zlib.compress(tally.counts.astype("<i8").tobytes(), 1)
    ends = (str(tally.under), str(tally.over), tally.low, tally.high)
    return _Packed(len(tally.counts), counts, *ends, dict(sorted(tally.unseen.counts.items())))


def _unpacked(packed: _Packed) -> Tally:
    counts = np.frombuffer(zlib.decompress(packed.counts), "<i8").astype(np.int64)
    return Tally(
        counts.reshape(packed.seasons, -1),
        int(packed.under),
        int(packed.over),
        packed.low,
        packed.high,
        Unseen(packed.unseen),
    )


def sketch_of_frame(frame: "pl.DataFrame", shape: Shape) -> Sketch:
    """The sketch of a segment's or a dataset's rows."""
    import polars as pl

    sketch = Sketch(shape, frame.height)
    if not frame.height:
        return sketch
    if "time" in frame.columns and isinstance(frame.schema["time"], pl.Datetime):
        since, until = _range(frame["time"].dt.epoch("us"))
        sketch.since = None if since is None else since / 1e6
        sketch.until = None if until is None else until / 1e6
    seasons: dict[str, np.ndarray] = {}
    scales = {measure.name: scale for measure, scale in shape.items()}
    for measure, values in series_of(frame, shape.measures):
        when = measure.season
        if when and when not in seasons:
            seasons[when] = season_of(frame, when, shape.dated)
        sketch.tallies[measure.name] = _tally(
            values,
            scales[measure.name],
            seasons[when] if when else None,
            SEASONS.get(when or "", 1),
        )
    return sketch


def sketch_of_parquet(
    files: Sequence[Path | IO[bytes] | bytes], shape: Shape, *, where: "pl.Expr | None" = None
) -> Sketch:
    """The sketch of Parquet files' rows (those `where` holds), read a batch at a time."""
    import polars as pl

    total = Sketch(shape)
    for file in files:
        rows = pl.scan_parquet(file)
        if where is not None:
            rows = rows.filter(where)
        known = {"time", shape.dated, "prediction", "probability"}
        known |= {measure.column for measure in shape.measures}
        names = rows.collect_schema().names()
        chosen = [name for name in names if name.removeprefix("input.") in known]
        for batch in rows.select(chosen).collect_batches(
            chunk_size=_BATCH, maintain_order=False, lazy=True
        ):
            total += sketch_of_frame(batch, shape)
    return total


def _tally(values: "pl.Series", scale: Scale, seasons: np.ndarray | None, number: int) -> Tally:
    if isinstance(scale, Bins):
        codes, under, over = scale.codes(values.to_numpy())
        low, high = _range(values)
        return Tally(_counts(codes, seasons, number, scale), under, over, low, high)
    counts, unseen = np.zeros((1, scale.size + 3), np.int64), {}
    # Counting texts first and finding their cells then looks each up once.
    for value, count in counts_of(values).items():
        cell = scale.size + 2 if value is None else scale.places.get(value, scale.size + 1)
        counts[0, cell] += count
        if value is not None and cell == scale.size + 1:
            unseen[value] = count
    if seasons is not None:
        counts = _counts(scale.codes(values), seasons, number, scale)
    return Tally(counts, unseen=Unseen().add(unseen))


def _counts(codes: np.ndarray, seasons: np.ndarray | None, number: int, scale: Scale) -> np.ndarray:
    """Counts (seasons, cells) of codes (n,)."""
    cells = scale.size + 3
    if seasons is not None:
        codes = codes + seasons * cells
    return np.bincount(codes, minlength=number * cells).reshape(number, cells)


def _range(values: "pl.Series") -> tuple[float | None, float | None]:
    """The least and the largest value but NaN."""
    ends: list[Any] = [values.min(), values.max()]
    low, high = (None if end is None or math.isnan(end) else float(end) for end in ends)
    return low, high


def _least(one: float | None, other: float | None) -> float | None:
    return min((end for end in (one, other) if end is not None), default=None)


def _most(one: float | None, other: float | None) -> float | None:
    return max((end for end in (one, other) if end is not None), default=None)
