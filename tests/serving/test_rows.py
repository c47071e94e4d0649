"""Bodies become rows as the contract says, and refusals say where and what."""

import json
import math
from enum import Enum
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from tests.serving.boats import boat
from timonel.contract import Contract
from timonel.errors import BodyTooLarge
from timonel.project import Model, Project
from timonel.schema import Image, Pixels
from timonel.serving.rows import OutOfRange, RowReader, refusal_of


class Port(Enum):
    SOUTHAMPTON = "S"
    CHERBOURG = "C"


class Passenger(BaseModel):
    age: float | None = None
    sex: Literal["male", "female"]
    port: Port | None = None
    cabin: str = Field("", max_length=20)
    siblings: int | None = Field(None, ge=0)
    alone: bool = False


class Picture(BaseModel):
    pixels: Annotated[Pixels, Image(2, 2)]


class Nothing:
    def read(self, read: Any) -> Any:
        raise NotImplementedError


def reader(features: type[BaseModel] = Passenger, max_rows: int = 5, **contract: Any) -> RowReader:
    project = Project(
        name="boat",
        source=Nothing(),
        features=features,
        target="survived",
        models=[Model("m", lambda: None)],
        contract=Contract(**contract),
    )
    return RowReader(project, max_rows)


def refused(reading: RowReader, body: Any) -> tuple[int, Any]:
    with pytest.raises(ValidationError) as error:
        reading.read(body if isinstance(body, bytes) else json.dumps(body).encode())
    status, refusal = refusal_of(error.value)
    json.dumps(refusal.model_dump(), allow_nan=False)
    return status, refusal.detail


MALE = {"sex": "male"}


def test_one_row_or_a_list_are_told_apart_where_either_may_come() -> None:
    rows, single = reader().read(b' {"sex": "male", "age": 22} ')
    assert (len(rows), single) == (1, True)
    rows, single = reader().read(b' [{"sex": "male"}, {"sex": "female"}] ')
    assert (len(rows), single) == (2, False)
    assert reader().read(b"[]") == ([], False)


def test_a_contract_of_one_row_refuses_a_list_and_of_many_a_row() -> None:
    assert refused(reader(rows="one"), [MALE])[0] == 422
    status, detail = refused(reader(rows="many"), MALE)
    assert (status, detail[0]["type"]) == (422, "list_type")
    assert len(reader(rows="many").read(json.dumps([MALE]).encode())[0]) == 1


def test_a_row_under_a_key_is_unwrapped_and_its_complaints_name_the_key() -> None:
    wrapped = reader(under="features")
    rows, single = wrapped.read(json.dumps({"features": MALE}).encode())
    assert single
    assert rows[0].sex == "male"  # type: ignore[attr-defined]
    assert refused(wrapped, MALE)[1][0]["loc"] == ["body", "features"]
    assert refused(wrapped, {"features": {}})[1][0]["loc"] == ["body", "features", "sex"]


@pytest.mark.parametrize("key", ["json", "schema", "model_config", "_row", "two words", "copy"])
def test_a_row_may_be_under_any_key(key: str) -> None:
    rows, _ = reader(under=key).read(json.dumps({key: MALE}).encode())
    assert rows[0].sex == "male"  # type: ignore[attr-defined]


def test_unknown_fields_are_refused_or_ignored_beside_the_row_and_around_it() -> None:
    more = MALE | {"name": "Owen"}
    assert refused(reader(), more)[1][0]["msg"] == "Extra inputs are not permitted"
    assert refused(reader(under="x"), {"x": MALE, "y": 1})[1][0]["loc"] == ["body", "y"]
    assert reader(unknown="ignore").read(json.dumps(more).encode())[1]
    both = json.dumps({"x": more, "y": 1}).encode()
    assert reader(unknown="ignore", under="x").read(both)[1]


def test_more_rows_than_allowed_are_refused() -> None:
    with pytest.raises(BodyTooLarge, match="Expected at most 5 rows in a request, got 6"):
        reader().read(json.dumps([MALE] * 6).encode())


def test_missing_values_enumerations_and_truths_become_arrays() -> None:
    reading = reader()
    rows, _ = reading.read(
        json.dumps(
            [
                MALE | {"age": None, "port": "S", "siblings": 1, "alone": True},
                MALE | {"age": 30.5, "port": None},
            ]
        ).encode()
    )
    arrays = reading.arrays(rows)
    assert np.isnan(arrays["age"][0])
    assert arrays["age"][1] == 30.5
    assert arrays["port"].tolist() == ["S", ""]
    assert arrays["siblings"][0] == 1
    assert np.isnan(arrays["siblings"][1])
    assert arrays["alone"].tolist() == [1.0, 0.0]
    assert arrays["sex"].tolist() == ["male", "male"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sex", "unknown"),
        ("port", "Q"),
        ("cabin", "c" * 21),
        ("siblings", -1),
        ("siblings", 1.5),
        ("alone", "perhaps"),
        ("age", math.nan),
        ("age", math.inf),
    ],
)
def test_a_value_that_the_type_does_not_allow_is_refused_at_its_place(
    field: str, value: Any
) -> None:
    status, detail = refused(reader(), json.dumps(MALE | {field: value}).encode())
    assert status == 422
    assert detail[0]["loc"] == ["body", field]


@pytest.mark.parametrize(
    ("field", "value"),
    [("siblings", 10**400), ("siblings", 10**60), ("age", 1e300), ("age", 10**60)],
)
def test_a_number_that_float32_does_not_hold_is_refused(field: str, value: float) -> None:
    reading = reader()
    rows, _ = reading.read(json.dumps(MALE | {field: value}).encode())
    with pytest.raises(OutOfRange, match=r"Expected numbers within ±3\.403e\+38 in .*" + field):
        reading.arrays(rows)


def test_a_picture_with_a_wrong_count_is_400_wherever_it_stands() -> None:
    sentence = "Expected 4 numbers (2×2 pixels), got 3."
    for body in ({"pixels": [1, 2, 3]}, [1, 2, 3], [[1, 2], [3]]):
        assert refused(reader(Picture, rows="one"), body) == (400, sentence)
    assert refused(reader(Picture), [{"pixels": [1, 2, 3]}]) == (400, sentence)


def test_a_bare_picture_and_a_list_of_rows_are_told_apart() -> None:
    reading = reader(Picture)
    assert reading.read(b"[[0, 50], [100, 255]]")[1]
    rows, single = reading.read(b' [ {"pixels": [0, 1, 2, 3]}, {"pixels": [3, 2, 1, 0]}]')
    assert not single
    assert reading.arrays(rows)["pixels"].tolist() == [[0, 1, 2, 3], [3, 2, 1, 0]]


def test_only_so_many_complaints_are_listed_and_long_values_are_left_out() -> None:
    body = [{"sex": "x" * 500} for _ in range(5)] + [{}]
    status, detail = refused(reader(max_rows=100), body * 10)
    assert (status, len(detail)) == (422, 20)
    assert "input" not in detail[0]


def status_of(reading: RowReader, body: bytes) -> int:
    """200 for rows, or the status of the refusal, whose body must be JSON."""
    try:
        reading.arrays(reading.read(body)[0])
    except ValidationError as error:
        status, refusal = refusal_of(error)
        json.dumps(refusal.model_dump(), allow_nan=False)
        return status
    except OutOfRange as error:
        return error.status
    return 200


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(body: bytes) -> None:
    for reading in (READ_ROWS, READ_PICTURES):
        assert status_of(reading, body) in {200, 400, 422}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from([*Passenger.model_fields, "pixels", "other"]), inner, max_size=6
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_json_raises_anything_but_a_refusal(value: Any) -> None:
    for reading in (READ_ROWS, READ_PICTURES):
        assert status_of(reading, json.dumps(value).encode()) in {200, 400, 422}


READ_ROWS, READ_PICTURES = reader(), reader(Picture)


def test_more_rows_than_allowed_are_refused_before_each_is_complained_about() -> None:
    reader = RowReader(boat(rows="many"), 10)
    with pytest.raises(BodyTooLarge, match="Expected at most 10 rows in a request, got 50000"):
        reader.read(b"[" + b",".join([b"{}"] * 50_000) + b"]")
