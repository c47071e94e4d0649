"""Columns: what is derived from a project's features, and how pictures are read."""

import json
from enum import Enum
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from timonel.errors import DefinitionError
from timonel.schema import Column, Image, Pixels, columns_of


class Port(Enum):
    SOUTHAMPTON = "S"
    CHERBOURG = "C"


class Everything(BaseModel):
    age: float | None = Field(None, ge=0, lt=150)
    floors: int = Field(gt=0, le=12)
    alive: bool
    town: Annotated[str, Field(min_length=1)] = Field(max_length=40)
    sex: Literal["male", "female"]
    port: Port | None


class Tiny(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)
    pixels: Annotated[Pixels, Image(2, 2)]


def pixels(value: Any) -> np.ndarray:
    found: np.ndarray = Tiny.model_validate_json(json.dumps({"pixels": value})).pixels
    return found


def complaint(value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Tiny.model_validate({"pixels": value})
    return caught.value.errors()[0]["type"]


def test_each_field_is_a_column_with_its_kind_and_what_it_allows() -> None:
    assert columns_of(Everything) == (
        Column("age", "number", nullable=True, ge=0, lt=150),
        Column("floors", "integer", gt=0, le=12),
        Column("alive", "boolean"),
        Column("town", "category", min_length=1, max_length=40),
        Column("sex", "category", categories=("male", "female")),
        Column("port", "category", nullable=True, categories=("S", "C")),
    )


def test_an_image_is_a_column_of_its_own() -> None:
    assert columns_of(Tiny) == (Column("pixels", "image", image=Image(2, 2)),)


@pytest.mark.parametrize("kind", [list[float], dict[str, int], bytes, int | str, object])
def test_a_type_that_is_no_column_is_refused_with_the_field(kind: Any) -> None:
    features = create_model("Features", odd=(kind, ...))
    with pytest.raises(DefinitionError, match=r"Features\.odd: expected float, int, bool, str"):
        columns_of(features)


def test_features_without_fields_are_refused() -> None:
    with pytest.raises(DefinitionError, match="at least one field"):
        columns_of(create_model("Features"))


def test_an_image_beside_other_features_is_refused() -> None:
    features = create_model(
        "Features", pixels=(Annotated[Pixels, Image(2, 2)], ...), age=(float, ...)
    )
    with pytest.raises(DefinitionError, match="only feature"):
        columns_of(features)


def test_whole_numbers_beyond_float32_are_refused_with_what_to_use() -> None:
    features = create_model("Features", zip=(int, Field(le=10**9)))
    with pytest.raises(DefinitionError, match="`str` if it is a code"):
        columns_of(features)


def test_what_a_column_allows_reads_as_a_phrase() -> None:
    phrases = [column.allows() for column in columns_of(Everything)]
    assert phrases == [
        "number, ≥ 0, < 150 or missing",
        "integer, > 0, ≤ 12",
        "boolean",
        "text, at least 1 characters, at most 40 characters",
        "one of male, female",
        "one of S, C or missing",
    ]


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4).filter(lambda v: max(v) > 1))
def test_numbers_of_0_to_255_go_in_as_given(value: list[int]) -> None:
    assert pixels(value).tolist() == value


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4))
def test_numbers_of_0_to_1_mean_the_same_picture(value: list[int]) -> None:
    scaled = [number / 255 for number in value]
    assert pixels(scaled).tolist() == value


@pytest.mark.parametrize("value", [[[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]], [[[[1, 2, 3, 4]]]]])
def test_any_nesting_of_the_right_total_is_one_picture(value: Any) -> None:
    assert pixels(value).tolist() == [1, 2, 3, 4]


def test_an_array_is_a_picture_too() -> None:
    assert Tiny(pixels=np.arange(4).reshape(2, 2)).pixels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("abcd", "image_type"),
        ({"0": 1}, "image_type"),
        (None, "image_type"),
        ([1, 2, 3], "image_size"),
        ([1, 2, 3, 4, 5], "image_size"),
        ([], "image_size"),
        ([1, 2, 3, "4"], "image_value"),
        ([1, 2, 3, True], "image_value"),
        ([1, 2, 3, None], "image_value"),
        ([1, 2, 3, {}], "image_value"),
        ([1, 2, 3, -1], "image_range"),
        ([1, 2, 3, 256], "image_range"),
        ([1, 2, 3, float("nan")], "image_range"),
        ([1, 2, 3, float("inf")], "image_range"),
        ([1, 2, 3, 1e39], "image_range"),
        ([1, 2, 3, 10**400], "image_range"),
    ],
)
def test_what_is_no_picture_is_refused_by_what_is_wrong_with_it(value: Any, kind: str) -> None:
    assert complaint(value) == kind


def test_the_json_schema_of_an_image_says_its_size_and_range() -> None:
    schema = Tiny.model_json_schema()["properties"]["pixels"]
    assert (schema["minItems"], schema["maxItems"]) == (4, 4)
    assert (schema["items"]["minimum"], schema["items"]["maximum"]) == (0, 255)
