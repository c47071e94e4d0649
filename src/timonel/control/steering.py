"""The rollouts that go on, moved by what their traffic says: one look is one tick.

A tick may be repeated, and be ended anywhere: whatever it changes is one transaction that starts
from the state that it looked at.
"""

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from timonel.control.gather import Gatherer
from timonel.control.plan import Decision, Standing, decide, traffic
from timonel.errors import Busy, TimonelError
from timonel.ids import Ids
from timonel.rollouts import Rollout as Plan
from timonel.stores.database import Database
from timonel.stores.labels import Labels
from timonel.stores.rollouts import Rollouts
from timonel.stores.rollouts import Standing as Rollout
from timonel.stores.versions import Version, Versions

__all__ = ["Steering", "evidence_of"]

_log = logging.getLogger(__name__)

_LABELS_EXPECTED = 30 * 86_400.0
"""seconds back in which a label must have come for more to be expected"""
_WHO = "controller"


class Steering:
    """Decides for every active rollout; used by the one controller that holds the lease."""

    def __init__(
        self, database: Database, gather: Gatherer, *, ids: Callable[[], uuid.UUID] | None = None
    ) -> None:
        self._database = database
        self._rollouts = Rollouts(database)
        self._versions = Versions(database)
        self._labels = Labels(database)
        self._gather = gather
        self._ids = ids or Ids()

    def tick(self) -> Sequence[tuple[Rollout, Decision]]:
        """Look at each rollout once; what was decided, whether or not it changed anything."""
        active = self._rollouts.active()
        self._gather.forget_all_but([rollout.id for rollout in active])
        decided = []
        for rollout in active:
            try:
                decided.append((rollout, self._look_at(rollout)))
            except Busy as error:  # a person was quicker: the next tick sees what they did
                _log.info("%s: %s", rollout.label, error)
            except TimonelError as error:  # one rollout's trouble must not stop the others
                _log.warning("%s waits: %s", rollout.label, error)
        return decided

    def _look_at(self, rollout: Rollout) -> Decision:
        now = self._database.clock()
        serving = self._versions.champion(rollout.project, rollout.model)
        expected = rollout.challenger if rollout.state == "watching" else rollout.champion
        if serving is None or serving.number != expected:
            name = serving.label if serving else "no version"
            reason = f"{name} serves by now: it was changed by hand."
            self._rollouts.abort(rollout.id, who=_WHO, reason=reason)
            raise Busy(reason)
        champion, challenger = self._pair(rollout)
        gathered = self._gather(rollout, champion, challenger)
        standing = Standing(
            state=rollout.state,  # type: ignore[arg-type]  # active() gives no others
            step=rollout.step,
            requests=gathered.step_requests,
            since=rollout.since,
            started=rollout.started,
        )
        labels = self._labels.count(rollout.project, now - _LABELS_EXPECTED) > 0
        decision = decide(rollout.plan, standing, gathered.evidence, now, labels=labels)
        self._act(rollout, decision)
        return decision

    def _pair(self, rollout: Rollout) -> tuple[Version, Version]:
        names = (rollout.project, rollout.model)
        return (
            self._versions.get(*names, rollout.champion),
            self._versions.get(*names, rollout.challenger),
        )

    def _act(self, rollout: Rollout, decision: Decision) -> None:
        evidence = evidence_of(decision)
        said: dict[str, Any] = {"reason": decision.sentence, "evidence": evidence}
        match decision.act:
            case "hold":
                if rollout.reason != decision.sentence:
                    self._rollouts.note(rollout.id, **said)
            case "step":
                moved = traffic(rollout.plan, rollout.step + 1)
                self._rollouts.step(
                    rollout.id,
                    rollout.step + 1,
                    share=moved.share,
                    mirror=moved.mirror,
                    who=_WHO,
                    **said,
                )
            case "promote":
                self._rollouts.promote(rollout.id, who=_WHO, **said)
            case "roll back":
                self._rollouts.roll_back(rollout.id, who=_WHO, **said)
            case "settle":
                self._rollouts.settle(rollout.id, who=_WHO, **said)
            case "end":
                self._rollouts.end(rollout.id, who=_WHO, **said)
        if decision.act != "hold":
            _log.info("%s: %s. %s", rollout.label, decision.act, decision.sentence)

    def start_waiting(self, plans: Mapping[tuple[str, str], Plan]) -> Sequence[Rollout]:
        """Begin the rollout of the newest challenger of each model that has none going on.

        `plans` has the plan of each (project, model) whose rollouts begin by themselves.
        """
        going = {(rollout.project, rollout.model) for rollout in self._rollouts.active()}
        begun = []
        for (project, model), plan in plans.items():
            if (project, model) in going or self._versions.champion(project, model) is None:
                continue
            waiting = [v for v in self._versions.list(project, model) if v.state == "challenger"]
            tried = {rollout.challenger for rollout in self._rollouts.list(project, model, 1_000)}
            fresh = [version for version in waiting if version.number not in tried]
            if not fresh:
                continue
            newest = max(fresh, key=lambda version: version.number)
            first = traffic(plan, 0)
            begun.append(
                self._rollouts.start(
                    project,
                    model,
                    newest.number,
                    plan,
                    id=str(self._ids()),
                    share=first.share,
                    mirror=first.mirror,
                    who=_WHO,
                    reason=newest.reason,
                )
            )
        return begun


def evidence_of(decision: Decision) -> dict[str, Any]:
    """What a decision stands on, as JSON: a check each, with its bounds and sentence."""
    checks = [
        {
            name: (None if isinstance(value, float) and not abs(value) < float("inf") else value)
            for name, value in msgspec.to_builtins(check).items()
        }
        for check in decision.verdict.checks
    ]
    return {"act": decision.act, "outcome": decision.verdict.outcome, "checks": checks}
