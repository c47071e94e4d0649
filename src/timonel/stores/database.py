"""The database of what serves and what ran: opened, migrated, and asked in transactions.

The only place that knows of SQLite. Open one `Database` in each process; threads may share it.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from timonel.errors import StoreError
from timonel.stores import tables
from timonel.stores.mounts import network_filesystem

__all__ = ["Clock", "Database", "raise_generation"]

Clock = Callable[[], float]
"""Gives the time in seconds since 1970, UTC."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_BEGIN = "timonel_begin"  # the execution option that says how a transaction begins


class Database:
    """The tables of `timonel.stores.tables` behind one engine.

    Every method raises StoreError, and no other error, when the database cannot answer.
    """

    def __init__(self, engine: Engine, *, where: str, clock: Clock) -> None:
        self._engine = engine
        self._where = where
        self.clock = clock

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Clock = time.time,
        read_only: bool = False,
        wait: float = 5.0,
    ) -> "Database":
        """The database at `url` ("sqlite:///path/to/file.db"), made or migrated where needed.

        Any number of processes may open it at once: one migrates, the others wait for it.
        `read_only` neither makes nor migrates nor writes. `wait`: longest time in seconds to wait
        for another's transaction. Tables newer than this code are used as they are.
        """
        path = _file_of(url)
        if kind := network_filesystem(path.parent):
            raise StoreError(
                f"Expected the database on a local disk, got a {kind} network folder: {path}.",
                remedy="SQLite's locks fail there; set TIMONEL_HOME or TIMONEL_DATABASE to a "
                "local path.",
            )
        database = cls(_engine(path, read_only, wait), where=str(path), clock=clock)
        try:
            database._prepare(path, _newest_revision(), read_only)
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end, undone by any exception.

        It holds the one write lock from its start, so what it read stays true until it commits; a
        second one inside it, as a store's own methods begin, waits for the first in vain.
        """
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view for queries, which waits for no writer; what it writes is undone."""
        with self._errors(), self._engine.connect() as connection:
            yield connection.execution_options(**{_BEGIN: "BEGIN"})

    def generation(self) -> int:
        """The number that rises with every change of what serves; cheap enough to poll."""
        with self.read() as connection:
            return int(connection.execute(_GENERATION).scalar_one())

    def close(self) -> None:
        """Give up the connections; the next call opens new ones."""
        self._engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise StoreError(
                f"The database at {self._where} could not do what was asked: {cause}.",
                remedy="See what holds or lacks it with: timonel doctor",
            ) from error

    def _revision(self) -> str:
        with self.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return ""
            found = connection.execute(text("SELECT version_num FROM alembic_version"))
            return found.scalar_one_or_none() or ""

    def _prepare(self, path: Path, wanted: str, read_only: bool) -> None:
        found = self._revision() if os.access(path, os.R_OK) else ""
        if found >= wanted:
            return
        if read_only:
            raise StoreError(
                f"Expected tables of revision {wanted}, got {found or 'none'} at {self._where}.",
                remedy="Make them with: timonel up",
            )
        with _locked(path), self._errors():
            if self._revision() >= wanted:  # another has migrated meanwhile
                return
            with self._engine.connect() as connection:
                # WAL is a property of the file, and cannot change inside a transaction.
                connection.execution_options(**{_BEGIN: ""})
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            with self._engine.begin() as connection:
                _upgrade(connection)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock beside `path` against other processes and threads; it ends with its holder."""
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(
            f"Expected to make {lock} for the database, got: {error.strerror}.",
            remedy="Set TIMONEL_HOME to a folder that can be written.",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


_GENERATION = select(tables.generation.c.value).where(tables.generation.c.id == 1)


def raise_generation(connection: Connection) -> None:
    """Tell every worker, when this transaction commits, that what serves has changed."""
    row = tables.generation
    connection.execute(update(row).where(row.c.id == 1).values(value=row.c.value + 1))


def _file_of(url: str) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    file = parsed.database if parsed is not None and parsed.drivername == "sqlite" else None
    if parsed is None or not file or file == ":memory:":
        shown = parsed.render_as_string(hide_password=True) if parsed is not None else "no URL"
        raise StoreError(
            f"Expected a database URL such as sqlite:////var/lib/timonel.db, got {shown}.",
            remedy="Set TIMONEL_DATABASE to one, or unset it for a file in the home.",
        )
    return Path(file).expanduser().absolute()


def _engine(path: Path, read_only: bool, wait: float) -> Engine:
    mode = "ro" if read_only else "rwc"
    engine = create_engine(
        URL.create(
            "sqlite", database=f"file:{quote(str(path))}", query={"mode": mode, "uri": "true"}
        ),
        connect_args={"timeout": wait, "isolation_level": None},
        # NaN is no JSON: PostgreSQL would refuse what SQLite lets through.
        json_serializer=lambda value: json.dumps(value, allow_nan=False, ensure_ascii=False),
    )

    def connected(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    def begins(connection: Connection) -> None:
        # A plain BEGIN would let two readers turn writers, and one of them fail.
        if statement := connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"):
            connection.exec_driver_sql(statement)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begins)
    return engine


def _newest_revision() -> str:
    # Read from the files' names: importing Alembic would cost each opening a fifth of a second.
    return max(file.stem.split("_")[0] for file in (_MIGRATIONS / "versions").glob("r*_*.py"))


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(f"Expected tables that can be migrated, got: {error}.") from error
