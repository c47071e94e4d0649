"""`timonel history`: what served when, and why."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from timonel.cli.moments import MOMENT, moment, utc
from timonel.cli.output import Json, emit, settings, table
from timonel.cli.stores import open_database

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from timonel.stores.events import Event
    from timonel.stores.history import Moment

__all__ = ["history"]


def history(
    name: Annotated[
        str, typer.Argument(metavar="PROJECT[/MODEL]", help="A model, or all of a project's.")
    ],
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help=f"Only what served then: {MOMENT}.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell what served when and why, a line a change; or in a sentence, what served at a time.

    It is worked out from the events: what was decided. Workers follow within half a second; each
    answer in the journal names the version that gave it.

    Example: [bold]timonel history penguins/rf --at 2026-11-20T14:05[/bold]
    """
    from timonel.errors import NotFound
    from timonel.stores.events import Events
    from timonel.stores.history import KINDS, histories

    when = None if at is None else moment("--at", at)
    database = open_database(settings())
    events = Events(database).list(limit=None, kinds=KINDS) if database else []
    every = histories(events)
    found = {
        model: moments for model, moments in every.items() if name in (model, model.split("/")[0])
    }
    if not found:
        raise NotFound(
            f"Nothing ever served {name!r}; something did serve: "
            f"{', '.join(every) or 'no model yet'}.",
            remedy="Serve or train a project: timonel up NAME",
        )
    if when is not None:
        _tell(found, {event.id: event for event in events}, when, as_json=json)
    elif json:
        emit({model: [_facts(one) for one in moments] for model, moments in found.items()})
    else:
        _show(found)


def _show(found: "Mapping[str, Sequence[Moment]]") -> None:
    rows = sorted(
        (one.at, model, _champion(one), _challenger(one), one.who, one.reason)
        for model, moments in found.items()
        for one in moments
    )
    table(
        "history",
        ["from (UTC)", "model", "served by", "challenger", "who", "reason"],
        [[utc(at), *rest] for at, *rest in rows],
    )


def _tell(
    found: "Mapping[str, Sequence[Moment]]",
    events: "Mapping[int, Event]",
    when: float,
    *,
    as_json: bool,
) -> None:
    """What served at a time: a sentence a model, and the events that say so."""
    from timonel.stores.history import sentence, serving_at

    told = []
    for model, moments in found.items():
        one = serving_at(moments, when)
        told.append((model, sentence(model, moments, when), one, _proof(one)))
    if as_json:
        emit(
            [
                {
                    "model": model,
                    "at": utc(when),
                    "sentence": said,
                    "served": _facts(one) if one else None,
                    "events": [{**vars(events[id]), "at": utc(events[id].at)} for id in proof],
                }
                for model, said, one, proof in told
            ]
        )
        return
    for _, said, _, proof in told:
        typer.echo(said)
        for event in (events[id] for id in proof):
            typer.echo(
                f"  event {event.id}: {event.subject} {event.before or '–'} → {event.after or '–'}"
                f" at {utc(event.at)} by {event.who}"
            )


def _proof(one: "Moment | None") -> list[int]:
    """The events by which it was so; those that ended it, when nothing served."""
    if one is None:
        return []
    return [part.event for part in (one.champion, one.shift) if part] or list(one.events)


def _champion(one: "Moment") -> str:
    return one.champion.version if one.champion else "nothing"


def _challenger(one: "Moment") -> str:
    if one.shift is None:
        return ""
    parts = [
        f"{100 * share:.4g} % {word}"
        for share, word in ((one.shift.share, "of requests"), (one.shift.mirror, "mirrored"))
        if share
    ]
    return f"{one.shift.version} {', '.join(parts)}{' (paused)' if one.shift.paused else ''}"


def _facts(one: "Moment") -> dict[str, Any]:
    def facts(part: Any) -> dict[str, Any] | None:
        return {**vars(part), "since": utc(part.since)} if part else None

    return {
        "at": utc(one.at),
        "champion": facts(one.champion),
        "shift": facts(one.shift),
        "who": one.who,
        "reason": one.reason,
        "events": list(one.events),
    }
