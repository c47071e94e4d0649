import struct
from zoneinfo import ZoneInfo

import polars as pl
from msgspec import structs

from tests.journal.samples import DIGITS, PENGUINS, START, digit, penguin
from timonel.journal.layout import OWN_COLUMNS, Rows, TextLines, fits, own_schema, stored_name
from timonel.journal.records import Answered


def test_a_line_of_the_text_log_is_that_of_the_original() -> None:
    line = TextLines(ZoneInfo("UTC"))
    assert line(START + 999_999_999, 7, "dev") == "2026-11-20 13:04:05 - 7 - dev"
    assert line(START + 1_000_000_000, "Gentoo", "prod") == "2026-11-20 13:04:06 - Gentoo - prod"
    assert line(START, 7, "dev") == "2026-11-20 13:04:05 - 7 - dev"


def test_a_segments_own_columns_come_first_and_keep_their_names() -> None:
    assert tuple(own_schema()) == OWN_COLUMNS
    assert [stored_name(name) for name in ("year", "time")] == ["year", "input.time"]


def _row(answers: list[Answered]) -> pl.DataFrame:
    rows = Rows(PENGUINS.columns, {PENGUINS.key: PENGUINS})
    rows.add(structs.replace(penguin(), answers=answers))
    return rows.frame().select("probability", "probabilities")


def test_without_classes_there_is_no_probability_of_the_prediction() -> None:
    scores = penguin().answers[0].probabilities
    known = Answered("rf", "penguins/rf@1", ["Adelie"], scores)
    unknown_version = Answered("rf", "penguins/rf@9", ["Adelie"], scores)
    unknown_class = Answered("rf", "penguins/rf@1", ["Emperor"], scores)
    assert _row([known, unknown_version, unknown_class]).rows() == [
        (0.25, [0.25, 0.75]),
        (None, [0.25, 0.75]),
        (None, [0.25, 0.75]),
    ]


def test_models_with_more_fewer_or_no_probabilities_lie_in_one_segment() -> None:
    answers = [
        Answered("rf", "penguins/rf@1", ["Gentoo"], scores)
        for scores in (b"", struct.pack("<2f", 0.5, 0.25), b"", struct.pack("<1f", 1.0), b"")
    ]
    assert _row(answers).rows() == [
        (None, None),
        (0.25, [0.5, 0.25]),
        (None, None),
        (None, [1.0]),
        (None, None),
    ]


def test_a_record_fits_the_columns_of_its_own_project_only() -> None:
    assert fits(penguin(), PENGUINS.columns)
    assert not fits(penguin(), DIGITS.columns)
    assert not fits(digit(), None)
