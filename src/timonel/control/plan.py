"""What a rollout does next: a function of its plan, where it stands, the evidence and the time."""

from dataclasses import dataclass
from typing import Literal

from timonel.control.evidence import Evidence
from timonel.control.verdict import Verdict, judge
from timonel.rollouts import AllAtOnce, BlueGreen, Canary, Rollout, Shadow

__all__ = ["Act", "Decision", "Standing", "Traffic", "decide", "traffic"]

Act = Literal["hold", "step", "promote", "roll back", "settle", "end"]
"""`settle` ends the watch after a promotion; `end` closes a shadow that promotes nothing."""


@dataclass(frozen=True)
class Standing:
    """Where a rollout stands: its step and the requests that the challenger answered in it.

    `since` is when the step (or the watch) began, `started` when the rollout did; seconds since
    1970.
    """

    state: Literal["running", "paused", "watching"]
    step: int
    requests: int
    since: float
    started: float


@dataclass(frozen=True)
class Decision:
    """What is done next and why; `verdict` is the evidence's."""

    act: Act
    sentence: str
    verdict: Verdict


@dataclass(frozen=True)
class Traffic:
    """The share of live requests that a challenger answers, and the share it sees unseen."""

    share: float = 0.0
    mirror: float = 0.0


def traffic(plan: Rollout, step: int) -> Traffic:
    """What a plan's step moves to the challenger; steps count from 0."""
    match plan:
        case Canary():
            return Traffic(share=plan.steps[step])
        case BlueGreen() | Shadow():
            return Traffic(mirror=plan.share)
        case AllAtOnce():
            return Traffic(share=1.0)


def decide(
    plan: Rollout, standing: Standing, evidence: Evidence, now: float, *, labels: bool
) -> Decision:
    """The next act; `labels` says whether the project gets any.

    A breach rolls back at whatever moment, paused or not; all else waits for the plan's least
    requests and seconds.
    """
    verdict = judge(evidence, plan.limits, labels=labels)
    if verdict.outcome == "breach" and not isinstance(plan, Shadow):
        return Decision("roll back", verdict.sentence, verdict)
    if standing.state == "paused":
        return Decision("hold", "Paused by hand.", verdict)
    if standing.state == "watching":
        return _watch(plan, standing, now, verdict)
    match plan:
        case Canary():
            return _canary(plan, standing, now, verdict)
        case BlueGreen():
            return _mirrored(plan, standing, now, verdict)
        case Shadow():
            return _shadow(plan, standing, now, verdict)
        case AllAtOnce():
            return Decision("promote", "Passed the gate.", verdict)


def _watch(plan: Rollout, standing: Standing, now: float, verdict: Verdict) -> Decision:
    left = (0.0 if isinstance(plan, Shadow) else plan.watch) - (now - standing.since)
    if left > 0:
        return Decision("hold", f"Watched for {left:,.0f} more seconds.", verdict)
    return Decision("settle", "Nothing spoke against it while it was watched.", verdict)


def _canary(plan: Canary, standing: Standing, now: float, verdict: Verdict) -> Decision:
    is_last = standing.step == len(plan.steps) - 2  # the step after it is the promotion
    if is_last and verdict.outcome == "pass" and not _missing(plan, standing, now):
        return Decision("promote", verdict.sentence, verdict)
    if now - standing.started >= plan.longest:
        return _undecided(plan, verdict)
    if missing := _missing(plan, standing, now):
        share = plan.steps[standing.step]
        return Decision("hold", f"At {share:.0%} of the requests, {missing}.", verdict)
    if is_last:
        return Decision("hold", f"Not yet known: {verdict.sentence}", verdict)
    return Decision(
        "step",
        f"{standing.requests:,} requests at {plan.steps[standing.step]:.0%} without a breach; on "
        f"to {plan.steps[standing.step + 1]:.0%}.",
        verdict,
    )


def _mirrored(plan: BlueGreen, standing: Standing, now: float, verdict: Verdict) -> Decision:
    missing = _missing(plan, standing, now)
    if verdict.outcome == "pass" and not missing:
        return Decision("promote", verdict.sentence, verdict)
    if now - standing.started >= plan.longest:
        return _undecided(plan, verdict)
    return Decision(
        "hold",
        f"Mirrored, {missing}." if missing else f"Not yet known: {verdict.sentence}",
        verdict,
    )


def _shadow(plan: Shadow, standing: Standing, now: float, verdict: Verdict) -> Decision:
    missing = _missing(plan, standing, now)
    if plan.then == "promote" and verdict.outcome == "pass" and not missing:
        return Decision("promote", verdict.sentence, verdict)
    compared = " ".join(check.sentence for check in verdict.checks)
    late = now - standing.started >= plan.longest
    if late or (not missing and (plan.then == "keep" or verdict.outcome == "breach")):
        return Decision("end", compared, verdict)
    return Decision(
        "hold",
        f"Mirrored, {missing}." if missing else f"Not yet known: {verdict.sentence}",
        verdict,
    )


def _missing(plan: Canary | BlueGreen | Shadow, standing: Standing, now: float) -> str:
    """What a step still lacks, in words; empty when it has enough."""
    requests = plan.requests - standing.requests
    seconds = plan.seconds - (now - standing.since)
    lacks = [f"{requests:,} more requests"] if requests > 0 else []
    lacks += [f"{seconds:,.0f} more seconds"] if seconds > 0 else []
    return f"waiting for {' and '.join(lacks)}" if lacks else ""


def _undecided(plan: Canary | BlueGreen, verdict: Verdict) -> Decision:
    act: Act = "promote" if plan.undecided == "promote" else "roll back"
    return Decision(
        act,
        f"Undecided after {plan.longest:,.0f} seconds, as planned then. {verdict.sentence}",
        verdict,
    )
