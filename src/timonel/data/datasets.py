"""Datasets: frames as Parquet in the object store, under the hash of their content."""

import io
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Objects", "load", "save"]

_ROW_GROUP = 65_536


class Objects(Protocol):
    """What of an object store is needed here."""

    def put(self, data: bytes) -> str:
        """Keep some bytes; their key follows from their content."""
        ...

    def get(self, key: str) -> bytes:
        """The bytes of a key."""
        ...


def save(frame: "pl.DataFrame", objects: Objects) -> str:
    """Keep a frame (Parquet, zstd) and return its key; the same rows in order give the same key."""
    buffer = io.BytesIO()
    # How a frame came to be shows in its chunks, and those would show in the file.
    frame.rechunk().write_parquet(
        buffer, compression="zstd", compression_level=3, row_group_size=_ROW_GROUP
    )
    return objects.put(buffer.getvalue())


def load(key: str, objects: Objects) -> "pl.DataFrame":
    """The frame of a key; raises what the store raises when it is missing or changed."""
    import polars as pl

    return pl.read_parquet(io.BytesIO(objects.get(key)))
