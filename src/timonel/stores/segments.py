"""Closed pieces of the journal in the object store, and how far each text export has come."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from timonel.stores import tables
from timonel.stores.database import Database

__all__ = ["Segment", "Segments"]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The rows of one project in one journal file, as Parquet at `object_key`.

    `first_id` and `last_id` are prediction ids; times are seconds since 1970, UTC.
    """

    source: str
    project: str
    object_key: str
    rows: int
    first_id: str
    last_id: str
    first_time: float
    last_time: float
    added: float


class Segments:
    """The segments in the database, each recorded exactly once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        *,
        source: str,
        project: str,
        object_key: str,
        rows: int,
        first_id: str,
        last_id: str,
        first_time: float,
        last_time: float,
    ) -> bool:
        """Record a segment; False, changing nothing, when (source, project) is recorded already."""
        segment = Segment(
            source=source,
            project=project,
            object_key=object_key,
            rows=rows,
            first_id=first_id,
            last_id=last_id,
            first_time=first_time,
            last_time=last_time,
            added=self._database.clock(),
        )
        table = tables.segments
        known = select(table.c.added).where(table.c.source == source, table.c.project == project)
        with self._database.begin() as connection:
            if connection.execute(known).one_or_none() is not None:
                return False
            connection.execute(insert(table).values(**vars(segment)))
        return True

    def list(
        self, project: str | None = None, since: float | None = None, until: float | None = None
    ) -> Sequence[Segment]:
        """Segments with a row in `since` <= time < `until`, by their first time."""
        table = tables.segments
        query = select(table).order_by(table.c.first_time, table.c.source, table.c.project)
        if project is not None:
            query = query.where(table.c.project == project)
        if since is not None:
            query = query.where(table.c.last_time >= since)
        if until is not None:
            query = query.where(table.c.first_time < until)
        with self._database.read() as connection:
            return [Segment(**row) for row in connection.execute(query).mappings()]

    def holding(self, project: str, first: str, last: str) -> Sequence[Segment]:
        """Segments that may hold predictions with ids in `first`..`last`, by their first time."""
        table = tables.segments
        query = (
            select(table)
            .where(table.c.project == project)
            .where(table.c.first_id <= last, table.c.last_id >= first)
            .order_by(table.c.first_time, table.c.source)
        )
        with self._database.read() as connection:
            return [Segment(**row) for row in connection.execute(query).mappings()]

    def export_offset(self, name: str) -> int:
        """How many bytes of the export `name` are settled; what lies beyond may be cut off."""
        table = tables.exports.c
        query = select(table.offset).where(table.name == name).order_by(table.id.desc()).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none() or 0

    def advance(self, connection: Connection, name: str, offset: int, source: str) -> bool:
        """Settle the export at `offset` bytes, with the journal file `source` in it.

        False, changing nothing, when that source is in it already. Append inside the transaction
        of `connection`, at `export_offset(name)` or at the end of a file that somebody made
        shorter, after this said True: a crash before the commit leaves the old offset, and the
        next try cuts what was written.
        """
        table = tables.exports
        known = select(table.c.at).where(table.c.name == name, table.c.source == source)
        if connection.execute(known).one_or_none() is not None:
            return False
        connection.execute(
            insert(table).values(name=name, source=source, offset=offset, at=self._database.clock())
        )
        return True
