"""Arrays as what an estimator is fitted on."""

from typing import Annotated

import numpy as np
from pydantic import BaseModel

from timonel.schema import Image, Pixels, columns_of
from timonel.tensors import arrays_of
from timonel.training.design import design_matrix


class Numbers(BaseModel):
    a: float | None
    b: int


class Mixed(BaseModel):
    a: float | None
    sex: str | None


class Digit(BaseModel):
    pixels: Annotated[Pixels, Image(2, 2)]


def test_numbers_are_a_float32_matrix_in_the_order_of_the_features() -> None:
    columns = columns_of(Numbers)
    X = design_matrix(columns, arrays_of(columns, {"b": [1, 2], "a": [0.5, None]}))
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, [[0.5, 1], [np.nan, 2]])


def test_pictures_are_a_row_each() -> None:
    columns = columns_of(Digit)
    X = design_matrix(columns, arrays_of(columns, {"pixels": [[0, 255, 1, 2]] * 3}))
    assert X.shape == (3, 4)


def test_categories_make_it_a_frame_that_names_its_columns() -> None:
    columns = columns_of(Mixed)
    X = design_matrix(columns, arrays_of(columns, {"a": [1, None], "sex": ["male", None]}))
    assert list(X.columns) == ["a", "sex"]
    assert X["sex"].dtype == object
    assert X["sex"].tolist() == ["male", ""]
    assert X["a"].dtype == np.float32
