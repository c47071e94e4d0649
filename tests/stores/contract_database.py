"""What every kind of database must do; a kind is finished when this class passes over it."""

import pytest
from sqlalchemy import insert, select, text

from tests.stores.processes import together
from timonel.errors import StoreError
from timonel.stores import tables
from timonel.stores.database import Database, raise_generation
from timonel.stores.events import Events, record


class DatabaseContract:
    """Give `database_url` (empty) and `database` (opened there) as fixtures."""

    def test_a_new_database_is_at_generation_0(self, database: Database) -> None:
        assert database.generation() == 0

    def test_the_generation_rises_with_the_transaction_that_raises_it(
        self, database: Database, database_url: str
    ) -> None:
        other = Database.open(database_url)
        with database.begin() as connection:
            raise_generation(connection)
            assert other.generation() == 0
        assert other.generation() == 1
        other.close()

    def test_a_transaction_that_fails_leaves_nothing(self, database: Database) -> None:
        with pytest.raises(KeyError), database.begin() as connection:  # noqa: PT012
            raise_generation(connection)
            raise KeyError
        assert database.generation() == 0

    def test_what_a_read_writes_is_undone(self, database: Database) -> None:
        with database.read() as connection:
            raise_generation(connection)
        assert database.generation() == 0

    def test_a_read_sees_one_moment(self, database: Database) -> None:
        query = select(tables.generation.c.value)
        with database.read() as connection:
            before = connection.execute(query).scalar_one()
            with database.begin() as writer:
                raise_generation(writer)
            assert connection.execute(query).scalar_one() == before

    def test_a_database_of_the_first_release_gets_the_new_tables_and_keeps_its_rows(
        self, database: Database, database_url: str
    ) -> None:
        first = {"events", "generation", "versions", "runs", "steps", "segments", "exports"}
        later = [table for name, table in tables.metadata.tables.items() if name not in first]
        with database.begin() as connection:
            raise_generation(connection)
            for table in later:
                table.drop(connection)
            connection.execute(text("UPDATE alembic_version SET version_num = 'r0001'"))
        database.close()
        again = Database.open(database_url)
        with again.read() as connection:
            for table in later:
                assert connection.execute(select(table)).all() == []
        assert again.generation() == 1
        again.close()

    def test_an_unknown_reference_is_refused_as_a_store_error(self, database: Database) -> None:
        step = {"run_id": "none", "name": "a", "status": "running", "started": 0, "changed": 0}
        with pytest.raises(StoreError, match="could not do what was asked"):  # noqa: SIM117
            with database.begin() as connection:
                connection.execute(insert(tables.steps).values(step))

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
    def test_evidence_that_is_not_json_is_refused(self, database: Database, value: object) -> None:
        with pytest.raises(StoreError), database.begin() as connection:
            record(
                connection,
                at=0,
                who="a",
                kind="k",
                subject="s",
                before=None,
                after=None,
                evidence={"value": value},
            )
        assert not Events(database).list()

    def test_eight_processes_open_a_new_database_at_once(self, database_url: str) -> None:
        prepare = "from timonel.stores.database import Database"
        act = "print(Database.open(sys.argv[2]).generation())"
        assert together(prepare, act, 8, database_url) == ["0"] * 8

    def test_no_raise_of_the_generation_by_many_processes_is_lost(self, database_url: str) -> None:
        database = Database.open(database_url)
        prepare = """
import sys
from timonel.stores.database import Database, raise_generation
database = Database.open(sys.argv[2])
"""
        act = """
for _ in range(10):
    with database.begin() as connection:
        raise_generation(connection)
"""
        together(prepare, act, 3, database_url)
        assert database.generation() == 30
        database.close()
