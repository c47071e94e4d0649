"""Drift: whether a window differs from the reference by more than chance and more than matters."""

import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from statistics import NormalDist
from typing import Any, Literal

import msgspec
import numpy as np

from timonel.errors import DataRefused
from timonel.monitoring.calibrate import MOST, Calibration, Null, bucket, calibrate
from timonel.monitoring.comparison import (
    Aspect,
    Comparison,
    Statistic,
    watched,
)
from timonel.monitoring.pictures import Histogram, Shift, histogram, shifts
from timonel.monitoring.reference import Reference
from timonel.monitoring.scales import Bins
from timonel.monitoring.sketch import Sketch, Tally
from timonel.policies import Drift

__all__ = ["ColumnVerdict", "Finding", "Verdict", "judge"]

# A window is of use when it would have shown at least such a change in every column.
_LARGE: Mapping[str, float] = {
    "wasserstein": 1.0, "ks": 0.5, "js": 0.75, "psi": 2.0, "chi2": 1.5, "share": 0.5,
}  # fmt: skip
_SURE = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True)
class Finding:
    """One aspect of a column: `distance` by `statistic`, which alarms when above `threshold`.

    The threshold is where both chance, at the rate held over all columns, and what matters are
    exceeded. `effect` is the distance without what chance gives to any window of this size;
    `p` the chance of such a distance in this aspect, `p_all` in any of any column. `detectable` is
    the distance that a shift must have to be found in 95 of 100 such windows.
    """

    aspect: Aspect
    statistic: Statistic
    distance: float
    threshold: float
    effect: float
    matters: float
    p: float
    p_all: float
    detectable: float
    drifted: bool


@dataclass(frozen=True)
class ColumnVerdict:
    """What became of one measure; `findings` is empty when it is excluded.

    `distances` has every statistic of its kind, `missing` and `unseen` shares of rows in reference
    and window, `since` when the change began (s since 1970, as far as windows tell), `examples`
    the values that gained most.
    """

    name: str
    kind: Literal["number", "category"]
    output: bool
    drifted: bool
    excluded: bool
    findings: tuple[Finding, ...]
    distances: Mapping[str, float]
    means: tuple[float, float] | None
    missing: tuple[float, float]
    unseen: tuple[float, float] | None
    since: float | None
    examples: tuple[Shift, ...]
    histogram: Histogram

    @property
    def severity(self) -> float:
        """How far the worst finding is above its threshold, as a ratio; 0 without findings."""
        ratios = [f.distance / f.threshold for f in self.findings if f.threshold > 0]
        return max(ratios, default=0.0)


@dataclass(frozen=True)
class Verdict:
    """What is said of a window: `ok`, `drift`, or `not enough data`.

    `alarm` is the rate of false alarms a window, over all columns. `blocks` is how many blocks of
    neighbouring rows the thresholds rest on, 0 when the reference has no order. Columns come with
    the most severe first.
    """

    state: Literal["ok", "drift", "not enough data"]
    rows: int
    since: float | None
    until: float | None
    alarm: float
    false_alarms_a_week: float
    blocks: int
    columns: tuple[ColumnVerdict, ...]
    note: str = ""

    @property
    def drifted(self) -> tuple[ColumnVerdict, ...]:
        """The columns that drifted."""
        return tuple(column for column in self.columns if column.drifted)

    @property
    def severity(self) -> float:
        """The severity of the worst column; above 1 only when there is drift."""
        return max((column.severity for column in self.drifted), default=0.0)

    def sentence(self) -> str:
        """It for a person."""
        if self.state == "drift":
            told = ", ".join(_told(column) for column in self.drifted)
            return f"Drift in {self.rows:,} rows: {told}."
        if self.state == "ok":
            return f"No drift in {self.rows:,} rows."
        least = [f for column in self.columns for f in column.findings]
        hardest = max(least, key=lambda f: f.detectable / _LARGE[f.statistic], default=None)
        if hardest is None:
            return f"Not enough data: {self.rows:,} rows."
        return (
            f"Not enough data: in {self.rows:,} rows a change smaller than "
            f"{hardest.detectable:.2g} ({hardest.statistic}) would not be told from chance."
        )

    def to_dict(self) -> dict[str, Any]:
        """It as plain JSON values."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {**found, "sentence": self.sentence(), "severity": self.severity}


def judge(
    reference: Reference,
    windows: Sketch | Sequence[Sketch],
    policy: Drift,
    *,
    rng: np.random.Generator,
    calibrations: MutableMapping[int, bytes] | None = None,
) -> Verdict:
    """Compare a window, or the pieces that make one up in order of time, with the reference.

    `calibrations` keeps what was drawn for a size of window; it is good for one reference and one
    policy, and filled as needed. With seasons nothing is kept, since each window has its own.

    Raises:
        DataRefused: there is no window.
        ArtifactError: windows are not of the reference's shape.
    """
    pieces = [windows] if isinstance(windows, Sketch) else list(windows)
    if not pieces:
        raise DataRefused("Expected at least one window to compare, got none.")
    window = reduce(add, pieces, Sketch(reference.shape))
    found = [one for one in reference.comparisons(policy) if one.measure.name in window.tallies]
    active = watched(found, policy)
    calibration = _calibration(reference, window, policy, rng, calibrations)
    limit = calibration.threshold(policy.alarm)
    columns = []
    for name, mine in _by_measure(found).items():
        findings = [
            _finding(one, window.tallies[name], _null(one, calibration, window), calibration, limit)
            for one in mine
            if one in active
        ]
        columns.append(_column(mine, findings, window.tallies[name], pieces))
    columns.sort(key=lambda column: (column.drifted, column.severity), reverse=True)
    return Verdict(
        state=_state(columns, window),
        rows=window.rows,
        since=window.since,
        until=window.until,
        alarm=policy.alarm,
        false_alarms_a_week=policy.false_alarms_a_week,
        blocks=calibration.blocks,
        columns=tuple(columns),
        note=reference.note,
    )


def _told(column: ColumnVerdict) -> str:
    worst = max((f for f in column.findings if f.drifted), key=lambda f: f.distance / f.threshold)
    what = worst.statistic if worst.aspect == "values" else worst.aspect
    return f"{column.name} ({what} {worst.distance:.2g} against {worst.threshold:.2g})"


def _by_measure(found: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    grouped: dict[str, list[Comparison]] = {}
    for one in found:
        grouped.setdefault(one.measure.name, []).append(one)
    return grouped


def _calibration(
    reference: Reference,
    window: Sketch,
    policy: Drift,
    rng: np.random.Generator,
    kept: MutableMapping[int, bytes] | None,
) -> Calibration:
    seasons: dict[str, list[int]] = {
        measure.season: window.tallies[measure.name].counts.sum(axis=1).tolist()
        for measure in reference.shape.measures
        if measure.season and measure.name in window.tallies
    }
    size = bucket(window.rows) if reference.tracks else bucket(min(window.rows, MOST))
    if kept is not None and not seasons and size in kept:
        return Calibration.from_bytes(kept[size])
    made = calibrate(reference, size, policy, rng=rng, seasons=seasons)
    if kept is not None and not seasons:
        kept[size] = made.to_bytes()
    return made


def _null(one: Comparison, calibration: Calibration, window: Sketch) -> Null:
    """The null distribution at the window's own size, which may be larger than what was drawn."""
    null = calibration.nulls[one.name]
    if calibration.blocks:
        return null  # neighbours are alike: more of them do not shrink a distance by the root
    m = one.rows
    drawn, real = (n * m / (n + m) for n in (calibration.rows, window.rows))
    return null.shrunk(math.sqrt(drawn / real)) if real > drawn > 0 else null


def _finding(
    one: Comparison, tally: Tally, null: Null, calibration: Calibration, limit: float
) -> Finding:
    distance = one.measured(tally)
    threshold = max(null.distance(limit), math.sqrt(one.matters**2 + null.square))
    score = float(null.score(distance))
    # How much the distance of a shifted window varies: as its mean, or as its distance does.
    varies = 1.5 * math.sqrt(max(null.distance(0.0) ** (2 / 3), 1e-12)) * null.sd
    if one.statistic == "wasserstein":
        varies = max(varies, 1 / math.sqrt(max(tally.rows, 1)))
    elif one.statistic in ("share", "ks"):
        varies = max(varies, 0.5 / math.sqrt(max(tally.rows, 1)))
    return Finding(
        aspect=one.aspect,
        statistic=one.statistic,
        distance=distance,
        threshold=threshold,
        effect=float(null.effect(distance)),
        matters=one.matters,
        p=1 - NormalDist().cdf(score),
        p_all=calibration.chance(score),
        detectable=threshold + _SURE * varies,
        drifted=distance > threshold,
    )


def _column(
    mine: Sequence[Comparison], findings: Sequence[Finding], tally: Tally, pieces: Sequence[Sketch]
) -> ColumnVerdict:
    one = mine[0]
    drifted = any(finding.drifted for finding in findings)
    known = {f.statistic: f.distance for f in findings if f.aspect == "values"}
    distances: dict[str, float] = {
        name: known[name] if name in known else other.measured(tally)
        for name, other in one.statistics.items()
    }
    means = None
    if isinstance(one.scale, Bins):
        both = (one.tally.mean(one.scale), tally.mean(one.scale))
        means = None if both[0] is None or both[1] is None else (both[0], both[1])
    return ColumnVerdict(
        name=one.measure.name,
        kind=one.measure.kind,
        output=one.measure.output,
        drifted=drifted,
        excluded=not findings,
        findings=tuple(findings),
        distances=distances,
        means=means,
        missing=(_share(one.tally, -1), _share(tally, -1)),
        unseen=None if one.measure.kind == "number" else (_share(one.tally, -2), _share(tally, -2)),
        since=_since(one, pieces) if drifted else None,
        examples=shifts(one, tally) if drifted else (),
        histogram=histogram(one, tally),
    )


def _share(tally: Tally, cell: int) -> float:
    return float(tally.counts[:, cell].sum() / max(tally.rows, 1))


def _state(
    columns: Sequence[ColumnVerdict], window: Sketch
) -> Literal["ok", "drift", "not enough data"]:
    if any(column.drifted for column in columns):
        return "drift"
    findings = [finding for column in columns for finding in column.findings]
    blind = any(f.detectable > _LARGE[f.statistic] for f in findings)
    return "not enough data" if blind or not window.rows else "ok"


def _since(one: Comparison, pieces: Sequence[Sketch]) -> float | None:
    """When the piece began that splits the others into the most different two sides."""
    dated = [p for p in pieces if p.since is not None and one.measure.name in p.tallies and p.rows]
    if not dated:
        return None
    distances = np.array([one.measured(piece.tallies[one.measure.name]) for piece in dated])
    rows = np.array([float(piece.rows) for piece in dated])
    best, since = 0.0, dated[0].since
    for place in range(1, len(dated)):
        before, after = slice(None, place), slice(place, None)
        n, m = rows[before].sum(), rows[after].sum()
        gap = np.average(distances[after], weights=rows[after]) - np.average(
            distances[before], weights=rows[before]
        )
        gain = float(gap) * math.sqrt(n * m / (n + m))
        # Later pieces that differ no more than the first ones do have begun with them.
        if gain > best and gap > distances[before].mean():
            best, since = gain, dated[place].since
    return since
