"""Whether to train a project anew: a pure rule on what is known at a moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from timonel.policies import Retrain

__all__ = ["Decision", "Signals", "Situation", "decide"]

Why = Literal[
    "quiet", "starting", "running", "rollout", "rows", "cool-down", "runs", "minutes", "go",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What is known of one model's champion.

    `windows` are those in a row, up to the newest, in which drift was found; `severity` the least
    in as many of them as the policy asks for, and `since` when it began (s since 1970). `live` is
    its accuracy on labelled live rows with a 95 % interval, `held` that on held-out rows.
    """

    model: str
    windows: int = 0
    severity: float = 0.0
    since: float | None = None
    live: float | None = None
    low: float = 0.0
    high: float = 1.0
    held: float | None = None


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known of a project at `now` (times are seconds since 1970).

    `trained` is when it last was, or began to be. `labelled` are the live rows that have a label
    since then, `drifting` those since drift began, `recent` those of the policy's `back` seconds.
    `starting` and `running` name a run, `rollout` a challenger that is on its way. `ended` is when
    the last run ended; `runs` and `minutes` are what the rule itself began in the last seven days.
    """

    now: float
    models: tuple[Signals, ...]
    trained: float
    labelled: int = 0
    drifting: int = 0
    recent: int = 0
    starting: str | None = None
    running: str | None = None
    rollout: str | None = None
    ended: float | None = None
    runs: int = 0
    minutes: float = 0.0


@dataclass(frozen=True)
class Decision:
    """To `retrain` the `models` or to `hold`, `why` in a word and a sentence.

    `called` are the triggers that called for it. `since` is from when on live rows are wanted, None
    for as long as the policy says.
    """

    act: Literal["hold", "retrain"]
    why: Why
    sentence: str
    called: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    since: float | None = None
    evidence: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from another that is worth keeping; numbers move all the time."""
        return (self.act, self.why, *self.called, *self.models)


@dataclass(frozen=True)
class _Call:
    trigger: str
    sentence: str
    models: tuple[str, ...]


def decide(situation: Situation, policy: Retrain) -> Decision:
    """Whether to train now. It depends on nothing else."""
    calls = list(_calls(situation, policy))
    evidence = tuple(msgspec.to_builtins(situation).items())
    if not calls:
        return Decision("hold", "quiet", _quiet(situation, policy), evidence=evidence)
    called = tuple(call.trigger for call in calls)
    models = tuple(dict.fromkeys(model for call in calls for model in call.models))
    reason = "; ".join(call.sentence for call in calls)
    since = _since(situation, called, models)
    why, obstacle = _obstacle(situation, policy, called)
    if obstacle:
        sentence = f"Training is called for ({reason}), but {obstacle}."
        return Decision("hold", why, sentence, called, models, since, evidence)
    rows = situation.drifting if since is not None else situation.recent
    told = {
        "reference+window": f"the source's rows and {rows:,} labelled live ones",
        "window": f"{rows:,} labelled live rows",
        "reference": "the source's rows, read anew",
    }[policy.data]
    sentence = f"{', '.join(models)} is trained anew on {told}: {reason}."
    return Decision("retrain", "go", sentence, called, models, since, evidence)


def _calls(situation: Situation, policy: Retrain) -> Iterator[_Call]:
    every = tuple(one.model for one in situation.models)
    for one in situation.models:
        if (
            "drift" in policy.on
            and one.windows >= policy.windows
            and one.severity >= policy.severity
        ):
            told = f"drift of {one.model} in {one.windows} windows in a row"
            yield _Call("drift", f"{told}, severity {one.severity:.2g}", (one.model,))
        if "accuracy" in policy.on and one.live is not None and one.held is not None:
            floor = one.held - policy.drop
            if one.high < floor:
                yield _Call(
                    "accuracy",
                    f"accuracy of {one.model} on live rows {one.live:.3f}, at most {one.high:.3f}, "
                    f"where {one.held:.3f} was held out and {policy.drop:g} less is allowed",
                    (one.model,),
                )
    if not every:
        return
    if "labels" in policy.on and situation.labelled >= policy.labels:
        told = f"{situation.labelled:,} more labelled rows since the last training"
        yield _Call("labels", f"{told}, where {policy.labels:,} are asked for", every)
    if "schedule" in policy.on and situation.now - situation.trained >= policy.every:
        age = _time(situation.now - situation.trained)
        yield _Call("schedule", f"trained {age} ago, where it is due every {_time(policy.every)}",
                    every)  # fmt: skip


def _since(situation: Situation, called: tuple[str, ...], models: tuple[str, ...]) -> float | None:
    """When what called for it began: rows from before would not represent it."""
    if "drift" not in called:
        return None
    began = [one.since for one in situation.models if one.model in models and one.since is not None]
    return min(began, default=None)


def _obstacle(situation: Situation, policy: Retrain, called: tuple[str, ...]) -> tuple[Why, str]:
    if situation.starting:
        return "starting", f"run {situation.starting} is about to begin"
    if situation.running:
        return "running", f"run {situation.running} goes on"
    if situation.rollout:
        return "rollout", f"{situation.rollout} is on its way already"
    rows = situation.drifting if "drift" in called else situation.recent
    if policy.data != "reference" and rows < policy.rows:
        since = "since drift began" if "drift" in called else f"of the last {_time(policy.back)}"
        return "rows", f"only {rows:,} live rows {since} have a label, of {policy.rows:,} needed"
    if situation.ended is not None and situation.now - situation.ended < policy.cooldown:
        left = _time(policy.cooldown - (situation.now - situation.ended))
        return "cool-down", f"the last run ended a while ago only: {left} are left to wait"
    if situation.runs >= policy.runs:
        return "runs", f"the budget of {policy.runs} runs a week is used up"
    if situation.minutes >= policy.minutes:
        return "minutes", (
            f"the budget of {policy.minutes:g} minutes a week is used up "
            f"({situation.minutes:.1f} minutes)"
        )
    return "go", ""


def _quiet(situation: Situation, policy: Retrain) -> str:
    """Why nothing calls for training, by trigger."""
    parts = []
    if "drift" in policy.on:
        windows = max((one.windows for one in situation.models), default=0)
        parts.append(f"drift in {windows} windows in a row of {policy.windows}")
    if "accuracy" in policy.on:
        lives = [f"{one.live:.3f}" for one in situation.models if one.live is not None]
        parts.append(f"accuracy on live rows {', '.join(lives) or 'not known'}")
    if "labels" in policy.on:
        parts.append(f"{situation.labelled:,} more labelled rows of {policy.labels:,}")
    if "schedule" in policy.on:
        left = policy.every - (situation.now - situation.trained)
        parts.append(f"due in {_time(left)}")
    return f"Nothing calls for training: {'; '.join(parts)}."


def _time(seconds: float) -> str:
    """About how long, such as `3.5 days`."""
    for unit, size in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"
