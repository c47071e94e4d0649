"""The rows that a version carries for drift."""

from typing import Annotated

import polars as pl
from pydantic import BaseModel

from timonel.schema import columns_of
from timonel.training.reference import reference_rows


class Features(BaseModel):
    a: float
    b: Annotated[str, "text"]


COLUMNS = columns_of(Features)


def frame(rows: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "b": [str(n % 7) for n in range(rows)],
            "a": [float(n) for n in range(rows)],
            "extra": [0] * rows,
            "y": [n % 2 for n in range(rows)],
        }
    )


def test_few_rows_are_kept_whole_without_other_columns() -> None:
    kept = reference_rows(frame(10), COLUMNS, "y", limit=10)
    assert kept.equals(frame(10).select("a", "b", "y"))


def test_many_rows_are_sampled_in_order_and_by_seed() -> None:
    kept = reference_rows(frame(1_000), COLUMNS, "y", limit=100, seed=1)
    assert kept.height == 100
    assert kept["a"].is_sorted()
    assert kept["a"].n_unique() == 100
    assert kept.equals(reference_rows(frame(1_000), COLUMNS, "y", limit=100, seed=1))
    assert not kept.equals(reference_rows(frame(1_000), COLUMNS, "y", limit=100, seed=2))
