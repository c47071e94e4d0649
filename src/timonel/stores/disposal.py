"""Letting go of objects: named in an event with the change that needs them no more, then deleted.

Killed in between, the objects are still named by an event, and the next disposal deletes them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from timonel.stores import tables
from timonel.stores.database import Database
from timonel.stores.events import Events, record
from timonel.stores.keeping import keeping
from timonel.stores.objects import ObjectStore

__all__ = ["Disposal", "disposing"]

_KIND = "journal"
_OPEN, _DONE = "deleting", "deleted"


class Disposal:
    """What one pass over a project's journal does away with; `who` is for the audit log."""

    def __init__(self, database: Database, objects: ObjectStore, project: str, who: str) -> None:
        self.database = database
        self.objects = objects
        self.project = project
        self.who = who

    @property
    def subject(self) -> str:
        """What its events are about, such as `penguins/journal`."""
        return f"{self.project}/journal"

    def record(
        self, connection: Connection, reason: str, *, gone: Iterable[str] = (), **evidence: Any
    ) -> None:
        """Add the event to a change; the objects at the keys `gone` go after it is committed."""
        self._record(connection, _OPEN, {**evidence, "reason": reason, "objects": list(gone)})

    def finish(
        self, reason: str, evidence: Mapping[str, Any], *, kept: Collection[str] = ()
    ) -> int:
        """Delete what was let go of, also by a pass that was killed; how many objects there were.

        One that a segment refers to, or that is among `kept`, stays. Without anything to do there
        is no event.
        """
        pending, found = self._pending()
        gone = 0
        for key in sorted(pending - self._referred(pending) - set(kept)):
            if self.objects.exists(key):
                self.objects.delete(key)
                gone += 1
        if found:
            with self.database.begin() as connection:
                self._record(connection, _DONE, {**evidence, "reason": reason, "objects": gone})
        return gone

    def _pending(self) -> tuple[set[str], bool]:
        """The keys named since the last pass that ended, and whether there was an event."""
        keys: set[str] = set()
        found = False
        for event in Events(self.database).list(self.subject, limit=None, kinds=[_KIND]):
            if event.after == _DONE:
                break
            found = True
            keys.update(event.evidence["objects"])
        return keys, found

    def _referred(self, keys: Collection[str]) -> set[str]:
        column = tables.segments.c.object_key
        with self.database.read() as connection:
            return {key for key in connection.execute(select(column)).scalars() if key in keys}

    def _record(self, connection: Connection, after: str, evidence: Mapping[str, Any]) -> None:
        record(
            connection,
            at=self.database.clock(),
            who=self.who,
            kind=_KIND,
            subject=self.subject,
            before=None if after == _OPEN else _OPEN,
            after=after,
            evidence=evidence,
        )


@contextmanager
def disposing(
    home: Path,
    database: Database,
    objects: ObjectStore,
    project: str,
    who: str,
    *,
    wait: bool = True,
) -> Iterator[Disposal]:
    """Be the one that deletes in a home; a backup that is being made is waited for.

    Raises:
        Busy: there is one, or another deletes, and `wait` is False.
    """
    with keeping(home, deleting=True, wait=wait):
        yield Disposal(database, objects, project, who)
