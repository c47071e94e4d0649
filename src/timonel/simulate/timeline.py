"""What happened meanwhile, read from the events: alarms, runs, the gate, rollouts, their ends."""

from collections.abc import Sequence
from dataclasses import dataclass

from timonel.errors import StoreError
from timonel.stores.database import Database
from timonel.stores.events import Event, Events

__all__ = ["ENDS", "Moment", "Timeline", "moment_of"]

ENDS = frozenset({"promoted", "rolled back", "aborted", "compared"})
"""The stages with which a rollout has done what it was for."""


@dataclass(frozen=True)
class Moment:
    """One thing that happened, `at` seconds after the beginning, in a word and a sentence."""

    at: float
    stage: str
    subject: str
    sentence: str


class Timeline:
    """The events of one project since `began` (seconds since 1970), each told once."""

    def __init__(self, database: Database, project: str, *, began: float) -> None:
        self._events = Events(database)
        self._project = project
        self._began = began
        newest = self._events.list(limit=1)
        self._seen = newest[0].id if newest else 0

    def news(self) -> Sequence[Moment]:
        """What was recorded since the last call, oldest first; nothing while there is no store."""
        try:
            events = self._events.list(self._project, since=self._began - 1.0, limit=None)
        except StoreError:
            return ()
        fresh = [event for event in reversed(events) if event.id > self._seen]
        if fresh:
            self._seen = fresh[-1].id
        moments = (moment_of(event, self._began) for event in fresh)
        return [moment for moment in moments if moment is not None]


def moment_of(event: Event, began: float) -> Moment | None:
    """What an event is to somebody who watches; None when another one tells it."""
    stage = _stage(event)
    if stage is None:
        return None
    evidence = event.evidence
    sentence = str(evidence.get("sentence") or evidence.get("reason") or "")
    if stage == "step":
        sentence = f"{evidence['share']:.0%} of the requests. {sentence}"
    return Moment(event.at - began, stage, event.subject, sentence)


def _stage(event: Event) -> str | None:
    match event.kind:
        case "drift" | "accuracy":
            return "quiet" if event.after == "ok" else "alarm"
        case "retrain":
            return "retraining" if event.after == "retrain" else "retrained"
        case "run":
            return "run" if event.before is None else f"run {event.after}"
        case "version":
            return _stage_of_version(event)
        case "rollout":
            return _stage_of_rollout(event)
    return None


def _stage_of_version(event: Event) -> str | None:
    if event.after == "refused":
        return "refused"
    if event.before == "candidate" and event.who.startswith("run "):
        return "gate"
    if event.after == "champion" and "rollout" not in event.evidence:
        return "champion"
    return None


def _stage_of_rollout(event: Event) -> str | None:
    if event.before is None:
        return "rollout"
    if event.before == "watching" and event.after == "promoted":
        return "settled"
    names = {
        "running": "step" if event.before == "running" else "resumed",
        "watching": "promoted",
        "rolled_back": "rolled back",
        "ended": "compared",
    }
    return names.get(event.after or "", event.after)
