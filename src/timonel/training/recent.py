"""The gate after a change: recent rows first, then those of the reference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from timonel.policies import Gate
from timonel.signature import Label
from timonel.training import gate as gates

__all__ = ["Rivals", "judge_recent_first"]

_NEVER = 2**53


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """What both versions answered: class indices int64 (n,), beside the true ones `y` (n,).

    `spread` is of the metric over folds, where it is known.
    """

    candidate: gates.Held
    champion: gates.Held | None
    metric: str
    y: np.ndarray
    classes: Sequence[Label]
    spread: float | None = None
    champion_spread: float | None = None
    seed: int = 0

    def judged(self, gate: Gate, rows: np.ndarray | None = None) -> gates.Decision:
        """The gate's decision on all rows, or on those where `rows` (n,) is True."""
        chosen = np.ones(len(self.y), bool) if rows is None else rows

        def of(held: gates.Held) -> gates.Held:
            return gates.Held(held.label, held.predicted[chosen])

        return gates.judge(
            gate,
            candidate=of(self.candidate),
            champion=None if self.champion is None else of(self.champion),
            metric=self.metric,
            y=self.y[chosen],
            classes=self.classes,
            spread=self.spread,
            champion_spread=self.champion_spread,
            seed=self.seed,
        )


def judge_recent_first(gate: Gate, rivals: Rivals, live: np.ndarray) -> gates.Decision:
    """Judge on the rows where `live` (n,) is True, then on the others.

    Worse on recent rows is refused, whatever it is on the others. One that is clearly better there
    (the lower bound is above 0) must keep to `gate.past` on the others, over all of them and
    neither class by class nor over folds: what a class means may have changed, and they tell of the
    past. One that is only not worse there must pass the whole gate on the others as well, and so
    must one that there were too few recent rows to tell of. The floor is asked of recent rows.

    With fewer than `gate.recent` such rows, or without a champion, all rows are judged together.
    """
    recent, others = int(live.sum()), int((~live).sum())
    if recent < gate.recent or not others or rivals.champion is None:
        return rivals.judged(gate)
    first = replace(rivals, spread=None, champion_spread=None).judged(gate, live)
    unknown = first.verdict == "too few rows"
    if not first.passed and not unknown:
        return _said(first, f"On {recent:,} recent rows: {first.sentence}", {"judged": "recent"})
    better = first.passed and float(first.evidence.get("low", 0.0)) > 0.0
    asked = replace(gate, superiority=False, floor=gate.floor if unknown else None)
    if better:
        margin = gate.margin if gate.past is None else gate.past
        asked = replace(asked, class_rows=_NEVER, margin=margin)
        rivals = replace(rivals, spread=None, champion_spread=None)
    second = rivals.judged(asked, ~live)
    how = ", over all of them only since it is better on recent ones" if better else ""
    sentence = (
        f"On {recent:,} recent rows: {first.sentence} "
        f"On {others:,} rows of the reference{how}: {second.sentence}"
    )
    evidence = {
        "judged": "recent, then reference",
        "recent": first.evidence | {"verdict": first.verdict},
        "better_on_recent": better,
    }
    return _said(second, sentence, evidence)


def _said(decision: gates.Decision, sentence: str, evidence: dict[str, Any]) -> gates.Decision:
    return replace(decision, sentence=sentence, evidence={**decision.evidence, **evidence})
