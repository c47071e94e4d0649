"""Tensors as bytes: what was packed is unpacked, and no bytes at all do worse than a refusal."""

import struct
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timonel.errors import BadRequest
from timonel.serving.protocols.binary import (
    DATATYPES,
    pack_texts,
    split_body,
    unpack,
    values_of,
)


@given(st.lists(st.text()))
def test_texts_come_back_as_they_were(texts: list[str]) -> None:
    assert unpack("x", "BYTES", [len(texts)], pack_texts(texts)).ravel().tolist() == texts


@pytest.mark.parametrize(
    ("datatype", "content", "values"),
    [
        ("BOOL", b"\x00\x01\x02", [False, True, True]),
        ("INT8", b"\xff\x00\x01", [-1, 0, 1]),
        ("UINT16", b"\x00\x01\x00\x00\xff\xff", [256, 0, 65_535]),
        ("FP16", struct.pack("<3e", 0.5, -2, 3), [0.5, -2, 3]),
        ("FP64", struct.pack("<3d", 0.1, -2, 3), [0.1, -2, 3]),
    ],
)
def test_numbers_are_little_endian_and_as_wide_as_their_type(
    datatype: str, content: bytes, values: list[float]
) -> None:
    assert unpack("x", datatype, [3, 1], content).ravel().tolist() == values


@given(
    st.sampled_from(DATATYPES),
    st.lists(st.integers(0, 3) | st.just(2**40), min_size=1, max_size=70),
    st.binary(max_size=200),
)
def test_any_bytes_are_a_tensor_or_a_refusal(
    datatype: str, shape: list[int], content: bytes
) -> None:
    try:
        found = unpack("x", datatype, shape, content)
    except BadRequest:
        return
    assert len(found) == shape[0]
    assert found.size == prod(shape)


@given(st.binary(max_size=50), st.text(max_size=20) | st.integers().map(str))
def test_any_header_splits_the_body_or_is_refused(body: bytes, header: str) -> None:
    try:
        head, rest = split_body(body, header)
    except BadRequest:
        return
    assert head + rest == body


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x05\x00\x00\x00ab", "end within text 0"),
        (b"\x01\x00\x00\x00a\x01\x00", "end within text 1"),
        (b"\x01\x00\x00\x00\xff", "expected texts in UTF-8"),
        (b"\x01\x00\x00\x00a\x01\x00\x00\x00b", "expected 1 values for shape [1], got 2"),
    ],
)
def test_bytes_that_are_no_texts_are_refused(content: bytes, told: str) -> None:
    with pytest.raises(BadRequest) as refused:
        unpack("x", "BYTES", [1], content)
    assert told in str(refused.value)


def test_nested_values_are_taken_row_by_row() -> None:
    nested = np.arange(12).reshape(2, 3, 2).tolist()
    assert values_of("x", [2, 3, 2], nested) == list(range(12))
    assert values_of("x", [3], [1, [2, [3]]]) == [1, 2, 3]
    assert values_of("x", [0], []) == []
