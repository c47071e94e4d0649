import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.stores.contract_database import DatabaseContract
from tests.stores.processes import together
from timonel.errors import StoreError
from timonel.stores import mounts, tables
from timonel.stores.database import Database, raise_generation
from timonel.stores.events import Events
from timonel.stores.runs import Runs
from timonel.stores.segments import Segments
from timonel.stores.versions import Versions


class TestSqlite(DatabaseContract):
    pass


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def test_the_migrations_make_the_tables_that_queries_see(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, tables.metadata) == []


def test_revisions_rise_with_their_names() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "timonel.stores:migrations")
    script = ScriptDirectory.from_config(config)
    revisions = [revision.revision for revision in script.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)
    assert all(Path(r.path).stem.startswith(r.revision) for r in script.walk_revisions())


def test_opening_a_migrated_database_does_not_import_alembic(database_url: str) -> None:
    Database.open(database_url).close()
    prepare = "from timonel.stores.database import Database"
    act = "Database.open(sys.argv[2]); print('alembic' in sys.modules)"
    assert together(prepare, act, 1, database_url) == ["False"]


def test_the_journal_mode_is_wal_and_references_hold(database: Database) -> None:
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def test_a_path_may_hold_any_character(tmp_path: Path) -> None:
    path = tmp_path / "a b%20?#'é" / "x.db"
    Database.open(f"sqlite:///{path}".replace("?", "%3F")).close()
    assert len(list(tmp_path.glob("*/x.db"))) == 1


def test_another_transaction_that_does_not_end_is_a_store_error(
    database: Database, database_url: str
) -> None:
    impatient = Database.open(database_url, wait=0.01)
    with database.begin() as connection:
        raise_generation(connection)
        with pytest.raises(StoreError, match="locked"), impatient.begin():
            pass
        assert impatient.generation() == 0
    impatient.close()


def test_a_reader_finds_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"r\d{4}, got none at .*/none\.db\. Make"):
        Database.open(f"sqlite:///{tmp_path}/none.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_neither_makes_tables_nor_writes(database_url: str) -> None:
    path = _file(database_url)
    path.touch()
    with pytest.raises(StoreError, match=r"Expected tables of revision r\d{4}, got none"):
        Database.open(database_url, read_only=True)
    assert path.stat().st_size == 0
    Database.open(database_url).close()
    reader = Database.open(database_url, read_only=True)
    assert reader.generation() == 0
    with pytest.raises(StoreError, match="readonly"), reader.begin() as connection:
        raise_generation(connection)
    reader.close()


def test_a_reader_sees_what_a_killed_writer_had_committed(database_url: str) -> None:
    prepare = """
import os, sys
from timonel.stores.database import Database, raise_generation
from timonel.stores.events import Events
from timonel.stores.runs import Runs
from timonel.stores.segments import Segments
from timonel.stores.versions import Versions
database = Database.open(sys.argv[2])
with database.begin() as connection:
    raise_generation(connection)
"""
    act = "print('killed', flush=True); os._exit(0)"
    assert together(prepare, act, 1, database_url) == ["killed"]
    assert _file(database_url).with_name("state.db-wal").stat().st_size > 0
    reader = Database.open(database_url, read_only=True)
    assert reader.generation() == 1
    reader.close()


def test_tables_of_a_newer_release_are_used_as_they_are(database_url: str) -> None:
    Database.open(database_url).close()
    with closing(sqlite3.connect(_file(database_url))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'r9999'")
        connection.execute("ALTER TABLE generation ADD COLUMN note TEXT")
        connection.commit()
    for read_only in (False, True):
        database = Database.open(database_url, read_only=read_only)
        assert database.generation() == 0
        database.close()


def test_a_migration_that_fails_leaves_nothing_and_is_a_store_error(database_url: str) -> None:
    with closing(sqlite3.connect(_file(database_url))) as connection:
        connection.execute("CREATE TABLE exports (mine TEXT)")
        connection.commit()
    with pytest.raises(StoreError, match="exports"):
        Database.open(database_url)
    with closing(sqlite3.connect(_file(database_url))) as connection:
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert names == [("exports",)]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_a_store_error(database_url: str, read_only: bool) -> None:
    _file(database_url).write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Database.open(database_url, read_only=read_only)


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Expected to make .*lock"):
        Database.open(f"sqlite:///{tmp_path}/file/x.db")


def test_a_folder_in_the_place_of_the_file_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Database.open(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize(
    "url",
    ["", "state.db", "sqlite://", "sqlite:///:memory:", "postgresql://me:secret@host/db", "x://"],
)
def test_a_wrong_url_is_refused_without_telling_secrets(url: str) -> None:
    with pytest.raises(StoreError, match="Expected a database URL such as") as caught:
        Database.open(url)
    assert "secret" not in str(caught.value)


def test_a_network_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounts").write_text(f"server:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mounts")
    with pytest.raises(StoreError, match="Expected the database on a local disk, got a nfs4"):
        Database.open(f"sqlite:///{tmp_path}/home/x.db")
    assert not (tmp_path / "home").exists()


def test_an_error_names_the_file_and_what_to_do(database: Database, database_url: str) -> None:
    missing = update(tables.generation).values(value=None)
    with pytest.raises(StoreError) as caught, database.begin() as connection:
        connection.execute(missing)
    assert str(_file(database_url)) in str(caught.value)
    assert "timonel doctor" in str(caught.value)
    assert caught.value.status == 503


def test_tables_of_an_unknown_past_are_a_store_error(database_url: str) -> None:
    Database.open(database_url).close()
    with closing(sqlite3.connect(_file(database_url))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
        connection.commit()
    with pytest.raises(StoreError, match="Expected tables that can be migrated"):
        Database.open(database_url)


_READS: dict[str, Callable[[Database], object]] = {
    "generation": lambda database: database.generation(),
    "events": lambda database: Events(database).list(),
    "run": lambda database: Runs(database).get("r"),
    "runs": lambda database: Runs(database).list(),
    "active": lambda database: Runs(database).active("digits"),
    "steps": lambda database: Runs(database).steps("r"),
    "output": lambda database: Runs(database).output_of("k"),
    "segments": lambda database: Segments(database).list(),
    "offset": lambda database: Segments(database).export_offset("dev"),
    "version": lambda database: Versions(database).get("digits", "cnn", 1),
    "versions": lambda database: Versions(database).list(),
    "champion": lambda database: Versions(database).champion("digits", "cnn"),
    "champions": lambda database: Versions(database).champions(),
}

_WRITES: dict[str, Callable[[Database], object]] = {
    "start": lambda database: Runs(database).start(
        "digits", run_id="r", who="ana", pid=1, host="here", parameters={}
    ),
    "beat": lambda database: Runs(database).beat("r"),
    "step": lambda database: Runs(database).step("r", "train", status="running"),
    "finish": lambda database: Runs(database).finish("r", status="failed", reason="r"),
    "segment": lambda database: Segments(database).add(
        source="s",
        project="digits",
        object_key="k",
        rows=1,
        first_id="a",
        last_id="b",
        first_time=1,
        last_time=2,
    ),
    "add": lambda database: Versions(database).add(
        "digits", "cnn", 1, digest="d", who="ana", reason="r"
    ),
    "move": lambda database: Versions(database).move(
        "digits", "cnn", 1, "challenger", who="ana", reason="r"
    ),
}


@pytest.mark.parametrize("ask", [*_READS.values(), *_WRITES.values()], ids=[*_READS, *_WRITES])
def test_whatever_is_asked_of_a_damaged_database_ends_in_a_store_error(
    database: Database, database_url: str, ask: Callable[[Database], object]
) -> None:
    database.close()
    _file(database_url).write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        ask(database)


@pytest.mark.parametrize("ask", _READS.values(), ids=_READS)
def test_whatever_is_read_of_a_missing_database_ends_in_a_store_error(
    database_url: str, ask: Callable[[Database], object]
) -> None:
    Database.open(database_url).close()
    reader = Database.open(database_url, read_only=True)
    reader.close()
    _file(database_url).unlink()
    with pytest.raises(StoreError, match="unable to open"):
        ask(reader)


@pytest.mark.parametrize("ask", _WRITES.values(), ids=_WRITES)
def test_whatever_is_written_while_another_writes_ends_in_a_store_error(
    database: Database, database_url: str, ask: Callable[[Database], object]
) -> None:
    impatient = Database.open(database_url, wait=0.01)
    with database.begin(), pytest.raises(StoreError, match="locked"):
        ask(impatient)
    impatient.close()
