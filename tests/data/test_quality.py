"""Rows judged against the project's types."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from timonel.data.quality import Checked, check, examine
from timonel.data.sources import Csv, Idx, Parquet
from timonel.errors import DataRefused
from timonel.policies import Quality, Split
from timonel.project import File, Model, Project, Read
from timonel.schema import Image, Pixels


class Row(BaseModel):
    size: Annotated[float, Field(gt=0, lt=100)]
    count: Annotated[int | None, Field(ge=1, le=9)]
    flag: bool
    code: Annotated[str, Field(min_length=2, max_length=4)]
    sex: Literal["male", "female"] | None


GOOD: dict[str, Any] = {
    "size": "3.5",
    "count": "7",
    "flag": "true",
    "code": "007",
    "sex": "male",
    "label": "yes",
}


def nothing() -> None:
    """A recipe that is never asked."""


def project(features: type[BaseModel] = Row, **changes: Any) -> Project:
    given: dict[str, Any] = {
        "name": "rows",
        "source": Csv(File("rows.csv")),
        "features": features,
        "target": "label",
        "classes": ["yes", "no"],
        "models": [Model("m", nothing)],
        "quality": Quality(max_refused=1, min_rows=1, duplicates="keep"),
    }
    return Project(**{**given, **changes})


def one(column: str, value: object, dtype: Any = None) -> Checked:
    """The judgement of one good row, with one value of it changed."""
    series = pl.Series(column, [value], dtype=dtype)
    return examine(pl.DataFrame({**GOOD, "id": 1}).with_columns(series), project())


@pytest.mark.parametrize(
    ("column", "value", "dtype", "expected"),
    [
        ("size", " 3.5 ", None, 3.5),
        ("size", "1e1", None, 10.0),
        ("size", 3, pl.Int8, 3.0),
        ("size", 3.5, pl.Decimal(4, 1), 3.5),
        ("size", True, None, 1.0),
        ("count", "7", None, 7),
        ("count", "7.0", None, 7),
        ("count", 7.0, None, 7),
        ("count", 7, pl.UInt64, 7),
        ("count", "", None, None),
        ("count", None, pl.String, None),
        ("count", None, pl.Null, None),
        ("count", float("nan"), None, None),
        ("flag", "FALSE", None, False),
        ("flag", "1", None, True),
        ("flag", 0, None, False),
        ("flag", 1.0, None, True),
        ("flag", False, None, False),
        ("code", "0070", None, "0070"),
        ("code", " a ", None, " a "),
        ("code", 70, None, "70"),
        ("code", "ab", pl.Categorical, "ab"),
        ("sex", "female", pl.Enum(["female"]), "female"),
        ("sex", "", None, None),
    ],
)
def test_a_value_is_cast_when_nothing_is_lost(
    column: str, value: object, dtype: Any, expected: object
) -> None:
    checked = one(column, value, dtype)
    assert checked.refused.is_empty(), checked.refused["reason"][0]
    assert checked.frame[column].to_list() == [expected]
    assert checked.frame.schema == {
        "size": pl.Float64,
        "count": pl.Int64,
        "flag": pl.Boolean,
        "code": pl.Categorical() if dtype == pl.Categorical else pl.String(),
        "sex": pl.String,
        "label": pl.String,
    }


@pytest.mark.parametrize(
    ("column", "value", "dtype", "got"),
    [
        ("size", "3,5", None, "'3,5'"),
        ("size", "", None, "nothing"),
        ("size", None, pl.Float64, "nothing"),
        ("size", float("nan"), None, "nothing"),
        ("size", "nan", None, "'nan'"),
        ("size", "1e999", None, "'1e999'"),
        ("size", float("inf"), None, "inf"),
        ("size", "0", None, "'0'"),
        ("size", "100", None, "'100'"),
        ("size", [1.0], None, "List(Float64)"),
        ("count", "3.5", None, "'3.5'"),
        ("count", 3.5, None, "3.5"),
        ("count", "0", None, "'0'"),
        ("count", "10", None, "'10'"),
        ("count", 2**64 - 1, pl.UInt64, str(2**64 - 1)),
        ("count", str(2**53 + 1), None, f"'{2**53 + 1}'"),
        ("flag", "yes", None, "'yes'"),
        ("flag", 2, None, "2"),
        ("flag", None, pl.Boolean, "nothing"),
        ("code", "a", None, "'a'"),
        ("code", "abcde", None, "'abcde'"),
        ("code", 12.0, None, "12.0"),
        ("code", True, None, "true"),
        ("sex", "Male", None, "'Male'"),
        ("label", "maybe", None, "'maybe'"),
        ("label", None, pl.String, "nothing"),
    ],
)
def test_any_other_value_is_refused_with_its_reason_and_kept_as_it_came(
    column: str, value: object, dtype: Any, got: str
) -> None:
    checked = one(column, value, dtype)
    assert checked.frame.is_empty()
    reason = checked.refused["reason"][0]
    assert reason.startswith(f"{column}: expected ")
    assert reason.endswith(f", got {got}")
    kept = checked.refused[column]
    assert kept.equals(pl.Series(column, [value], dtype=dtype), null_equal=True)
    assert checked.refused["id"].to_list() == [1]


def test_a_row_with_two_problems_tells_both_and_is_counted_once() -> None:
    checked = examine(pl.DataFrame({**GOOD, "size": "-1", "sex": "?"}), project())
    (reason,) = checked.refused["reason"]
    assert reason == (
        "size: expected number, > 0, < 100, got '-1'; "
        "sex: expected one of male, female or missing, got '?'"
    )
    report = checked.report
    assert (report.rows, report.kept, report.refused, report.dropped) == (1, 0, 1, 0)
    assert [(p.column, p.problem, p.rows) for p in report.problems] == [
        ("size", "not allowed", 1),
        ("sex", "not allowed", 1),
    ]


def test_a_column_called_reason_is_kept_beside_the_reason() -> None:
    frame = pl.DataFrame({**GOOD, "size": "x", "reason": "ours"})
    refused = examine(frame, project()).refused
    assert refused["reason in source"].to_list() == ["ours"]
    assert refused["reason"][0].startswith("size: expected")


def test_the_report_is_json_and_a_sentence_with_the_first_values() -> None:
    sizes = ["3.5", "-1", "x", "-1", "y", "z", ""]
    frame = pl.DataFrame({**GOOD, "size": sizes})
    report = examine(frame, project()).report
    found = json.loads(json.dumps(report.to_json()))
    assert found["problems"][1]["examples"] == ["'-1'", "'x'", "'y'"]
    assert report.sentence() == (
        "7 rows: 1 kept, 6 refused: size missing 1 (expected number, > 0, < 100); "
        "size not allowed 5 (expected number, > 0, < 100, got '-1', 'x', 'y')."
    )


def test_a_clean_table_gives_a_short_sentence() -> None:
    assert check(pl.DataFrame(GOOD), project()).report.sentence() == "1 rows: 1 kept, 0 refused."


@pytest.mark.parametrize(
    ("policy", "kept", "refused", "dropped"),
    [("keep", 5, 1, 0), ("drop", 3, 1, 2), ("refuse", 3, 3, 0)],
)
def test_duplicates_follow_the_policy_and_the_first_fit_row_stays(
    policy: Literal["drop", "refuse", "keep"], kept: int, refused: int, dropped: int
) -> None:
    frame = pl.DataFrame({**GOOD, "size": ["x", "1", "2", "2", "3", "3"], "id": [1, 1, 2, 2, 3, 3]})
    quality = Quality(max_refused=1, min_rows=1, duplicates=policy, key=("id",))
    checked = examine(frame, project(quality=quality))
    report = checked.report
    assert (report.kept, report.refused, report.dropped) == (kept, refused, dropped)
    assert checked.frame["size"].unique().sort().to_list() == [1.0, 2.0, 3.0]
    reasons = checked.refused["reason"].to_list()
    assert sum(reason == "duplicate: expected each row once" for reason in reasons) == refused - 1
    if dropped:
        assert "2 dropped as duplicates" in report.sentence()


def test_rows_that_differ_in_a_column_that_is_no_feature_are_no_duplicates() -> None:
    frame = pl.DataFrame({**GOOD, "id": [1, 2, 2]})
    checked = examine(frame, project(quality=Quality(duplicates="drop")))
    assert checked.frame.height == 2


def test_missing_columns_are_named_with_those_there_are() -> None:
    frame = pl.DataFrame({"Size": ["1"], "code": ["ab"]})
    split = Split(key=("id",), given="part")
    with pytest.raises(DataRefused) as caught:
        check(frame, project(split=split))
    message = str(caught.value)
    assert "size, count, flag, sex, label, part, id are missing, got Size, code." in message
    assert "Rename" in message


def test_more_refused_than_allowed_stops_the_run_with_counts_and_examples() -> None:
    frame = pl.DataFrame({**GOOD, "size": ["1", "2", "3", "x"]})
    with pytest.raises(DataRefused) as caught:
        check(frame, project(quality=Quality(max_refused=0.2, min_rows=1, duplicates="keep")))
    message = str(caught.value)
    assert "at most 20.0% of the rows to be refused, got 25.0%" in message
    assert "size not allowed 1 (expected number, > 0, < 100, got 'x')" in message
    quality = Quality(max_refused=0.25, min_rows=1, duplicates="keep")
    assert check(frame, project(quality=quality)).report.refused == 1


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_rows_stop_the_run(count: int) -> None:
    with pytest.raises(DataRefused, match=f"at least 3 rows, got {count}"):
        check(
            pl.DataFrame([GOOD] * 2)[:count],
            project(quality=Quality(min_rows=3, duplicates="keep")),
        )


@pytest.mark.parametrize(
    ("classes", "values", "expected", "refused"),
    [
        (range(3), ["0", "2", "3", "1.5"], [0, 2], 2),
        (range(3), [0.0, 2.0, 3.0, None], [0, 2], 2),
        (["07", "08A"], ["07", "7", "08A"], ["07", "08A"], 1),
        (["7"], [7, 8], ["7"], 1),
        ({"a": "the first", "b": "the second"}, ["a", "c"], ["a"], 1),
        (None, ["0", "x", ""], ["0", "x"], 1),
        (None, [0, 5, None], [0, 5], 1),
        (None, [0.0, 0.5], [0], 1),
        (None, [True, False], [1, 0], 0),
    ],
)
def test_the_target_takes_the_type_of_its_classes(
    classes: Any, values: list[Any], expected: list[Any], refused: int
) -> None:
    checked = examine(pl.DataFrame({**GOOD, "label": values}), project(classes=classes))
    assert checked.frame["label"].to_list() == expected
    assert checked.refused.height == refused


def test_what_the_split_needs_is_kept_as_it_came() -> None:
    frame = pl.DataFrame({**GOOD, "id": ["01", "02"], "part": ["train", "tset"], "more": [1, 2]})
    split = Split(key=("id", "code"), given="part")
    checked = examine(frame, project(split=split))
    assert checked.frame.columns == [*GOOD, "part", "id"]
    assert checked.frame["id"].to_list() == ["01"]
    assert checked.refused["reason"].to_list() == [
        "part: expected one of train, validation, test, got 'tset'"
    ]


class Picture(BaseModel):
    pixels: Annotated[Pixels, Image(2, 3)]


def test_pictures_of_another_size_are_refused() -> None:
    frame = pl.DataFrame({"pixels": [b"\0" * 6, b"\0" * 5, None], "label": ["yes"] * 3})
    checked = examine(frame, project(Picture))
    assert checked.frame.rows() == [(b"\0" * 6, "yes")]
    assert checked.refused["reason"].to_list() == [
        "pixels: expected image of 2×3, got 5 bytes",
        "pixels: expected image of 2×3, got nothing",
    ]


def test_pictures_that_are_no_bytes_are_refused() -> None:
    frame = pl.DataFrame({"pixels": ["aaaaaa"], "label": ["yes"]})
    assert examine(frame, project(Picture)).report.refused == 1


values = st.one_of(
    st.none(),
    st.sampled_from(["", "0", "1", "3.5", "true", "False", "male", "007", "nan", "-1", " 2 "]),
    st.text(max_size=5),
    st.floats().map(str),
    st.integers().map(str),
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(*[values] * 5, st.sampled_from(["yes", "no", "?", None])), max_size=30),
    st.sampled_from(["keep", "drop", "refuse"]),
)
def test_every_row_is_kept_refused_or_dropped_and_what_is_kept_validates(
    content: Sequence[tuple[str | None, ...]], policy: Literal["keep", "drop", "refuse"]
) -> None:
    schema = dict.fromkeys(GOOD, pl.String)
    frame = pl.DataFrame(content, schema=schema, orient="row")
    quality = Quality(max_refused=1, min_rows=1, duplicates=policy)
    checked = examine(frame, project(quality=quality))
    report = checked.report
    assert report.kept + report.refused + report.dropped == report.rows == len(content)
    assert (checked.frame.height, checked.refused.height) == (report.kept, report.refused)
    assert checked.refused["reason"].null_count() == 0
    for row in checked.frame.iter_rows(named=True):
        Row.model_validate(row)
    again = examine(checked.frame, project(quality=quality))
    assert again.frame.equals(checked.frame)
    assert again.report.refused == 0


class Measurements(BaseModel):
    bill_length_mm: Annotated[float, Field(gt=0, lt=100)]
    body_mass_g: Annotated[int, Field(gt=0, lt=10_000)]


class Passenger(BaseModel):
    Age: Annotated[float | None, Field(ge=0, le=120)]
    Sex: Literal["male", "female"]
    Embarked: Literal["S", "C", "Q"] | None


class Crime(BaseModel):
    IUCR: Annotated[str, Field(min_length=4, max_length=4)]
    Arrest: bool
    Beat: Annotated[int, Field(ge=1, le=9999)]
    District: Annotated[int, Field(ge=1, le=999)]
    Latitude: Annotated[float, Field(ge=-90, le=90)]


def test_penguins_titanic_and_crimes_are_judged_as_their_descriptions_say(
    test_data: Path, tmp_path: Path
) -> None:
    read = Read(test_data, tmp_path, "sqlite://")
    penguins = project(
        Measurements,
        source=Csv(File("penguins/penguins.csv"), nulls=("NA",)),
        target="species",
        classes=["Adelie", "Chinstrap", "Gentoo"],
        quality=Quality(),
    )
    checked = check(penguins.source.read(read).frame, penguins)
    assert (checked.report.kept, checked.report.refused) == (342, 2)

    titanic = project(
        Passenger,
        source=Csv(File("titanic/train.csv")),
        target="Survived",
        classes=[0, 1],
        quality=Quality(),
        split=Split(key=("PassengerId",)),
    )
    checked = check(titanic.source.read(read).frame, titanic)
    assert (checked.report.kept, checked.report.refused) == (891, 0)
    assert checked.frame["Survived"].sum() == 342
    assert checked.frame["Age"].null_count() == 177

    crimes = project(
        Crime,
        source=Parquet(File("chicago_crimes/crimes_2016.parquet")),
        target="FBI Code",
        classes=None,
        quality=Quality(),
        split=Split(key=("ID",)),
    )
    frame = crimes.source.read(read).frame.head(20_000)
    checked = check(frame, crimes)
    holes = frame.filter((pl.col("Latitude") == "") | (pl.col("District") == "")).height
    assert checked.report.refused == holes > 0
    assert checked.frame["FBI Code"].str.contains("^[01]").any()
    assert checked.frame.filter(pl.col("District") == 12).height > 0


class Digit(BaseModel):
    pixels: Annotated[Pixels, Image(28, 28)]


def test_mnist_passes_whole(test_data: Path, tmp_path: Path) -> None:
    source = Idx(
        File("mnist/t10k-images-idx3-ubyte.gz"), File("mnist/t10k-labels-idx1-ubyte.gz"), "test"
    )
    digits = project(
        Digit, source=source, classes=range(10), quality=Quality(), split=Split(given="part")
    )
    checked = check(source.read(Read(test_data, tmp_path, "sqlite://")).frame, digits)
    assert (checked.report.kept, checked.report.refused) == (10_000, 0)
    assert checked.frame.schema == {"pixels": pl.Binary, "label": pl.Int64, "part": pl.String}
