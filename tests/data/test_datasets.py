"""Datasets in the object store."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from timonel.data.datasets import load, save
from timonel.errors import StoreError
from timonel.stores.objects import ObjectStore

SCRIPT = """
import sys
import polars as pl
from timonel.data.datasets import save
from timonel.stores.objects import ObjectStore
frame = pl.DataFrame({"n": list(range(100_000))}).with_columns(
    text=pl.col("n").mod(7).cast(pl.String), pixels=pl.col("n").cast(pl.String).cast(pl.Binary)
)
print(save(frame, ObjectStore.open(sys.argv[1])))
"""


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore.open((tmp_path / "objects").as_uri())


def frame() -> pl.DataFrame:
    return pl.DataFrame({"n": list(range(100_000))}).with_columns(
        text=pl.col("n").mod(7).cast(pl.String), pixels=pl.col("n").cast(pl.String).cast(pl.Binary)
    )


def test_a_frame_comes_back_as_it_went_in(objects: ObjectStore) -> None:
    rows = pl.DataFrame(
        {
            "number": [1.5, None],
            "integer": [2**53 + 1, None],
            "boolean": [True, None],
            "text": ["", None],
            "pixels": [b"\x00\xff", None],
        }
    )
    assert_frame_equal(load(save(rows, objects), objects), rows)


def test_the_same_rows_give_the_same_key_however_the_frame_was_made(objects: ObjectStore) -> None:
    whole = frame()
    pieces = pl.concat([whole[:10], whole[10:70_000], whole[70_000:]], rechunk=False)
    padded = pl.concat([whole[:5], whole])[5:]
    assert len({save(rows, objects) for rows in (whole, pieces, padded)}) == 1


def test_another_process_gives_the_same_key(objects: ObjectStore, tmp_path: Path) -> None:
    url = (tmp_path / "other").as_uri()
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, url], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == save(frame(), objects)


def test_other_rows_another_order_or_another_type_give_another_key(objects: ObjectStore) -> None:
    whole = frame()
    others = [whole, whole[1:], whole.reverse(), whole.with_columns(pl.col("n").cast(pl.Int32))]
    assert len({save(rows, objects) for rows in others}) == 4


def test_an_object_that_is_no_dataset_is_refused(objects: ObjectStore) -> None:
    with pytest.raises(StoreError, match="expected a dataset"):
        load(objects.put(b"not Parquet"), objects)
