"""Calibration: what windows of one size do when nothing drifts, drawn from the reference.

Rows of a reference without an order are drawn one by one, column by column. Of a reference in
order of time whole blocks of neighbours are drawn, all columns at once, because real traffic comes
like that: a thousand rows of two days differ from those of two years by more than chance alone.

A distance D is about a root of a sum of squares, so D to the power of 2/3 is about normal (Wilson
and Hilferty's cube root); in such units columns can be compared. The largest over all columns in
each null window gives the threshold, which holds the rate over all columns together, however they
depend on one another. Only what is large enough to matter counts, as it does in an alarm.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import msgspec
import numpy as np

from timonel.errors import ArtifactError
from timonel.monitoring.comparison import Comparison, watched
from timonel.monitoring.measures import SEASONS
from timonel.monitoring.reference import Reference, Track
from timonel.policies import Drift

__all__ = ["MOST", "Calibration", "Null", "bucket", "calibrate"]

FORMAT = 1

_DRAWS = 2_000
_SHUFFLES = 4
_BLOCKS_APART = 20  # so many blocks that do not overlap are the least to learn from
_STEP = 1.1  # a window's size counts as the next lower power of this
MOST = 20_000
"""Rows that are drawn one by one at most; beyond, distances shrink with the root of the rows."""
_KEPT = 1_000
_NEVER = -1e9
_MANY = 5_000
_SURE = NormalDist().inv_cdf(0.9)


class Null(msgspec.Struct, frozen=True):
    """One comparison without drift: mean and standard deviation of D^(2/3), and mean of D²."""

    mean: float
    sd: float
    square: float

    def score(self, distance: "float | np.ndarray") -> "np.ndarray":
        """How many standard deviations a distance is above what chance gives."""
        found: np.ndarray = (np.asarray(distance) ** (2 / 3) - self.mean) / max(self.sd, 1e-9)
        return found

    def distance(self, score: float) -> float:
        """The distance of a score."""
        return float(max(self.mean + score * self.sd, 0.0) ** 1.5)

    def effect(self, distance: "float | np.ndarray") -> "np.ndarray":
        """A distance without the part that chance gives to any window of this size."""
        found: np.ndarray = np.sqrt(np.maximum(np.asarray(distance) ** 2 - self.square, 0.0))
        return found

    def shrunk(self, factor: float) -> "Null":
        """For distances that are smaller by a factor."""
        power = factor ** (2 / 3)
        return Null(self.mean * power, self.sd * power, self.square * factor**2)


class Calibration(msgspec.Struct, frozen=True):
    """What `rows` rows do without drift, by comparison; and how large the largest score gets.

    `worst` are scores in ascending order, at equal steps of probability. `blocks` is how many
    blocks that do not overlap it rests on, 0 when rows were drawn one by one.
    """

    format: int
    rows: int
    blocks: int
    nulls: dict[str, Null]
    worst: tuple[float, ...]

    def threshold(self, alarm: float) -> float:
        """The score that is exceeded in at most a share `alarm` of windows without drift.

        Blocks are few, and a quantile of few is uncertain: theirs is one that keeps to the rate in
        nine of ten references.
        """
        normal = NormalDist().inv_cdf(1 - alarm)
        if self.blocks:
            alarm -= _SURE * math.sqrt(alarm * (1 - alarm) / self.blocks)
        return max(normal, float(np.quantile(self.worst, 1 - max(alarm, 0.0), method="higher")))

    def chance(self, score: float) -> float:
        """How often chance alone gives a score as large anywhere; never below what was drawn."""
        above = len(self.worst) - int(np.searchsorted(self.worst, score, side="left"))
        return (above + 1) / (len(self.worst) + 1)

    def to_bytes(self) -> bytes:
        """It, to be kept."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Calibration":
        """What `to_bytes` gave; raises ArtifactError when it is not, or of another format."""
        try:
            found = msgspec.msgpack.decode(content, type=cls)
        except msgspec.MsgspecError as error:
            raise ArtifactError(f"Expected a calibration, got: {error}.") from None
        if found.format != FORMAT:
            raise ArtifactError(
                f"Expected a calibration of format {FORMAT}, got {found.format}.",
                remedy="Delete it; it is made anew.",
            )
        return found


def bucket(rows: int) -> int:
    """The size that windows of `rows` rows are calibrated for: a little smaller, or equal."""
    if rows <= 20:
        return max(rows, 1)
    return min(rows, math.ceil(_STEP ** math.floor(math.log(rows, _STEP) + 1e-9)))


def calibrate(
    reference: Reference,
    rows: int,
    policy: Drift,
    *,
    rng: np.random.Generator,
    draws: int = _DRAWS,
    seasons: Mapping[str, Sequence[int]] | None = None,
) -> Calibration:
    """What `rows` rows do when nothing drifts; `seasons` has a window's rows in each season."""
    found = watched(reference.comparisons(policy), policy)
    drawn: dict[str, np.ndarray] = {}
    blocks = 0
    if reference.tracks:
        for track in reference.tracks:
            mine = [one for one in found if one.measure.name in track.codes]
            seen = max((one.tally.rows for one in mine), default=0)
            share = min(seen / max(reference.sketch.rows, 1), 1.0)
            distances, count = _by_blocks(mine, track, rows, share, rng, draws)
            drawn |= distances
            blocks = blocks or count
    else:
        for one in found:
            mix = (seasons or {}).get(one.measure.season or "")
            drawn[one.name] = _by_rows(one, rows, mix, rng, draws)
    nulls = {
        name: Null(float(y.mean()), float(y.std()), float((d**2).mean()))
        for name, d in drawn.items()
        for y in [d ** (2 / 3)]
    }
    scores = np.full((len(found), max(map(len, drawn.values()), default=1)), _NEVER)
    for place, one in enumerate(found):
        null, d = nulls[one.name], drawn[one.name]
        scores[place, : len(d)] = np.where(null.effect(d) >= one.matters, null.score(d), _NEVER)
    worst = scores.max(axis=0, initial=_NEVER)
    if not blocks:
        # Columns were drawn independently, so any draws of theirs may stand side by side.
        again = [rng.permuted(scores, axis=1).max(axis=0, initial=_NEVER) for _ in range(_SHUFFLES)]
        worst = np.concatenate([worst, *again])
    steps = np.quantile(worst, (np.arange(_KEPT) + 0.5) / _KEPT, method="higher")
    return Calibration(FORMAT, rows, blocks, nulls, tuple(np.round(steps, 4).tolist()))


def _by_rows(
    one: Comparison,
    rows: int,
    mix: Sequence[int] | None,
    rng: np.random.Generator,
    draws: int,
) -> np.ndarray:
    """Distances (draws,) of windows whose rows are drawn one by one."""
    groups = one.groups
    reference = groups.gather(one.tally.counts)
    total = int(reference.sum())
    if not total:
        return np.zeros(draws)
    if one.aspect == "values":
        rows = round(rows * total / max(one.tally.rows, 1))
    # The reference is a sample too, which makes a difference of both as large as one of fewer rows.
    effective = max(rows * total / (rows + total), 1.0)
    weights = np.array(mix if mix is not None and any(mix) else reference.sum(axis=1), np.float64)
    counts = np.zeros((draws, len(reference), groups.size), np.int64)
    for season, size in enumerate(_whole(effective * weights / weights.sum())):
        shares = _likely(one, reference[season] if reference[season].any() else reference.sum(0))
        counts[:, season] = _drawn(size, shares, rng, draws)
    return one.distances(counts)


def _drawn(rows: int, shares: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Counts (draws, groups) of `rows` rows each."""
    if rows < _MANY:
        return np.asarray(rng.multinomial(rows, shares, size=draws))
    # Of many rows, counts are normal or, where few are expected, Poisson: a tenth of the time.
    roots, expected = np.sqrt(shares), rows * shares
    noise = rng.standard_normal((draws, len(shares)))
    noise -= (noise @ roots)[:, None] * roots
    drawn = np.rint(expected + math.sqrt(rows) * roots * noise)
    few = expected < 25
    drawn[:, few] = rng.poisson(expected[few], (draws, int(few.sum())))
    return np.asarray(drawn.clip(0), np.int64)


def _whole(sizes: np.ndarray) -> list[int]:
    """Sizes as whole numbers with the same sum."""
    ends = np.rint(np.cumsum(sizes)).astype(int)
    return np.diff(ends, prepend=0).tolist()  # type: ignore[no-any-return]


def _likely(one: Comparison, counts: np.ndarray) -> np.ndarray:
    """The shares (groups,) that further rows are likely to have.

    Rows of values not seen before are about as many as those of values seen once (Good, Turing).
    A share that was never seen is likely to be half a row.
    """
    shares = counts / counts.sum()
    unseen = 0.0
    if one.measure.kind == "category" and one.measure.values is None and one.aspect != "missing":
        cells = one.tally.counts.sum(axis=0)[: one.scale.size]
        unseen = min(float((cells == 1).sum()), counts.sum() / 2) / counts.sum()
    elif one.aspect == "missing" and not counts[1]:
        unseen = 0.5 / counts.sum()
    if unseen:
        shares = shares * (1 - unseen)
        shares[-1] += unseen
    likely: np.ndarray = shares / shares.sum()
    return likely


def _by_blocks(
    found: Sequence[Comparison],
    track: Track,
    window: int,
    share: float,
    rng: np.random.Generator,
    draws: int,
) -> tuple[dict[str, np.ndarray], int]:
    """Distances of blocks of neighbouring rows by comparison, and how many lie side by side.

    Of a track with only a `share` of the rows, such as those held out, blocks are taken that span
    as much time as a window does, and distances shrunk to a window's number of rows.
    """
    rows = max(min(round(window * share), track.rows // _BLOCKS_APART, track.stretch), 1)
    apart = track.rows // rows
    starts = _starts(track, rows, min(draws, 8 * apart))
    chosen = starts[:, None] + np.arange(rows)
    distances = {}
    for one in found:
        groups, season = one.groups, one.measure.season
        cells = groups.index[track.codes[one.measure.name]][chosen]
        number = SEASONS[season] if season else 1
        place = np.arange(len(starts))[:, None] * number
        if season:
            place = place + track.seasons[season][chosen]
        kept = cells >= 0
        flat = (place * groups.size + cells)[kept]
        counts = np.bincount(flat, minlength=len(starts) * number * groups.size)
        held = one.distances(counts.reshape(len(starts), number, groups.size))
        # A block is part of the reference, and pulls it to its side.
        made = held / (1 - rows / max(one.rows, rows + 1))
        distances[one.name] = made * (_filled(one, made, rows, window, rng) if share < 1 else 1.0)
    return distances, apart


def _filled(
    one: Comparison, distances: np.ndarray, rows: int, window: int, rng: np.random.Generator
) -> float:
    """By what blocks of `rows` rows shrink when their time is filled with `window` rows.

    Squares of what blocks differ in and of what chance adds to so many rows add up.
    """
    few, many = (
        float((_by_rows(one, size, None, rng, _DRAWS // 10) ** 2).mean()) for size in (rows, window)
    )
    square = float((distances**2).mean())
    return math.sqrt(min((max(square - few, 0.0) + many) / square, 1.0)) if square else 1.0


def _starts(track: Track, rows: int, most: int) -> np.ndarray:
    """Where up to `most` blocks begin, evenly spaced, none over the end of a stretch."""
    inside = np.arange(0, track.rows, track.stretch)[:, None] + np.arange(track.stretch - rows + 1)
    places = inside.ravel()
    picks = np.linspace(0, len(places) - 1, min(most, len(places))).astype(int)
    starts: np.ndarray = places[picks]
    return starts
