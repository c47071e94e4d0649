"""Scales: which cell of a measure's counts each of its values falls into, fixed by the reference.

All windows of a version are counted on its scales, which is what lets them be added up. A scale of
`size` cells numbers them from 0; then come two for what lies outside, and `size + 2` for missing.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

__all__ = [
    "BINS",
    "HEAVY",
    "UNIT",
    "Bins",
    "Scale",
    "Unseen",
    "Values",
    "bins_of",
    "counts_of",
    "values_of",
]

BINS = 4_096
HEAVY = 1_000
RARE = 10_000
UNIT = 1_024
"""How far beyond the ends values lie is summed up in whole `1 / UNIT`s of a bin, so that sums of
any order are equal; what is further than `_FARTHEST` bins counts as that far."""

_FARTHEST = 2.0**30
_AROUND = 10.0  # spreads on both sides of the median that get bins; one outlier must not widen them
_TAIL = 0.001  # share at each end that the spread does not count
_CHUNK = 32_768  # values that fit a core's cache along with what is made of them
_LONGEST = 200  # characters of a value


@dataclass(frozen=True)
class Bins:
    """`size` equal bins of `width` from `low`; then come the cells below, above and missing.

    `whole` bins are of one whole number each, which stands in the middle. `spread` is the
    reference's standard deviation but for its outermost values, 0 when it is constant.
    """

    low: float
    width: float
    size: int
    whole: bool
    spread: float

    def codes(self, values: "np.ndarray") -> "tuple[np.ndarray, int, int]":
        """The cell of each of the float values (n,), as intp, and the sums beyond both ends."""
        import numpy as np

        codes = np.empty(len(values), np.intp)
        under = over = 0
        # Cells are counted from 1 here, so that what is below is 0 and cutting off rounds down.
        shift, scale = 1.0 - self.low / self.width, 1.0 / self.width
        inset = 0.5 if self.whole else 0.0
        for start in range(0, len(values), _CHUNK):
            with np.errstate(over="ignore"):  # the largest floats are infinitely many bins away
                place = values[start : start + _CHUNK].astype(np.float64) * scale + shift
            piece = codes[start : start + _CHUNK]
            lowest, highest = place.min(), place.max()
            if lowest >= 1.0 and highest < self.size + 1.0:  # false for NaN
                piece[:] = place
                continue
            missing = np.isnan(place)
            below, above = place < 1.0, place >= self.size + 1.0
            under += _units(1.0 + inset - place[below])
            over += _units(place[above] - (self.size + 1.0 - inset))
            place[missing | below | above] = 0.0
            piece[:] = place
            piece[below], piece[above], piece[missing] = (self.size + n for n in (1, 2, 3))
        codes -= 1
        return codes, under, over

    def edge(self, place: float) -> float:
        """Where a bin begins."""
        return self.low + self.width * place


def _units(bins: "np.ndarray") -> int:
    import numpy as np

    return int(np.rint(np.minimum(bins, _FARTHEST) * UNIT).astype(np.int64).sum())


@dataclass(frozen=True)
class Values:
    """A cell for each of the `heavy` values; then come those of `rare`, unseen and missing ones."""

    heavy: tuple[str, ...]
    rare: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many values have a cell of their own."""
        return len(self.heavy)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The cell of each known value."""
        places = dict.fromkeys(self.rare, self.size)
        places.update({value: place for place, value in enumerate(self.heavy)})
        return places

    def codes(self, values: "pl.Series") -> "np.ndarray":
        """The cell of each value (n,), as uint16."""
        import polars as pl

        known = pl.Series(self.places.keys(), dtype=pl.String)
        cells = pl.Series(self.places.values(), dtype=pl.UInt16)
        text = _text_of(values)
        found = text.replace_strict(known, cells, default=self.size + 1, return_dtype=pl.UInt16)
        return found.zip_with(
            text.is_not_null(), pl.Series([self.size + 2], dtype=pl.UInt16)
        ).to_numpy()


Scale = Bins | Values


def _text_of(values: "pl.Series") -> "pl.Series":
    """Values as texts of bounded length."""
    import polars as pl

    return values.cast(pl.String).str.slice(0, _LONGEST)


def counts_of(values: "pl.Series") -> dict[str | None, int]:
    """How often each value comes, as texts of bounded length; None is missing."""
    counts: dict[str | None, int] = {}
    # Different values are few and rows many, so texts are made and cut after counting.
    for value, count in _counted(values).rows():
        text = value if value is None else value[:_LONGEST]
        counts[text] = counts.get(text, 0) + count
    return counts


def _counted(values: "pl.Series") -> "pl.DataFrame":
    import polars as pl

    counted = values.alias("value").value_counts(name="count")
    return counted.with_columns(pl.col("value").cast(pl.String))


def bins_of(values: "pl.Series", *, whole: bool = False) -> Bins:
    """Bins over the range of the reference's values; missing ones and NaN do not count.

    Whole numbers whose range allows it get a bin each.
    """
    import polars as pl

    given = values.cast(pl.Float64)
    given = given.filter(given.is_finite() & given.is_not_null())
    if not given.len():
        return Bins(0.0, 1.0, 1, whole, 0.0)
    quantiles = [given.quantile(share, "nearest") for share in (_TAIL, 0.5, 1 - _TAIL)]
    low, middle, high = (float(value or 0.0) for value in quantiles)
    spread = float(given.clip(low, high).std(ddof=0) or 0.0)  # type: ignore[arg-type]
    least, most = float(given.min()), float(given.max())  # type: ignore[arg-type]
    if not spread:
        spread = float(given.std(ddof=0) or 0.0)  # type: ignore[arg-type]
    if whole and most - least < BINS:
        return Bins(least - 0.5, 1.0, int(most - least) + 1, True, spread)
    if not spread:
        width = max(abs(least), 1.0) * 1e-9
        return Bins(least - width / 2, width, 1, False, 0.0)
    least, most = max(least, middle - _AROUND * spread), min(most, middle + _AROUND * spread)
    # A little wider, so that the largest value is inside.
    width = (most - least) * (1 + 2.0**-40) / BINS
    if not math.isfinite(1.0 / width):
        return Bins(least, 1.0, 1, False, 0.0)
    return Bins(least, width, BINS, False, spread)


def values_of(values: "pl.Series", closed: tuple[str, ...] | None = None) -> Values:
    """Cells for the values of a closed set, or for the reference's most frequent ones."""
    if closed is not None and len(closed) <= HEAVY:
        return Values(tuple(closed))
    counts = counts_of(values)
    counts.pop(None, None)
    known = [text for text in counts if text is not None]
    known.sort(key=lambda text: (-counts[text], text))
    return Values(tuple(known[:HEAVY]), tuple(known[HEAVY : HEAVY + RARE]))


@dataclass
class Unseen:
    """Counts of the `_MOST` unseen values whose hashes are the smallest.

    Which those are does not depend on the order in which they come: a value that is among them in
    the end was so from the start, and its count is exact.
    """

    counts: dict[str, int] = field(default_factory=dict)

    _MOST = 200

    def add(self, counts: Mapping[str, int]) -> "Unseen":
        """Both together."""
        both = dict(self.counts)
        for value, count in counts.items():
            both[value] = both.get(value, 0) + count
        kept = sorted(both, key=lambda value: (zlib.crc32(value.encode()), value))[: self._MOST]
        return Unseen({value: both[value] for value in kept})
