"""`timonel events`: the audit log."""

from typing import TYPE_CHECKING, Annotated

import typer

from timonel.cli.moments import MOMENT, moment, utc
from timonel.cli.output import Json, emit, settings, table
from timonel.cli.stores import open_database

if TYPE_CHECKING:
    from timonel.stores.events import Event

__all__ = ["events"]


def events(
    subject: Annotated[
        str | None,
        typer.Argument(help="Only what belongs to this: penguins, penguins/rf, penguins/rf@3."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help=f"From this time on: {MOMENT}.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Only of this kind: version, rollout, run, …; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell who changed what, when, from what to what, and why; the newest stand last.

    Example: [bold]timonel events penguins/rf --since 3d[/bold]
    """
    from timonel.errors import NotFound
    from timonel.stores.events import Events

    start = None if since is None else moment("--since", since)
    database = open_database(settings())
    log = Events(database) if database else None
    found = log.list(subject, start, limit, kind or ()) if log else []
    if subject is not None and not found and not (log and log.list(subject, limit=1)):
        every = log.list(limit=None) if log else []
        names = sorted({event.subject.partition("/")[0] for event in every})
        raise NotFound(
            f"There is no event of {subject!r}; there are events of: "
            f"{', '.join(names) or 'nothing yet'}."
        )
    ordered = sorted(found, key=lambda event: event.id)
    if json:
        emit([{**vars(event), "at": utc(event.at)} for event in ordered])
        return
    table(
        "events",
        ["when (UTC)", "who", "kind", "subject", "change", "reason"],
        [
            [
                utc(event.at),
                event.who,
                event.kind,
                event.subject,
                _change(event),
                event.evidence.get("reason") or "",
            ]
            for event in ordered
        ],
    )


def _change(event: "Event") -> str:
    share = event.evidence.get("share")
    at = f" at {100 * share:.4g} %" if event.kind == "rollout" and share else ""
    return f"{event.before or '–'} → {event.after or '–'}{at}"
