from io import BytesIO
from zoneinfo import ZoneInfo

import polars as pl

from tests.journal.samples import DIGITS, PENGUINS, START, digit, penguin
from timonel.journal.layout import OWN_COLUMNS, Rows, fits, own_schema, stored_name, text_line


def test_a_line_of_the_text_log_is_that_of_the_original() -> None:
    line = text_line(START + 999_999_999, 7, "dev", ZoneInfo("UTC"))
    assert line == "2026-11-20 13:04:05 - 7 - dev\n"


def test_a_segments_own_columns_come_first_and_keep_their_names() -> None:
    assert tuple(own_schema()) == OWN_COLUMNS
    assert [stored_name(name) for name in ("year", "time")] == ["year", "input.time"]


def test_the_same_records_give_the_same_bytes() -> None:
    record = penguin()

    def segment() -> bytes:
        rows = Rows(PENGUINS.columns, {PENGUINS.key: PENGUINS})
        rows.add(record)
        return rows.parquet()

    assert segment() == segment()


def test_without_classes_there_is_no_probability_of_the_prediction() -> None:
    rows = Rows(PENGUINS.columns, {})
    rows.add(penguin())
    frame = pl.read_parquet(BytesIO(rows.parquet()))
    assert frame["probability"].to_list() == [None]
    assert frame["probabilities"].to_list() == [[0.25, 0.75]]


def test_a_record_fits_the_columns_of_its_own_project_only() -> None:
    assert fits(penguin(), PENGUINS.columns)
    assert not fits(penguin(), DIGITS.columns)
    assert not fits(digit(), None)
