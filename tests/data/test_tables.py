"""Frames as tables of the database, and back."""

import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import BaseModel

from timonel.data.tables import keep, read_table, write_tables
from timonel.errors import DataRefused, DefinitionError, StoreError
from timonel.policies import Tables
from timonel.project import Model, Project
from timonel.stores.database import Database


class Bill(BaseModel):
    length: float
    count: int
    code: str


class Nothing:
    def read(self, read: Any) -> Any:
        raise NotImplementedError


PROJECT = Project(
    name="bills",
    source=Nothing(),
    features=Bill,
    target="y",
    models=[Model("m", lambda: None)],
    tables=Tables(raw="bills_raw", processed="bills_processed"),
)
EVERY_KIND = pl.DataFrame(
    {
        "text": ["a", None, "ñ", ""],
        "long": [1, None, -(2**63), 2**63 - 1],
        "number": [0.1, None, float("inf"), -0.0],
        "flag": [True, None, False, True],
        "day": [date(2024, 1, 31), None, date(1900, 1, 1), date(9999, 12, 31)],
        "at": [datetime(2024, 1, 31, 23, 59, 0, 1), None, *[datetime(1900, 1, 1)] * 2],  # noqa: DTZ001
        "bytes": [b"\x00\xff", None, b"", b"x"],
        'a name with "quotes" and ;': [1, 2, 3, None],
    }
).with_columns(
    small=pl.Series([1, None, -128, 127], dtype=pl.Int8),
    single=pl.Series([0.1, None, 1e30, -1.5], dtype=pl.Float32),
    category=pl.Series(["a", None, "b", "a"], dtype=pl.Enum(["a", "b"])),
    zoned=pl.Series(
        [datetime(2024, 7, 1, 12, tzinfo=UTC)] * 3 + [None], dtype=pl.Datetime("us", "UTC")
    ).dt.convert_time_zone("America/Chicago"),
    nothing=pl.Series([None] * 4, dtype=pl.Null),
)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database.open(f"sqlite:///{tmp_path / 'state.db'}")


def test_every_kind_of_column_comes_back_as_it_was_in_its_order(database: Database) -> None:
    for _ in range(2):
        write_tables({"rows": EVERY_KIND}, database)
        assert_frame_equal(read_table("rows", EVERY_KIND.schema, database), EVERY_KIND)


def test_more_rows_than_one_statement_takes_and_none_at_all(database: Database) -> None:
    for count in (25_000, 0):
        frame = pl.DataFrame({"x": pl.Series(range(count), dtype=pl.Int64)}).reverse()
        write_tables({"rows": frame}, database)
        assert_frame_equal(read_table("rows", frame.schema, database), frame)


def test_nan_is_missing(database: Database) -> None:
    frame = pl.DataFrame({"x": [float("nan"), 1.0]})
    write_tables({"rows": frame}, database)
    assert read_table("rows", frame.schema, database)["x"].to_list() == [None, 1.0]


def test_both_tables_are_replaced_or_neither(database: Database) -> None:
    first = pl.DataFrame({"x": [1]})
    write_tables({"a": first, "b": first}, database)
    too_large = pl.DataFrame({"x": [2**64 + 1]}, schema={"x": pl.Int128})
    with pytest.raises((StoreError, DataRefused, OverflowError)):
        write_tables({"a": pl.DataFrame({"x": [2]}), "b": too_large}, database)
    assert read_table("a", first.schema, database)["x"].to_list() == [1]


def test_numbers_that_came_as_text_are_numbers_in_the_processed_table(
    database: Database, tmp_path: Path
) -> None:
    raw = pl.DataFrame(
        {"length": ["39.1", None], "count": ["3", "4"], "code": ["007", "1"], "y": ["a", "b"]}
    )
    made = keep(PROJECT, raw, raw, database)
    assert dict(made.schema) == {
        "length": pl.Float64, "count": pl.Int64, "code": pl.String, "y": pl.String,
    }  # fmt: skip
    assert made["code"].to_list() == ["007", "1"]
    with sqlite3.connect(tmp_path / "state.db") as connection:
        found = connection.execute("SELECT length, count, code FROM bills_raw").fetchall()
    assert found == [("39.1", "3", "007"), (None, "4", "1")]
    spoiled = raw.with_columns(count=pl.Series(["3", "many"]))
    assert keep(PROJECT, spoiled, spoiled, database)["count"].to_list() == ["3", "many"]


def test_a_project_may_keep_only_one_of_them_or_none(database: Database) -> None:
    frame = pl.DataFrame({"length": [1.5]})
    only_raw = replace(PROJECT, tables=Tables(raw="bills_raw"))
    assert_frame_equal(keep(only_raw, frame, frame, database), frame)
    assert_frame_equal(keep(replace(PROJECT, tables=None), frame, frame, database), frame)


@pytest.mark.parametrize("name", ["versions", "events", "aliases", "alembic_version"])
def test_the_databases_own_tables_are_not_overwritten(database: Database, name: str) -> None:
    with pytest.raises(DefinitionError, match=f"the name {name} is taken"):
        write_tables({name: EVERY_KIND}, database)


def test_a_column_that_no_table_holds_is_refused_by_its_name(database: Database) -> None:
    with pytest.raises(DataRefused, match="column xs"):
        write_tables({"rows": pl.DataFrame({"xs": [[1, 2]]})}, database)
    with pytest.raises(DataRefused, match="without row_id"):
        write_tables({"rows": pl.DataFrame({"row_id": [1]})}, database)


@pytest.mark.parametrize(
    "given", [{"raw": "drop table"}, {"raw": "x" * 64}, {"raw": ""}, {"raw": "a", "processed": "a"}]
)
def test_names_that_cannot_be_tables_are_refused_where_they_are_written(
    given: dict[str, str],
) -> None:
    with pytest.raises(DefinitionError, match="Tables: expected"):
        Tables(**given)
