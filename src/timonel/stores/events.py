"""The audit log: who changed what, when, from what to what, and on what evidence."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, or_, select

from timonel.stores import tables
from timonel.stores.database import Database

__all__ = ["Event", "Events", "record"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One change. `subject`: "digits/cnn@4" or "digits/runs/<id>"; `before` is None at a birth."""

    id: int
    at: float
    who: str
    kind: str
    subject: str
    before: str | None
    after: str | None
    evidence: dict[str, Any]


def record(
    connection: Connection,
    *,
    at: float,
    who: str,
    kind: str,
    subject: str,
    before: str | None,
    after: str | None,
    evidence: Mapping[str, Any],
) -> None:
    """Add one event to the transaction that makes the change; `evidence` must be JSON."""
    connection.execute(
        insert(tables.events).values(
            at=at,
            who=who,
            kind=kind,
            subject=subject,
            before=before,
            after=after,
            evidence=dict(evidence),
        )
    )


class Events:
    """The log, to be read; only the stores write it, each with its own change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self,
        subject: str | None = None,
        since: float | None = None,
        limit: int | None = 100,
        kinds: Collection[str] = (),
    ) -> Sequence[Event]:
        """The newest `limit` events (None: all) of some `kinds` (default: all), newest first.

        `subject` takes in what belongs to it: "digits" all its models and runs, "digits/cnn" all
        its versions. `since`: seconds since 1970, included.
        """
        column = tables.events.c.subject
        query = select(tables.events).order_by(tables.events.c.id.desc()).limit(limit)
        if subject is not None:
            query = query.where(
                or_(
                    column == subject,
                    column.startswith(f"{subject}/", autoescape=True),
                    column.startswith(f"{subject}@", autoescape=True),
                )
            )
        if since is not None:
            query = query.where(tables.events.c.at >= since)
        if kinds:
            query = query.where(tables.events.c.kind.in_(kinds))
        with self._database.read() as connection:
            return [Event(**row) for row in connection.execute(query).mappings()]
