"""The idx format of MNIST: unsigned bytes behind a short header, usually gzipped."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from timonel.errors import SourceError

__all__ = ["read_images", "read_labels"]

_UNSIGNED_BYTE = 0x08


def read_images(path: Path) -> tuple[list[bytes], int, int]:
    """The pictures of an idx3 file (height · width bytes each, row by row), height and width.

    Raises:
        SourceError: it is no idx file of pictures, or not all of it is there.
    """
    content, (count, height, width) = _read(path, 3)
    size = height * width
    return [content[i * size : (i + 1) * size] for i in range(count)], height, width


def read_labels(path: Path) -> list[int]:
    """The labels (0..255) of an idx1 file.

    Raises:
        SourceError: it is no idx file of labels, or not all of it is there.
    """
    content, _ = _read(path, 1)
    return list(content)


def _read(path: Path, dimensions: int) -> tuple[bytes, tuple[int, ...]]:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if zipped else raw
            magic = stream.read(4)
            if magic != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
                expected = f"0000{_UNSIGNED_BYTE:02x}{dimensions:02x}"
                raise SourceError(
                    f"{path}: expected an idx file of {dimensions} dimension(s) (it starts with "
                    f"{expected}), got {magic.hex() or 'nothing'}.",
                    remedy="Give images= the idx3 file and labels= the idx1 file.",
                )
            shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
            size = math.prod(shape)
            content = stream.read(size)
            more = len(content) == size and stream.read(1)
    except (EOFError, OSError, struct.error, zlib.error) as error:
        raise SourceError(
            f"{path}: expected a whole idx file, got: {error}.", remedy="Fetch the file again."
        ) from None
    if len(content) < size or more:
        raise SourceError(
            f"{path}: expected {size:,} bytes after the header ({' × '.join(map(str, shape))}), "
            f"got {'more' if more else f'{len(content):,}'}.",
            remedy="Fetch the file again.",
        )
    return content, shape
