"""The usual repairs of a table, and what is said of each."""

from datetime import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timonel.data.cleaning import Cleaning, moments, snake_case
from timonel.errors import DataRefused


def table(**columns: Any) -> Cleaning:
    return Cleaning(pl.DataFrame(columns))


at = datetime.fromisoformat


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Primary Type", "primary_type"),
        ("primary_type", "primary_type"),
        ("primaryType", "primary_type"),
        ("FBI Code", "fbi_code"),
        (" X  Coordinate (ft) ", "x_coordinate_ft"),
        (":id", "id"),
        ("ID", "id"),
    ],
)
def test_names_become_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


@given(st.text())
def test_a_name_in_snake_case_stays_as_it_is(name: str) -> None:
    assert snake_case(snake_case(name)) == snake_case(name)


def test_lost_zeros_of_codes_are_put_back_with_a_sentence() -> None:
    cleaned = table(iucr=["930", "0110", "31A", "1154.0", None]).padded("iucr", 4)
    assert cleaned.frame["iucr"].to_list() == ["0930", "0110", "031A", "1154", None]
    (note,) = cleaned.notes
    assert note.startswith("iucr: 3 of 5 codes had lost leading zeros")
    assert "'930', now '0930'" in note


def test_a_final_letter_does_not_count_where_that_is_said() -> None:
    cleaned = table(code=["7", "8B", "04A", "26", "1A"]).padded("code", 2, letter=True)
    assert cleaned.frame["code"].to_list() == ["07", "08B", "04A", "26", "01A"]


def test_codes_that_repeat_are_padded_as_well() -> None:
    codes = pl.Series("iucr", ["930", "0110", None, "930"], pl.Categorical)
    cleaned = Cleaning(codes.to_frame()).padded("iucr", 4)
    assert cleaned.frame["iucr"].to_list() == ["0930", "0110", None, "0930"]


def test_whole_codes_are_left_alone_without_a_word() -> None:
    assert table(code=["07", "08B"]).padded("code", 2, letter=True).notes == ()


def test_numbers_that_were_codes_are_codes_again() -> None:
    assert table(code=[930, 110]).padded("code", 4).frame["code"].to_list() == ["0930", "0110"]


@pytest.mark.parametrize(
    "text",
    [
        "01/31/2024 11:59:00 PM",
        "2024-01-31T23:59:00",
        "2024-01-31T23:59:00.000",
        "2024-01-31 23:59:00",
        "01/31/2024 23:59",
    ],
)
def test_dates_are_read_as_portals_write_them(text: str) -> None:
    found, notes = moments(pl.Series("date", [text, None]))
    assert found.to_list() == [at("2024-01-31T23:59"), None]
    assert notes == ()


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical])
def test_dates_with_spaces_around_them_and_dates_that_repeat_are_read(kind: Any) -> None:
    texts = ["2024-02-01T00:00:00", None, " 01/31/2024 11:59:00 PM ", "2024-02-01T00:00:00"]
    found, notes = moments(pl.Series("d", texts, kind))
    assert found.to_list() == [at("2024-02-01"), None, at("2024-01-31T23:59"), at("2024-02-01")]
    assert notes == ()


def test_one_column_may_hold_both_shapes() -> None:
    found, notes = moments(pl.Series("d", ["01/31/2024 11:59:00 PM", "2024-02-01T00:00:00"]))
    assert found.to_list() == [at("2024-01-31T23:59"), at("2024-02-01")]
    assert notes == ()


def test_parsed_dates_are_taken_as_they_are() -> None:
    assert moments(pl.Series("d", [at("2024-05-01")]))[0].to_list() == [at("2024-05-01")]
    assert moments(pl.Series("d", [], dtype=pl.String))[0].to_list() == []


def test_a_few_unreadable_dates_are_missing_and_told() -> None:
    texts = ["2024-01-31T10:00:00"] * 99 + ["soon"]
    found, notes = moments(pl.Series("date", texts))
    assert found.null_count() == 1
    assert "got 'soon' in 1 rows: taken as missing" in notes[0]


def test_many_unreadable_dates_refuse_the_table() -> None:
    with pytest.raises(DataRefused, match=r"got '45322\.99' in 2 of 3 rows"):
        moments(pl.Series("date", ["45322.99", "45323.5", "2024-01-31T10:00:00"]))


def test_dates_written_day_first_refuse_the_table_however_few_show_it() -> None:
    texts = ["01/02/2024 10:00:00 AM"] * 999 + ["31/01/2024 10:00:00 AM"]
    with pytest.raises(DataRefused, match="day first"):
        moments(pl.Series("date", texts))


def test_dates_before_the_first_possible_one_are_no_dates() -> None:
    texts = ["2024-01-31T10:00:00"] * 99 + ["1970-01-01T00:00:00"]
    found, notes = moments(pl.Series("date", texts), at("2001-01-01"))
    assert found.null_count() == 1
    assert "not before 2001" in notes[0]


def test_dates_that_lost_their_hours_are_told() -> None:
    _, notes = moments(pl.Series("date", ["2024-01-31T00:00:00"] * 100))
    assert notes == ("date: every time is midnight; the hours seem to be lost.",)
    _, notes = moments(pl.Series("date", [None] * 100, dtype=pl.String))
    assert notes == ()


def test_the_calendar_has_month_day_weekday_from_monday_and_hour() -> None:
    cleaned = table(date=["06/04/2024 05:30:00 AM"]).dated("date")
    named = cleaned.calendar("date", month="mes", day="dia_mes", weekday="dia_semana", hour="hora")
    assert named.frame.drop("date").row(0, named=True) == {
        "mes": 6,
        "dia_mes": 4,
        "dia_semana": 1,
        "hora": 5,
    }
    assert cleaned.calendar("date").frame.columns == ["date", "month", "day", "weekday", "hour"]


@given(st.datetimes(at("1990-01-01"), at("2060-01-01")))
def test_the_calendar_agrees_with_pythons(when: datetime) -> None:
    (row,) = table(date=[when]).calendar("date").frame.drop("date").rows()
    assert row == (when.month, when.day, when.weekday(), when.hour)


def test_of_equal_rows_the_latest_is_kept_where_it_is_and_the_others_counted() -> None:
    cleaned = table(id=[1, 2, 3], at=[5, 9, 7], what=["a", "a", "b"]).latest(
        ignoring=("id", "at"), by=("at",)
    )
    assert cleaned.frame.rows() == [(2, 9, "a"), (3, 7, "b")]
    assert cleaned.notes == ("1 of 3 rows repeat another but for id, at: the latest was kept.",)


def test_of_rows_of_one_moment_the_last_is_kept_and_a_missing_moment_is_before_all() -> None:
    cleaned = table(id=[1, 2, 3, 4], at=[None, 5, 5, None], what=["a", "b", "b", "a"])
    kept = cleaned.latest(ignoring=("id", "at"), by=("at",))
    assert kept.frame["id"].to_list() == [3, 4]


def test_rows_that_differ_are_left_as_they_are() -> None:
    cleaned = table(at=[2, 1], what=["a", "b"]).latest(ignoring=("at",), by=("at",))
    assert cleaned.frame.rows() == [(2, "a"), (1, "b")]
    assert cleaned.notes == ()


def test_columns_that_were_only_compared_may_be_dropped() -> None:
    cleaned = table(at=[2, 1], case=["x", "y"]).latest(
        ignoring=("at",), by=("at",), dropping=("case", "absent")
    )
    assert cleaned.frame.rows() == [(2,), (1,)]


texts = st.sampled_from(["a", "b", "c", None])


@given(st.lists(st.tuples(texts, texts, st.integers(0, 3)), max_size=30))
def test_the_latest_rows_are_those_that_a_plain_loop_finds(
    rows: list[tuple[str | None, str | None, int]],
) -> None:
    frame = pl.DataFrame(
        rows, {"one": pl.Categorical, "other": pl.String, "at": pl.Int64}, orient="row"
    ).with_row_index("id")
    latest: dict[tuple[str | None, str | None], int] = {}
    for number, (one, other, at) in enumerate(rows):
        found = latest.setdefault((one, other), number)
        if at >= rows[found][2]:
            latest[one, other] = number
    kept = Cleaning(frame).latest(ignoring=("id", "at"), by=("at",)).complete(["one"])
    expected = sorted(number for (one, _), number in latest.items() if one is not None)
    assert kept.frame["id"].to_list() == expected


def test_the_frame_that_was_given_is_left_whole() -> None:
    given = pl.DataFrame({"a": [1, None, 1], "at": [1, 2, 3]})
    cleaned = Cleaning(given).latest(ignoring=("at",), by=("at",))
    complete = cleaned.complete(["a"])
    assert complete.frame.rows() == [(1, 3)]
    assert cleaned.frame.rows() == [(None, 2), (1, 3)]
    assert given.height == 3


def test_rows_with_holes_in_used_columns_are_left_out_and_counted() -> None:
    cleaned = table(a=[1, None, 3, 4], b=["x", None, None, "y"], unused=[None] * 4)
    kept = cleaned.complete(["a", "b"])
    assert kept.frame["a"].to_list() == [1, 4]
    assert kept.notes == ("2 of 4 rows (50.0%) were left out for what they lack: a 1, b 2.",)
    assert table(a=[1]).complete().notes == ()


def test_a_missing_column_is_named_with_those_there_are() -> None:
    with pytest.raises(DataRefused, match="b is missing, got a"):
        table(a=[1]).complete(["a", "b"])
    with pytest.raises(DataRefused, match="date is missing"):
        table(a=[1]).dated("date")
