"""What a report shows of a column: both distributions side by side, and the values that gained."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from timonel.monitoring.comparison import Comparison
from timonel.monitoring.scales import Bins
from timonel.monitoring.sketch import Tally

__all__ = ["Histogram", "Shift", "histogram", "shifts"]

_BARS = 40
_SHOWN = 20
_EXAMPLES = 5


@dataclass(frozen=True)
class Histogram:
    """Shares of rows by `labels`; of a number these are the lower ends of bars of equal width.

    The first and last of a number's are of what lies below and above the reference's range.
    """

    labels: tuple[str, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]


@dataclass(frozen=True)
class Shift:
    """A value, or a range of numbers, with its shares in reference and window."""

    value: str
    reference: float
    window: float


def histogram(one: Comparison, tally: Tally) -> Histogram:
    """Both distributions of a measure in at most a few dozen bars."""
    if isinstance(one.scale, Bins):
        labels, groups = _bars(one.scale, min(_BARS, one.scale.size))
        sides = [_gathered(side, groups) for side in (one.tally, tally)]
    else:
        sides = [_shares(one.tally), _shares(tally)]
        labels = [*one.scale.heavy, "(rare)", "(unseen)"]
        order = np.argsort(-(sides[0] + sides[1]), kind="stable")
        order = order[(sides[0] + sides[1])[order] > 0][:_SHOWN]
        labels = [labels[place] for place in order]
        sides = [side[order] for side in sides]
    return Histogram(tuple(labels), *(tuple(np.round(side, 6).tolist()) for side in sides))


def shifts(one: Comparison, tally: Tally) -> tuple[Shift, ...]:
    """The values or ranges whose shares grew most, the most first."""
    found: list[Shift] = []
    if isinstance(one.scale, Bins):
        labels, groups = _bars(one.scale, min(10, one.scale.size))
        ends = [*labels[1:], f"{tally.high:g}" if tally.high is not None else ""]
        before, after = (_gathered(side, groups) for side in (one.tally, tally))
        names = [f"{low}..{high}" for low, high in zip(labels, ends, strict=True)]
        names[0] = f"below {labels[1]}"
        names[-1] = f"{labels[-1]} and above, up to {ends[-1]}"
        found = [Shift(*row) for row in zip(names, before.tolist(), after.tolist(), strict=True)]
    else:
        before, after = _shares(one.tally), _shares(tally)
        rows = max(int(tally.cells.sum()), 1)
        found = [Shift(v, 0.0, n / rows) for v, n in tally.unseen.counts.items()]
        known = zip(one.scale.heavy, before.tolist(), after.tolist(), strict=False)
        found += [Shift(*row) for row in known]
    grown = sorted(found, key=lambda shift: (shift.reference - shift.window, shift.value))
    return tuple(shift for shift in grown[:_EXAMPLES] if shift.window > shift.reference)


def _shares(tally: Tally) -> np.ndarray:
    shares: np.ndarray = tally.cells / max(int(tally.cells.sum()), 1)
    return shares


@lru_cache(maxsize=1_000)
def _bars(bins: Bins, most: int) -> tuple[list[str], np.ndarray]:
    """Labels of bars, and the bar of each cell but the missing one: below first, above last."""
    ends = np.linspace(0, bins.size, most + 1).astype(int)
    bars = np.repeat(np.arange(1, most + 1), np.diff(ends))
    inset = 0.5 if bins.whole else 0.0
    labels = ["-∞", *(f"{bins.edge(end + inset):.4g}" for end in ends[:-1])]
    labels.append(f"{bins.edge(float(ends[-1]) + inset):.4g}")
    return labels, np.concatenate([bars, [0, most + 1]])


def _gathered(tally: Tally, bars: np.ndarray) -> np.ndarray:
    gathered: np.ndarray = np.bincount(bars, weights=_shares(tally), minlength=int(bars.max()) + 1)
    return gathered
