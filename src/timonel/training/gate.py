"""The gate: may a candidate take the champion's place, judged on the same held-out rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from timonel.policies import Gate
from timonel.signature import Label
from timonel.training.evaluate import metric_of_counts

__all__ = ["Decision", "Difference", "Held", "judge", "paired_bounds"]

Verdict = Literal[
    "first", "passed", "below floor", "worse", "worse in a class", "unstable",
    "not better", "too few rows",
]  # fmt: skip

_RESAMPLES = 4_000
# A spread over folds below this (in the metric's units) is no sign of instability by itself.
_STEADY = 0.01
# Share of equal candidates that the checks of the classes together must let pass.
_POWER = 0.8


@dataclass(frozen=True)
class Held:
    """The answers of one version: its label, and class indices int64 (n,) on the held-out rows."""

    label: str
    predicted: np.ndarray


@dataclass(frozen=True)
class Difference:
    """Candidate minus champion, with the bounds of one-sided intervals on either side."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Decision:
    """Whether the candidate passes, why as a sentence, and the numbers behind it (JSON values)."""

    passed: bool
    verdict: Verdict
    sentence: str
    evidence: dict[str, Any] = field(default_factory=dict)


def judge(
    gate: Gate,
    *,
    candidate: Held,
    champion: Held | None,
    metric: str,
    y: np.ndarray,
    classes: Sequence[Label],
    spread: float | None = None,
    champion_spread: float | None = None,
    seed: int = 0,
) -> Decision:
    """Judge a candidate against the champion on the rows whose class indices are `y` (n,).

    Without a champion only the floor counts. Identical answers pass. Otherwise the metric's lower
    bound (one-sided, at `gate.confidence`) must reach −margin, or 0 for superiority. Each class
    with `class_rows` rows, and enough of them for equal candidates to pass, needs the same of its
    recall with `class_margin`; in other classes only a recall shown to be lower refuses. `spread`
    over folds may be `stability` times the champion's; up to 0.01 it always may.

    Accuracy and recall use Tango's score interval for paired shares (1998); balanced accuracy
    combines those of the recalls (MOVER); weighted F1 uses a seeded paired bootstrap.
    """
    size, rows = len(classes), len(y)
    value = float(metric_of_counts(metric, _confusion(y, candidate.predicted, size)))
    evidence: dict[str, Any] = {
        "metric": metric,
        "rows": rows,
        "candidate": candidate.label,
        "value": value,
        "confidence": gate.confidence,
        "seed": seed,
    }
    if gate.floor is not None and not value >= gate.floor:
        return Decision(
            False,
            "below floor",
            f"{candidate.label} was refused: its {metric} of {value:.4f} on {rows:,} held-out rows "
            f"is below the floor of {gate.floor:g}.",
            evidence | {"floor": gate.floor},
        )
    if champion is None:
        asked = (
            f"reaches the floor of {gate.floor:g}"
            if gate.floor is not None
            else "has no floor to reach"
        )
        return Decision(
            True,
            "first",
            f"{candidate.label} passed as the first version: its {metric} of {value:.4f} on "
            f"{rows:,} held-out rows {asked}, and there is no champion to compare it with.",
            evidence | {"floor": gate.floor},
        )
    case = _Case(gate, candidate, champion, metric, y, classes, seed)
    evidence |= case.evidence()
    return (
        case.identical(evidence)
        or case.unstable(spread, champion_spread, evidence)
        or case.overall(evidence)
        or case.by_class(evidence)
        or case.passed(evidence)
    )


@dataclass(frozen=True)
class _Case:
    gate: Gate
    candidate: Held
    champion: Held
    metric: str
    y: np.ndarray
    classes: Sequence[Label]
    seed: int

    def evidence(self) -> dict[str, Any]:
        size = len(self.classes)
        before = metric_of_counts(self.metric, _confusion(self.y, self.champion.predicted, size))
        return {
            "champion": self.champion.label,
            "champion_value": float(before),
            "margin": self.gate.margin,
            "disagreements": int(np.sum(self.candidate.predicted != self.champion.predicted)),
        }

    def unstable(
        self, spread: float | None, before: float | None, evidence: dict[str, Any]
    ) -> Decision | None:
        if spread is None or before is None:
            return None
        evidence |= {"spread": spread, "champion_spread": before}
        allowed = max(self.gate.stability * before, _STEADY)
        if spread <= allowed:
            return None
        return self._refused(
            "unstable",
            f"its {self.metric} varies over folds by {spread:.4f} (standard deviation), more than "
            f"the {allowed:.4f} allowed; the champion's varies by {before:.4f}",
            evidence | {"allowed_spread": allowed},
        )

    def identical(self, evidence: dict[str, Any]) -> Decision | None:
        if evidence["disagreements"] or self.gate.superiority:
            return None
        return Decision(
            True,
            "passed",
            f"{self.candidate.label} passed: it answers all {len(self.y):,} held-out rows as "
            f"{self.champion.label} does.",
            evidence,
        )

    def overall(self, evidence: dict[str, Any]) -> Decision | None:
        found, even = self._difference()
        needed = 0.0 if self.gate.superiority else -self.gate.margin
        evidence |= {"difference": found.value, "low": found.low, "high": found.high}
        evidence["needed"] = needed
        if found.high < 0.0 and found.low < needed:
            return self._refused(
                "worse",
                f"it is worse than {self.champion.label}: {self._numbers(found)}",
                evidence,
            )
        if self.gate.superiority:
            if found.low > 0.0:
                return None
            return self._refused(
                "not better",
                f"it is not shown to be better than {self.champion.label}, which this project asks "
                f"for: {self._numbers(found)}",
                evidence,
            )
        if found.low >= needed:
            return None
        if even < needed:
            return self._refused(
                "too few rows",
                f"there are not enough held-out rows to tell: with {len(self.y):,} rows and "
                f"{evidence['disagreements']:,} different answers not even an equal candidate "
                f"could be shown to be within {self.gate.margin:g} of {self.champion.label} "
                f"({self._numbers(found)})",
                evidence,
            )
        return self._refused(
            "worse",
            f"it may be worse than {self.champion.label} by more than the margin of "
            f"{self.gate.margin:g}: {self._numbers(found)}",
            evidence,
        )

    def by_class(self, evidence: dict[str, Any]) -> Decision | None:
        right = self.candidate.predicted == self.y
        before = self.champion.predicted == self.y
        support = np.bincount(self.y, minlength=len(self.classes))
        judged = [k for k in range(len(self.classes)) if support[k] >= self.gate.class_rows]
        evidence["classes"] = notes = {}
        refused: list[str] = []
        for k in judged:
            of_class = self.y == k
            won, lost = _discordant(right[of_class], before[of_class])
            n = int(support[k])
            found = paired_bounds(won, lost, n, self.gate.confidence)
            enough = self._enough(won + lost, n, len(judged))
            if enough:
                fails = found.low < -self.gate.class_margin
            else:
                # Several classes that cannot be told apart from chance must not add up to a no.
                strict = paired_bounds(won, lost, n, 1 - (1 - self.gate.confidence) / len(judged))
                fails = found.value < -self.gate.class_margin and strict.high < 0.0
            notes[str(self.classes[k])] = {
                "rows": n,
                "difference": found.value,
                "low": found.low,
                "high": found.high,
                "enough_rows": enough,
                "passed": not fails,
            }
            if fails:
                refused.append(
                    f"{self.classes[k]} ({n:,} rows): recall {found.value:+.4f}, "
                    f"at worst {found.low:+.4f}"
                )
        if not refused:
            return None
        return self._refused(
            "worse in a class",
            f"it may be worse than {self.champion.label} by more than {self.gate.class_margin:g} "
            f"in {len(refused)} of {len(judged)} classes: {'; '.join(refused[:5])}",
            evidence,
        )

    def passed(self, evidence: dict[str, Any]) -> Decision:
        found = Difference(evidence["difference"], evidence["low"], evidence["high"])
        how = "better than" if self.gate.superiority else "not worse than"
        return Decision(
            True,
            "passed",
            f"{self.candidate.label} passed: it is {how} {self.champion.label} on "
            f"{len(self.y):,} held-out rows: {self._numbers(found)}.",
            evidence,
        )

    def _refused(self, verdict: Verdict, why: str, evidence: dict[str, Any]) -> Decision:
        return Decision(False, verdict, f"{self.candidate.label} was refused: {why}.", evidence)

    def _numbers(self, found: Difference) -> str:
        return (
            f"{self.metric} {found.value:+.4f}, with {self.gate.confidence:.0%} confidence at "
            f"worst {found.low:+.4f}"
        )

    def _enough(self, disagreements: int, rows: int, judged: int) -> bool:
        """Whether equal candidates would pass a class's check often enough."""
        error = math.sqrt(max(disagreements, 1)) / rows
        z = NormalDist().inv_cdf(self.gate.confidence)
        z += NormalDist().inv_cdf(1 - (1 - _POWER) / judged)
        even = paired_bounds(0, 0, rows, self.gate.confidence).low
        return z * error <= self.gate.class_margin and even >= -self.gate.class_margin

    def _difference(self) -> tuple[Difference, float]:
        """The difference, and the lower bound if as many rows had been won as lost."""
        right = self.candidate.predicted == self.y
        before = self.champion.predicted == self.y
        confidence = self.gate.confidence
        if self.metric == "accuracy":
            won, lost = _discordant(right, before)
            found = paired_bounds(won, lost, len(self.y), confidence)
            half = (won + lost) / 2
            return found, paired_bounds(half, half, len(self.y), confidence).low
        if self.metric == "balanced_accuracy":
            parts, evens = [], []
            for k in np.unique(self.y):
                of_class = self.y == k
                won, lost = _discordant(right[of_class], before[of_class])
                rows, half = int(of_class.sum()), (won + lost) / 2
                parts.append(paired_bounds(won, lost, rows, confidence))
                evens.append(paired_bounds(half, half, rows, confidence))
            return _mean_of(parts), _mean_of(evens).low
        found = self._bootstrap()
        return found, found.low - found.value

    def _bootstrap(self) -> Difference:
        """Rows drawn with replacement, as multinomial counts of (truth, candidate, champion)."""
        size, rows = len(self.classes), len(self.y)
        cells = (self.y * size + self.candidate.predicted) * size + self.champion.predicted
        used, counts = np.unique(cells, return_counts=True)
        truth, mine = used // size**2, used // size % size
        theirs = used % size
        draws = np.random.default_rng(self.seed).multinomial(rows, counts / rows, size=_RESAMPLES)
        draws = np.vstack([counts, draws])
        differences = np.empty(len(draws))
        for start in range(0, len(draws), 200):
            part = draws[start : start + 200]
            values = []
            for answers in (mine, theirs):
                table = np.zeros((size * size, len(part)), np.int64)
                np.add.at(table, truth * size + answers, part.T)
                values.append(metric_of_counts(self.metric, table.T.reshape(-1, size, size)))
            differences[start : start + 200] = values[0] - values[1]
        tail = 1 - self.gate.confidence
        low, high = np.quantile(differences[1:], [tail, 1 - tail])
        return Difference(float(differences[0]), float(low), float(high))


def paired_bounds(won: float, lost: float, rows: int, confidence: float) -> Difference:
    """The difference of two paired shares with Tango's score bounds (Statistics in Medicine 1998).

    `won` rows are right for the first only and `lost` for the second only, of `rows`; each bound is
    one-sided at `confidence`.
    """
    if not rows:
        return Difference(0.0, -1.0, 1.0)
    z = NormalDist().inv_cdf(confidence)
    value = (won - lost) / rows
    return Difference(value, _tango(won, lost, rows, z), -_tango(lost, won, rows, z))


def _tango(won: float, lost: float, rows: int, z: float) -> float:
    """The lowest difference that the score test does not reject: found by bisection."""
    low, high = -1.0, (won - lost) / rows
    if low == high:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        b = -won - lost + (2 * rows - won + lost) * middle
        c = -lost * middle * (1 - middle)
        share = (math.sqrt(max(b * b - 8 * rows * c, 0.0)) - b) / (4 * rows)
        variance = rows * (2 * share + middle * (1 - middle))
        distance = won - lost - rows * middle
        if variance <= 0 or distance > z * math.sqrt(variance):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _mean_of(parts: Sequence[Difference]) -> Difference:
    value = sum(part.value for part in parts) / len(parts)
    below = math.sqrt(sum((part.value - part.low) ** 2 for part in parts)) / len(parts)
    above = math.sqrt(sum((part.high - part.value) ** 2 for part in parts)) / len(parts)
    return Difference(value, value - below, value + above)


def _discordant(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    return int(np.sum(first & ~second)), int(np.sum(second & ~first))


def _confusion(y: np.ndarray, predicted: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(y * size + predicted, minlength=size * size).reshape(size, size)
