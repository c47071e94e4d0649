"""Arrays: the same from rows and from frames, and fed as a graph takes them."""

from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

from timonel.errors import DataRefused
from timonel.schema import Column, Image
from timonel.signature import Binding
from timonel.tensors import arrays_of, arrays_of_frame, binding_for, feed, feeder, picture_of

AGE = Column("age", "number", nullable=True)
FLOORS = Column("floors", "integer", nullable=True)
ALIVE = Column("alive", "boolean")
SEX = Column("sex", "category", nullable=True)
PICTURE = Column("pixels", "image", image=Image(2, 2))


def test_rows_and_frames_give_the_same_arrays() -> None:
    values: dict[str, list[Any]] = {
        "age": [1.5, None],
        "floors": [3, None],
        "alive": [True, False],
        "sex": ["male", None],
    }
    columns = (AGE, FLOORS, ALIVE, SEX)
    rows, frame = arrays_of(columns, values), arrays_of_frame(columns, pl.DataFrame(values))
    for name in values:
        np.testing.assert_array_equal(rows[name], frame[name])
        assert rows[name].dtype == frame[name].dtype
    assert np.isnan(rows["age"][1])
    assert rows["sex"].tolist() == ["male", ""]


def test_a_column_of_bytes_is_pictures_and_other_sizes_are_refused() -> None:
    frame = pl.DataFrame({"pixels": [bytes([0, 1, 2, 255])]})
    assert arrays_of_frame((PICTURE,), frame)["pixels"].tolist() == [[0, 1, 2, 255]]
    with pytest.raises(DataRefused, match="expected 4 bytes"):
        arrays_of_frame((PICTURE,), pl.DataFrame({"pixels": [b"123"]}))


def test_the_layout_follows_the_kinds_of_columns() -> None:
    assert binding_for((AGE, FLOORS, ALIVE)).layout == "matrix"
    assert binding_for((AGE, SEX)) == Binding("columns", ("age", "sex"))
    assert binding_for((PICTURE,)) == Binding("image", ("pixels",), shape=(4,))


def test_numbers_are_fed_as_one_matrix_in_the_columns_order() -> None:
    arrays = arrays_of((AGE, FLOORS), {"floors": [3, 4], "age": [1, 2]})
    (matrix,) = feed(binding_for((AGE, FLOORS)), (AGE, FLOORS), arrays).values()
    assert matrix.tolist() == [[1, 3], [2, 4]]
    assert matrix.dtype == np.float32


def test_mixed_columns_are_fed_one_by_one() -> None:
    arrays = arrays_of((AGE, SEX), {"age": [1], "sex": ["male"]})
    fed = feed(binding_for((AGE, SEX)), (AGE, SEX), arrays)
    assert {name: value.tolist() for name, value in fed.items()} == {
        "age": [[1.0]],
        "sex": [["male"]],
    }


def test_pictures_are_fed_in_the_shape_and_range_of_the_graph() -> None:
    arrays = arrays_of((PICTURE,), {"pixels": [[0, 51, 102, 255]]})
    binding = Binding("image", ("in",), shape=(1, 2, 2), low=-1, high=1)
    fed = feed(binding, (PICTURE,), arrays)["in"]
    assert fed.shape == (1, 1, 2, 2)
    np.testing.assert_allclose(fed.ravel(), [-1, -0.6, -0.2, 1], atol=1e-6)


def test_a_prepared_picture_takes_the_polarity_and_range_of_the_column() -> None:
    ink = np.array([[0, 255], [51, 0]], np.uint8)
    assert picture_of(PICTURE, ink).tolist() == [0, 255, 51, 0]
    dark = Column("pixels", "image", image=Image(2, 2, low=0, high=1, ink="dark"))
    np.testing.assert_allclose(picture_of(dark, ink), [1, 0, 0.8, 1], atol=1e-6)
    with pytest.raises(DataRefused, match="expected an image"):
        picture_of(AGE, ink)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("layout", ["matrix", "columns"])
def test_the_short_way_to_a_graphs_inputs_makes_the_same_ones(
    layout: Literal["matrix", "columns"], rows: int, order: list[int]
) -> None:
    given = [
        Column("age", "number", nullable=True),
        Column("alone", "boolean"),
        Column("port", "category", nullable=True)
        if layout == "columns"
        else Column("siblings", "integer"),
    ]
    columns = [given[place] for place in order]
    last = [None, "S", ""] if layout == "columns" else [1, 16_777_217, None]
    table = [(0.1, True, last[0]), (None, False, last[1]), (1e-42, True, last[2])][:rows]
    names = ("features",) if layout == "matrix" else tuple(column.name for column in columns)
    binding = Binding(layout, names)
    values = {column.name: [row[place] for row in table] for place, column in enumerate(given)}
    long = feed(binding, columns, arrays_of(columns, values))
    short = feeder(binding, columns, given)(table)
    assert list(short) == list(long)
    for name, array in long.items():
        assert short[name].dtype == array.dtype
        assert short[name].shape == array.shape
        np.testing.assert_array_equal(short[name], array)


@pytest.mark.parametrize("rows", [1, 2])
def test_the_short_way_scales_pictures_alike(rows: int) -> None:
    column = Column("pixels", "image", image=Image(2, 2))
    binding = Binding("image", ("in",), shape=(1, 2, 2), low=-1.0, high=1.0)
    pictures = [(np.array([0, 51, 102, 255], np.float32),), (np.full(4, 7, np.float32),)][:rows]
    arrays = arrays_of([column], {"pixels": [picture for (picture,) in pictures]})
    long = feed(binding, [column], arrays)
    short = feeder(binding, [column], [column])(pictures)
    np.testing.assert_array_equal(short["in"], long["in"])
    assert short["in"].shape == (rows, 1, 2, 2)
