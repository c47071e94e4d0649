"""What served when, and why: worked out from events alone.

Events are taken in the order in which they were written. Those of one moment count as one: what
held in between, inside a transaction, nobody was served.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from timonel.stores.events import Event

__all__ = ["KINDS", "Moment", "Shift", "Tenure", "histories", "sentence", "serving_at"]

KINDS = ("version", "rollout")
"""The kinds of events that history is made of."""

_VERSION = re.compile(r"([^/@]+/[^/@]+)@\d+")
_MOVING = ("running", "paused")


@dataclass(frozen=True, kw_only=True)
class Tenure:
    """A champion, such as "digits/cnn@4", from `since` on; `event` is the one that made it so."""

    version: str
    since: float
    who: str
    reason: str
    event: int


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A challenger that gets `share` of the live requests and is shown `mirror` of them, 0..1."""

    version: str
    rollout: str
    share: float
    mirror: float
    paused: bool
    since: float
    who: str
    reason: str
    event: int


@dataclass(frozen=True, kw_only=True)
class Moment:
    """From `at` (seconds since 1970) until the next one this served a model.

    `who` changed it to that, for `reason`; `events` are the ids of what tells so.
    """

    at: float
    champion: Tenure | None
    shift: Shift | None
    who: str
    reason: str
    events: tuple[int, ...]


def histories(events: Iterable[Event]) -> Mapping[str, Sequence[Moment]]:
    """Of each model, such as "digits/cnn", the moments at which what served it changed, rising.

    All its events of `KINDS` are expected, in any order.
    """
    found: dict[str, list[Moment]] = {}
    for event in sorted(events, key=lambda event: event.id):
        named = _VERSION.fullmatch(event.subject)
        if named is None or event.kind not in KINDS:
            continue
        moments = found.setdefault(named[1], [])
        before = moments[-1] if moments else None
        after = _after(before, event)
        if after is None:
            continue
        if before is not None and before.at == after.at:
            moments[-1] = replace(after, events=(*before.events, event.id))
        else:
            moments.append(after)
    return {model: moments for model, moments in sorted(found.items()) if moments}


def serving_at(moments: Sequence[Moment], at: float) -> Moment | None:
    """The moment of a model's history that `at` falls in; None before the first."""
    return next((moment for moment in reversed(moments) if moment.at <= at), None)


def sentence(model: str, moments: Sequence[Moment], at: float) -> str:
    """What served a model at a time, and why, for a person; times in UTC."""
    now, when = serving_at(moments, at), _utc(at)
    if now is None:
        first = next((m.champion for m in moments if m.champion), None)
        then = (
            f"; its first champion was {first.version}, from {_utc(first.since)}" if first else ""
        )
        return f"At {when} nothing served {model} yet{then}."
    if now.champion is None:
        return f"At {when} nothing served {model}: {_because(now.who, now.at, now.reason)}."
    champion, shift = now.champion, now.shift
    why = _because(champion.who, champion.since, champion.reason)
    if shift is None or shift.version == champion.version:  # promoted by hand in the middle
        return f"At {when} {champion.version} answered every request, champion {why}."
    moved = _because(shift.who, shift.since, shift.reason)
    halted = ", paused" if shift.paused else ""
    if not shift.share:
        return (
            f"At {when} {champion.version} answered every request, champion {why}; its challenger "
            f"{shift.version} was shown {shift.mirror:.4g} of them unseen{halted}, {moved}."
        )
    return (
        f"At {when} {champion.version} answered {_percent(1 - shift.share)} of the requests, "
        f"champion {why}, and its challenger {shift.version} {_percent(shift.share)}{halted}, "
        f"{moved}."
    )


def _after(before: Moment | None, event: Event) -> Moment | None:
    """What an event makes of what served before; None where it changes nothing of that."""
    champion = before.champion if before else None
    shift = before.shift if before else None
    reason = str(event.evidence.get("reason", ""))
    if event.kind == "version":
        if event.after == "champion":
            champion = Tenure(
                version=event.subject,
                since=event.at,
                who=event.who,
                reason=reason,
                event=event.id,
            )
        elif champion is not None and champion.version == event.subject:
            champion = None
    elif event.after in _MOVING:
        shift = _shift(shift, event, reason)
    elif shift is not None and shift.version == event.subject:
        shift = None
    if before is not None and (champion, shift) == (before.champion, before.shift):
        return None
    if before is None and champion is None and shift is None:
        return None
    # A clock that was set back must not put a later change before an earlier one.
    at = max(event.at, before.at) if before else event.at
    return Moment(
        at=at,
        champion=champion,
        shift=shift,
        who=event.who,
        reason=reason,
        events=(event.id,),
    )


def _shift(before: Shift | None, event: Event, reason: str) -> Shift:
    """A rollout that goes on; a pause keeps the share that it was at."""
    rollout = str(event.evidence.get("rollout", ""))
    known = before if before and before.rollout == rollout else None
    return Shift(
        version=event.subject,
        rollout=rollout,
        share=float(event.evidence.get("share", known.share if known else 0.0)),
        mirror=float(event.evidence.get("mirror", known.mirror if known else 0.0)),
        paused=event.after == "paused",
        since=event.at,
        who=event.who,
        reason=reason,
        event=event.id,
    )


def _because(who: str, since: float, reason: str) -> str:
    said = f": {reason.rstrip('.')}" if reason else ""
    return f"since {_utc(since)} by {who}{said}"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
