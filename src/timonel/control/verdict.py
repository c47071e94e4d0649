"""What the evidence says of a challenger: within the limits, beyond them, or not yet known.

Law 7: a verdict may be asked for after every request and stays valid. A version that is beyond one
of the limits passes with a chance of at most alpha; one that is within all three is rolled back
with a chance of at most three times alpha, and otherwise passes in the end.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from timonel.control.evidence import EDGES, Arm, Evidence, Pairs, latency_bin
from timonel.control.sequential import against_mean_at_most, mean_bounds, share_bounds
from timonel.rollouts import Limits

__all__ = ["Check", "Outcome", "Verdict", "judge"]

Outcome = Literal["pass", "breach", "open"]

_TAIL = 0.01  # what may lie above the 99th percentile


@dataclass(frozen=True)
class Check:
    """One of the limits: what was seen, between which bounds the truth is, and how it stands.

    `count` is what the judgement stands on: the challenger's requests, or the rows of both.
    """

    name: Literal["errors", "latency", "accuracy", "agreement"]
    outcome: Outcome
    estimate: float
    low: float
    high: float
    limit: float
    count: int
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """`breach` as soon as one check is, `pass` when all are."""

    outcome: Outcome
    checks: tuple[Check, ...]

    @property
    def sentence(self) -> str:
        """What decided, or what is waited for."""
        wanted = [check for check in self.checks if check.outcome == self.outcome]
        return " ".join(check.sentence for check in wanted)


def judge(evidence: Evidence, limits: Limits, *, labels: bool) -> Verdict:
    """The verdict on a challenger; `labels` says whether the project gets any."""
    by_label = limits.labels == "require" or (limits.labels == "prefer" and labels)
    quality = _accuracy if by_label else _agreement
    checks = (
        _errors(evidence.champion, evidence.challenger, limits),
        _latency(evidence.champion, evidence.challenger, limits),
        quality(evidence.pairs, limits),
    )
    outcomes = {check.outcome for check in checks}
    outcome: Outcome = (
        "breach" if "breach" in outcomes else "open" if "open" in outcomes else "pass"
    )
    return Verdict(outcome, checks)


def _errors(champion: Arm, challenger: Arm, limits: Limits) -> Check:
    ours = share_bounds(champion.failed, champion.requests, limits.alpha / 2)
    theirs = share_bounds(challenger.failed, challenger.requests, limits.alpha / 2)
    low, high = theirs[0] - ours[1], theirs[1] - ours[0]
    share = challenger.failed / challenger.requests if challenger.requests else math.nan
    usual = champion.failed / champion.requests if champion.requests else math.nan
    return Check(
        "errors",
        _outcome(low, high, limits.errors),
        share - usual,
        low,
        high,
        limits.errors,
        challenger.requests,
        f"Failed requests: {challenger.failed:,} of {challenger.requests:,}, against the "
        f"champion's {champion.failed:,} of {champion.requests:,}; the difference lies between "
        f"{low:+.2%} and {high:+.2%}, and {limits.errors:+.2%} is allowed.",
    )


def _latency(champion: Arm, challenger: Arm, limits: Limits) -> Check:
    """Whether at most 1 % of the challenger's answers take longer than the limit allows.

    The champion's own 99th percentile is known within bounds only: passing is asked below the
    lower one, a breach counts above the upper one.
    """
    alpha, ours, theirs = limits.alpha / 2, champion.answered, challenger.answered

    def share_of(arm: Arm, place: int, count: int) -> tuple[float, float]:
        return share_bounds(arm.above(place), count, alpha)

    # The share above a bin falls as the bin rises, so both bounds are found by halving.
    lowest = _first(lambda place: share_of(champion, place + 1, ours)[0] < _TAIL) - 1
    highest = _first(lambda place: share_of(champion, place + 1, ours)[1] < _TAIL)
    least = EDGES[lowest] if lowest >= 0 else 0.0
    most = EDGES[highest] if highest < len(EDGES) else math.inf
    within = share_of(challenger, latency_bin(limits.slower * least), theirs)[1] < _TAIL
    beyond = (
        math.isfinite(most)
        and share_of(challenger, latency_bin(limits.slower * most) + 1, theirs)[0] > _TAIL
    )
    usual, now = champion.quantile(0.99), challenger.quantile(0.99)
    factor = now / usual if usual else math.nan
    return Check(
        "latency",
        "breach" if beyond else "pass" if within and least else "open",
        factor,
        0.0,
        math.inf,
        limits.slower,
        theirs,
        f"99th percentile of the answer time: {now * 1e3:.1f} ms over {theirs:,} answers, against "
        f"the champion's {usual * 1e3:.1f} ms over {ours:,} (between {least * 1e3:.1f} and "
        f"{most * 1e3:.1f}); {limits.slower:g} times as long is allowed.",
    )


def _accuracy(pairs: Pairs, limits: Limits) -> Check:
    count, margin, limit = pairs.labelled, limits.accuracy, -math.log(limits.alpha)
    better = against_mean_at_most(-margin, pairs.worse, pairs.same, pairs.better) >= limit
    worse = against_mean_at_most(margin, pairs.better, pairs.same, pairs.worse) >= limit
    low, high = mean_bounds(pairs.worse, pairs.same, pairs.better, 2 * limits.alpha)
    estimate = (pairs.better - pairs.worse) / count if count else math.nan
    return Check(
        "accuracy",
        "breach" if worse else "pass" if better else "open",
        estimate,
        low,
        high,
        -margin,
        count,
        f"Of {count:,} labelled rows that both answered, only the challenger was right in "
        f"{pairs.better:,} and only the champion in {pairs.worse:,}; the difference in accuracy "
        f"lies between {low:+.2%} and {high:+.2%}, and {-margin:+.2%} is allowed.",
    )


def _agreement(pairs: Pairs, limits: Limits) -> Check:
    count = pairs.agreed + pairs.disagreed
    low, high = share_bounds(pairs.disagreed, count, limits.alpha)
    return Check(
        "agreement",
        _outcome(low, high, limits.disagreement),
        pairs.disagreed / count if count else math.nan,
        low,
        high,
        limits.disagreement,
        count,
        f"Of {count:,} rows that both answered, {pairs.disagreed:,} got another answer; that share "
        f"lies between {low:.2%} and {high:.2%}, and {limits.disagreement:.2%} is allowed.",
    )


def _outcome(low: float, high: float, limit: float) -> Outcome:
    return "breach" if low > limit else "pass" if high < limit else "open"


def _first(holds: Callable[[int], bool]) -> int:
    """The first latency bin from which on something holds; the number of bins if there is none."""
    low, high = 0, len(EDGES)
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
