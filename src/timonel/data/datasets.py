"""Datasets: frames as Parquet in the object store, under the hash of their content."""

import io
from typing import TYPE_CHECKING

from timonel.errors import StoreError

if TYPE_CHECKING:
    import polars as pl

    from timonel.stores.objects import ObjectStore

__all__ = ["load", "save"]

_ROW_GROUP = 65_536


def save(frame: "pl.DataFrame", objects: "ObjectStore") -> str:
    """Keep a frame (Parquet, zstd) and return its key; the same rows in order give the same key.

    Categorical columns become String.
    """
    import polars as pl

    buffer = io.BytesIO()
    # The numbers of a Categorical's texts are those of this process.
    frame = frame.with_columns(pl.col(pl.Categorical).cast(pl.String))
    # How a frame came to be shows in its chunks, and those would show in the file.
    frame.rechunk().write_parquet(
        buffer, compression="zstd", compression_level=3, row_group_size=_ROW_GROUP
    )
    return objects.put(buffer.getvalue())


def load(key: str, objects: "ObjectStore") -> "pl.DataFrame":
    """The frame of a key; raises StoreError when it is missing, changed or no dataset."""
    import polars as pl

    content = objects.get(key)
    try:
        return pl.read_parquet(io.BytesIO(content))
    except pl.exceptions.PolarsError as error:
        raise StoreError(f"{key}: expected a dataset in Parquet, got: {error}.") from None
