"""Leases: one holder of a name at a time, for as long as it keeps saying so."""

from sqlalchemy import delete, insert, select, update

from timonel.stores import tables
from timonel.stores.database import Database
from timonel.stores.events import record

__all__ = ["Leases"]


class Leases:
    """The leases in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, name: str, holder: str, seconds: float) -> bool:
        """Take or keep a lease for so many seconds; False while somebody else holds it.

        A change of the holder is one event.
        """
        now, table = self._database.clock(), tables.leases
        with self._database.begin() as connection:
            row = connection.execute(select(table).where(table.c.name == name)).mappings().first()
            if row is not None and row["holder"] != holder and row["until"] > now:
                return False
            values = {"holder": holder, "until": now + seconds}
            if row is None:
                connection.execute(insert(table).values(name=name, **values))
            else:
                connection.execute(update(table).where(table.c.name == name).values(**values))
            if row is None or row["holder"] != holder:
                record(
                    connection,
                    at=now,
                    who=holder,
                    kind="lease",
                    subject=name,
                    before=row["holder"] if row else None,
                    after=holder,
                    evidence={"seconds": seconds},
                )
            return True

    def give_up(self, name: str, holder: str) -> None:
        """Let somebody else take it at once; nothing happens when it is not this holder's."""
        table = tables.leases
        mine = (table.c.name == name) & (table.c.holder == holder)
        with self._database.begin() as connection:
            connection.execute(delete(table).where(mine))

    def holder(self, name: str) -> str | None:
        """Who holds it now."""
        table = tables.leases.c
        query = select(table.holder).where(table.name == name, table.until > self._database.clock())
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()
