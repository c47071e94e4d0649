"""What is compared of a measure, and how: its values, its share of missing and of unseen ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from timonel.monitoring import distance
from timonel.monitoring.measures import Measure
from timonel.monitoring.scales import UNIT, Bins, Scale
from timonel.monitoring.sketch import Sketch, Tally
from timonel.policies import Drift

__all__ = ["STATISTICS", "Aspect", "Comparison", "Groups", "Statistic", "comparisons", "watched"]

Aspect = Literal["values", "missing", "unseen"]
Statistic = Literal["wasserstein", "ks", "js", "psi", "chi2", "share"]

STATISTICS: dict[str, tuple[Statistic, ...]] = {
    "number": ("wasserstein", "ks", "js", "psi"),
    "category": ("js", "chi2", "psi"),
}
"""The statistics of each kind of measure."""

_FINE = 128  # groups of bins that keep a null distribution of areas cheap and exact to a percent
_COARSE = 10  # groups of bins that are compared one by one


@dataclass(frozen=True)
class Groups:
    """Cells gathered into groups: `index` (cells,) has each cell's group, or -1 if it has none.

    Of bins, the first group is what lies below and the last what lies above them; those between
    lie between neighbours of `edges` (in bins), or with `atoms` in the middle.
    """

    index: np.ndarray
    edges: np.ndarray
    atoms: bool = False

    @cached_property
    def size(self) -> int:
        """How many groups there are."""
        return int(self.index.max()) + 1

    @cached_property
    def _order(self) -> np.ndarray | None:
        """The cell of each group, where each has only one."""
        cells = np.flatnonzero(self.index >= 0)
        if len(cells) != self.size:
            return None
        return cells[np.argsort(self.index[cells])]

    def gather(self, counts: np.ndarray) -> np.ndarray:
        """Counts (seasons, cells) as counts (seasons, groups)."""
        if self._order is not None:
            return counts[:, self._order]
        kept = self.index >= 0
        index = self.index[kept]
        rows = [np.bincount(index, season[kept], self.size) for season in counts]
        return np.array(rows).astype(np.int64)


def _groups_of_bins(bins: Bins, counts: np.ndarray, most: int) -> Groups:
    """At most about `most` groups of equal share of the counts (cells,)."""
    edges = np.arange(bins.size + 1)
    if bins.size > most:
        within = np.cumsum(counts[: bins.size])
        shares = np.linspace(0, within[-1], most + 1)[1:-1]
        inner = np.searchsorted(within, shares, side="left") + 1
        edges = np.unique(np.concatenate([[0], inner, [bins.size]]))
    groups = len(edges) - 1
    index = np.repeat(np.arange(1, groups + 1), np.diff(edges))
    index = np.concatenate([index, [0, groups + 1, -1]])
    return Groups(index, edges, bins.whole and groups == bins.size)


@dataclass(frozen=True)
class Comparison:
    """One aspect of a measure held to the reference's `tally`, by one statistic.

    `matters` is the least effect that is worth an alarm.
    """

    measure: Measure
    scale: Scale
    tally: Tally
    aspect: Aspect
    statistic: Statistic
    matters: float

    @property
    def name(self) -> str:
        """What it is called in a calibration."""
        return f"{self.measure.name} {self.aspect}"

    @cached_property
    def fine(self) -> Groups:
        """The groups that a real window is measured on."""
        return self._groups(2**16)

    @cached_property
    def groups(self) -> Groups:
        """The groups that a null distribution of thousands of windows is made on."""
        return self._groups(_FINE)

    def _groups(self, most: int) -> Groups:
        cells = self.scale.size + 3
        none = np.zeros(0)
        if self.aspect == "missing":
            return Groups(np.repeat([0, 1], [cells - 1, 1]), none)
        if self.aspect == "unseen":
            return Groups(np.repeat([0, 1, -1], [cells - 2, 1, 1]), none)
        if not isinstance(self.scale, Bins):
            return Groups(np.concatenate([np.arange(cells - 1), [-1]]), none)
        most = most if self.statistic in ("wasserstein", "ks") else _COARSE
        return _groups_of_bins(self.scale, self.tally.counts.sum(axis=0), most)

    @cached_property
    def rows(self) -> int:
        """How many rows of the reference it rests on."""
        return int(self.groups.gather(self.tally.counts).sum())

    @cached_property
    def beyond(self) -> np.ndarray:
        """How far the reference's values below and above the bins lie beyond them, on average."""
        return _beyond(self.tally)

    def distances(self, counts: np.ndarray) -> np.ndarray:
        """The statistic of each window (n,), given its counts (n, seasons, groups).

        The reference is mixed in the seasons of the window. Values beyond the bins count as being
        as far beyond as the reference's.
        """
        return self._distances(self.groups, self._shares, counts, self.beyond)

    def measured(self, tally: Tally) -> float:
        """The statistic of one window, on all of its cells."""
        counts = self.fine.gather(tally.counts)[None]
        return float(self._distances(self.fine, self._fine_shares, counts, _beyond(tally))[0])

    @cached_property
    def statistics(self) -> "dict[Statistic, Comparison]":
        """The same by each statistic of its kind."""
        return {name: replace(self, statistic=name) for name in STATISTICS[self.measure.kind]}

    def _distances(
        self, groups: Groups, shares: np.ndarray, counts: np.ndarray, beyond: np.ndarray
    ) -> np.ndarray:
        rows = counts.sum(axis=2)
        total = np.maximum(rows.sum(axis=1, keepdims=True), 1)
        p = counts.sum(axis=1) / total
        q = (rows / total) @ shares
        p = np.where(rows.sum(axis=1, keepdims=True) > 0, p, q)
        if self.aspect != "values":
            change: np.ndarray = np.abs(p[:, 1] - q[:, 1])
            return change
        if self.statistic == "js":
            return distance.jensen_shannon(p, q)
        if self.statistic == "psi":
            return distance.psi(p, q)
        if self.statistic == "chi2":
            return distance.chi_square(p, q, float(total.mean()), self.rows)
        bins = self.scale
        # Of a constant there is no spread to measure by: the share that moved is what there is.
        if self.statistic == "ks" or not isinstance(bins, Bins) or not bins.spread:
            return distance.kolmogorov(p, q)
        places = groups.edges[:-1] + 0.5 if groups.atoms else groups.edges
        area = distance.wasserstein(p, q, places.astype(np.float64), atoms=groups.atoms)
        ends = p[:, [0, -1]] * beyond - q[:, [0, -1]] * self.beyond
        area += np.abs(ends).sum(axis=1)
        return area * (bins.width / bins.spread)

    @cached_property
    def _shares(self) -> np.ndarray:
        return _shares(self.groups.gather(self.tally.counts))

    @cached_property
    def _fine_shares(self) -> np.ndarray:
        return _shares(self.fine.gather(self.tally.counts))


def _shares(counts: np.ndarray) -> np.ndarray:
    """Shares of counts (seasons, groups); all rows' for a season that there are none of."""
    totals = counts.sum(axis=1, keepdims=True)
    everything = counts.sum(axis=0) / max(int(totals.sum()), 1)
    shares: np.ndarray = np.where(totals > 0, counts / np.maximum(totals, 1), everything)
    return shares


def _beyond(tally: Tally) -> np.ndarray:
    outside = np.maximum(tally.cells[-2:], 1)
    sums = zip((tally.under, tally.over), outside, strict=True)
    return np.array([total / (UNIT * int(count)) for total, count in sums])


def comparisons(sketch: Sketch, policy: Drift) -> list[Comparison]:
    """What is compared of each measure of a reference, in their order."""
    found: list[Comparison] = []
    for measure, scale in sketch.shape.items():
        tally = sketch.tallies[measure.name]
        chosen: Statistic = policy.number if measure.kind == "number" else policy.category
        aspects: list[tuple[Aspect, Statistic]] = [("values", chosen)]
        if measure.nullable or tally.missing:
            aspects.append(("missing", "share"))
        if measure.kind == "category" and measure.values is None:
            aspects.append(("unseen", "share"))
        found += [
            Comparison(measure, scale, tally, aspect, statistic, policy.least(statistic))
            for aspect, statistic in aspects
        ]
    return found


def watched(found: Sequence[Comparison], policy: Drift) -> list[Comparison]:
    """Those of them that may alarm; a picture's summaries are left out by its column's name too."""
    left_out = set(policy.exclude)
    return [
        one
        for one in found
        if one.measure.name not in left_out
        and (one.measure.output or one.measure.column not in left_out)
    ]
