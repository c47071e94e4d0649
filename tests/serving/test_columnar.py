"""Tables judged column by column, beside the same rows judged one by one."""

import json
import math
from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from timonel.contract import Contract
from timonel.data.chunks import _of_rows
from timonel.project import Model, Project, Read, Rows
from timonel.schema import Image, Pixels
from timonel.serving.columnar import MissingColumns, TableReader
from timonel.serving.rows import OutOfRange, RowReader


class Nothing:
    def read(self, read: Read) -> Rows:
        raise NotImplementedError


class Port(Enum):
    cherbourg = "C"
    queenstown = "Q"


class Everything(BaseModel):
    size: float = Field(gt=0, le=1e6, validation_alias=AliasChoices("size", "Size (mm)"))
    free: float
    weight: float | None = Field(None, ge=-5)
    count: int = Field(ge=0, lt=100)
    code: int | None
    sunny: bool
    wet: bool | None = None
    sex: Literal["male", "female"]
    port: Port | None
    name: str = Field(min_length=2, max_length=4)
    note: str | None = None


class Judging(BaseModel):
    size: float
    name: str = Field("abc", pattern="^[a-z]+$")

    @field_validator("size")
    @classmethod
    def whole(cls, value: float) -> float:
        if value != math.floor(value):
            raise ValueError("Expected a whole size")
        return value


class Pictures(BaseModel):
    pixels: Annotated[Pixels, Image(2, 2)]


def reader_of(features: type[BaseModel], **contract: Any) -> tuple[TableReader, RowReader]:
    project = Project(
        name="table",
        source=Nothing(),
        features=features,
        target="answer",
        models=[Model("m", lambda: None)],
        contract=Contract(**contract),
    )
    rows = RowReader(project, 1_000)
    return TableReader(project, rows), rows


def one_by_one(reader: RowReader, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """What each row is as a JSON body of its own: its values, or None where it is refused."""
    found: list[Any] = []
    for row in rows:
        try:
            read, _ = reader.read(json.dumps(row).encode())
            inputs = reader.inputs(read, single=True)
            found.append((inputs.values()[0], {k: v[0] for k, v in inputs.arrays.items()}))
        except (ValidationError, OutOfRange):
            found.append(None)
    return found


def same(table_reader: TableReader, reader: RowReader, frame: Any, rows: Any) -> None:
    """Each row has one verdict, one value for the journal and one for the model, either way."""
    table = table_reader.read(frame)
    expected = one_by_one(reader, rows)
    assert table.fit.tolist() == [row is not None for row in expected]
    assert {c.row for c in table.complaints} == {i for i, r in enumerate(expected) if r is None}
    fit = [row for row in expected if row is not None]
    assert table.inputs.count == len(fit)
    assert list(table.inputs.values()) == [values for values, _ in fit]
    for name, array in table.inputs.arrays.items():
        for found, (_, arrays) in zip(array, fit, strict=True):
            np.testing.assert_array_equal(found, arrays[name])


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-10, 200),
    st.sampled_from([0, 1, 0.5, 99, 100, 1e6, 1e39, 2**53, 10**30, -5, 3.0]),
)
TEXTS = [
    "3.5", " 4 ", "1e3", "+7", "1_000", "nan", "inf", "-inf", "1e999", "0x10", "٣", "5.", ".5",
    "true", "False", "TRUE", "yes", "no", "t", "1", "0", "on", "", " ", "male", "female", "C", "Q",
    "S", "ab", "abcd", "abcde", "é", "3.0", "12", "-0", "1.0", "9" * 30, "a\nb",
]  # fmt: skip
ODD = st.one_of(
    NUMBERS,
    st.booleans(),
    st.none(),
    st.sampled_from(TEXTS),
    st.text(max_size=5).filter(lambda text: text.isprintable()),
)
GOOD = {
    "size": 1.5, "free": 2.0, "weight": None, "count": 3, "code": 7, "sunny": True, "wet": False,
    "sex": "male", "port": "C", "name": "abc", "note": None,
}  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.dictionaries(st.sampled_from(list(GOOD)), ODD, max_size=3), min_size=1))
def test_rows_of_json_get_the_verdict_that_each_gets_alone(changes: list[dict[str, Any]]) -> None:
    table_reader, reader = reader_of(Everything)
    rows = [{**GOOD, **change} for change in changes]
    frame = _of_rows(rows)
    left_out = {"size", "free", "count", "sunny", "sex", "name"}  # null is left out, where it may
    rows = [{k: v for k, v in row.items() if v is not None or k not in left_out} for row in rows]
    same(table_reader, reader, frame, rows)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(GOOD)), st.lists(ODD, min_size=1))
def test_columns_of_one_type_and_of_texts_get_it_too(name: str, values: list[Any]) -> None:
    table_reader, reader = reader_of(Everything)
    for kinds in ((float, int), (str,), (bool,), (int,)):
        some = [v for v in values if type(v) in kinds or v is None]
        frame = _of_rows([{**GOOD, name: value} for value in [*some, GOOD[name]]])
        rows = [{**GOOD, name: value} for value in [*some, GOOD[name]]]
        rows = [{k: v for k, v in r.items() if v is not None or k in NULLABLE} for r in rows]
        same(table_reader, reader, frame, rows)


NULLABLE = {"weight", "code", "wet", "port", "note"}


def test_not_a_number_and_infinity_are_refused_and_null_is_missing() -> None:
    table_reader, _ = reader_of(Everything)
    frame = pl.DataFrame([GOOD] * 3).with_columns(weight=pl.Series([math.nan, math.inf, None]))
    table = table_reader.read(frame)
    assert table.fit.tolist() == [False, False, True]
    assert [(c.row, c.field, c.message) for c in table.complaints] == [
        (0, "weight", "Input should be a finite number"),
        (1, "weight", "Input should be a finite number"),
    ]


def test_a_column_may_have_any_of_a_features_names() -> None:
    table_reader, _ = reader_of(Everything)
    table = table_reader.read(pl.DataFrame([GOOD]).rename({"size": "Size (mm)"}))
    assert table.inputs.arrays["size"].tolist() == [1.5]


def test_what_a_definition_checks_by_itself_is_asked_of_it() -> None:
    table_reader, _ = reader_of(Judging)
    frame = pl.DataFrame({"size": [1.0, 1.5, 2.0], "name": ["ab", "ab", "A"]})
    table = table_reader.read(frame)
    assert [(c.row, c.field) for c in table.complaints] == [(1, "size"), (2, "name")]
    assert table.inputs.arrays["size"].tolist() == [1.0]


def test_a_column_that_may_be_absent_has_its_default() -> None:
    table_reader, _ = reader_of(Judging)
    table = table_reader.read(pl.DataFrame({"size": [1.0]}))
    assert table.inputs.arrays["name"].tolist() == ["abc"]
    assert table.inputs.values() == [(1.0, "abc")]


def test_a_table_without_a_needed_column_is_refused_as_a_whole() -> None:
    table_reader, _ = reader_of(Everything)
    with pytest.raises(MissingColumns, match="free, sex are missing, got size"):
        table_reader.read(pl.DataFrame([GOOD]).drop("free", "sex"))


def test_unknown_columns_are_refused_where_the_contract_says_so() -> None:
    frame = pl.DataFrame([{**GOOD, "more": 1}])
    assert reader_of(Everything)[0].read(frame).fit.tolist() == [True]
    with pytest.raises(MissingColumns, match="got also more"):
        reader_of(Everything)[0].read(frame, strict=True)
    assert reader_of(Everything, unknown="ignore")[0].read(frame, strict=True).inputs.count == 1


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.lists(st.sampled_from([0, 1, 0.5, 7.25, 255, 256, -1, 128]), min_size=3, max_size=5),
        min_size=1,
        max_size=5,
    )
)
def test_pictures_are_lists_of_numbers(pictures: list[list[float]]) -> None:
    table_reader, reader = reader_of(Pictures)
    rows = [{"pixels": numbers} for numbers in pictures]
    same(table_reader, reader, pl.DataFrame(rows, strict=False), rows)
    texts = [{"pixels": json.dumps(numbers)} for numbers in pictures]
    same(table_reader, reader, pl.DataFrame(texts), rows)


def test_options_of_a_definition_are_kept() -> None:
    class Stripped(BaseModel):
        model_config = ConfigDict(str_strip_whitespace=True)
        name: str

    table = reader_of(Stripped)[0].read(pl.DataFrame({"name": [" a "]}))
    assert table.inputs.arrays["name"].tolist() == ["a"]
