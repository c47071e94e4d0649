"""Tensors of the Open Inference Protocol: their datatypes, in JSON and as bytes after it.

The binary extension puts a tensor's bytes, little-endian and row by row, behind the JSON part of
the body; texts are each preceded by their length as a uint32.
"""

import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from timonel.errors import BadRequest

__all__ = ["DATATYPES", "pack_texts", "split_body", "unpack", "values_of"]

_NUMBERS = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
DATATYPES = (*_NUMBERS, "BYTES")
"""What a tensor may hold."""


def split_body(body: bytes, header: str | None) -> tuple[bytes, bytes]:
    """The JSON part and what follows it; `header` is Inference-Header-Content-Length.

    Raises:
        BadRequest: the header is no length within the body.
    """
    if header is None:
        return body, b""
    length = int(header) if header.isascii() and header.isdecimal() and len(header) < 16 else -1
    if not 0 <= length <= len(body):
        raise BadRequest(
            f"Expected Inference-Header-Content-Length to be the length of the JSON part, 0 to "
            f"{len(body)}, got {header[:40]!r}."
        )
    return body[:length], body[length:]


def unpack(name: str, datatype: str, shape: Sequence[int], content: bytes) -> np.ndarray:
    """A tensor's bytes as an array (rows, values of a row); texts as objects.

    Raises:
        BadRequest: they are not as many as the shape says, or no texts.
    """
    count = prod(shape)
    if datatype == "BYTES":
        texts = _texts(name, content)
        if len(texts) != count:
            raise _wrong_count(name, shape, len(texts))
        return _rows(np.array(texts, object), shape)
    kind = np.dtype(_NUMBERS[datatype])
    if len(content) != count * kind.itemsize:
        raise BadRequest(
            f"Input {name!r}: expected {count * kind.itemsize} bytes for {datatype} of shape "
            f"{list(shape)}, got {len(content)}."
        )
    values = _rows(np.frombuffer(content, kind), shape)
    # Any byte but 0 is true, and numpy would keep the byte.
    return values.view(np.uint8) > 0 if datatype == "BOOL" else values


def values_of(name: str, shape: Sequence[int], data: Any) -> list[Any]:
    """A tensor's values in JSON, nested or flat, as one flat list.

    Raises:
        BadRequest: they are no list, or not as many as the shape says.
    """
    if not isinstance(data, list):
        raise BadRequest(
            f"Input {name!r}: expected 'data' to be a list, or a parameter 'binary_data_size', got "
            f"{'neither' if data is None else type(data).__name__}."
        )
    flat = _flat(data) if any(isinstance(item, list) for item in data) else data
    if len(flat) != prod(shape):
        raise _wrong_count(name, shape, len(flat))
    return flat


def pack_texts(texts: Sequence[str]) -> bytes:
    """Texts as the bytes of a tensor."""
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def _flat(nested: list[Any]) -> list[Any]:
    """The values of nested lists in their order, each looked at once."""
    flat: list[Any] = []
    stack = nested[::-1]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(reversed(item))
        else:
            flat.append(item)
    return flat


def _texts(name: str, content: bytes) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(content):
        start = at + 4
        length = int.from_bytes(content[at:start], "little")
        at = start + length
        if at > len(content):
            raise BadRequest(
                f"Input {name!r}: expected texts, each after its length in 4 bytes, got bytes that "
                f"end within text {len(texts)}."
            )
        try:
            texts.append(content[start:at].decode())
        except UnicodeDecodeError as error:
            raise BadRequest(
                f"Input {name!r}: expected texts in UTF-8, got {error.reason} in text {len(texts)}."
            ) from None
    return texts


def _rows(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    # numpy refuses shapes of many dimensions, and large ones of no values at all.
    return values.reshape(shape[0], len(values) // shape[0] if shape[0] else 0)


def _wrong_count(name: str, shape: Sequence[int], count: int) -> BadRequest:
    return BadRequest(
        f"Input {name!r}: expected {prod(shape)} values for shape {list(shape)}, got {count}."
    )
