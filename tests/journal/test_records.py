import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.journal.samples import DIGITS, PENGUINS, START, content, digit, penguin
from timonel.journal.records import (
    FORMAT,
    MAGIC,
    Header,
    Record,
    encode,
    frame,
    image_bytes,
    image_values,
    kinds_of,
    read,
)
from timonel.schema import Column

RECORDS = [
    penguin((39.5, "Torgersen", 2007), (float("inf"), None, -3)),
    digit(),
    penguin(),
    digit(b"\xff" * 784),
    penguin((1.0, "ñandú", 2**40)),
]

file_property = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_file_gives_back_what_was_written_and_explains_itself(tmp_path: Path) -> None:
    reading = read(_written(tmp_path / "a", content(RECORDS)))
    assert list(reading) == RECORDS
    assert reading.header == Header(FORMAT, "boot", "0", START)
    assert reading.metas == {PENGUINS.key: PENGUINS, DIGITS.key: DIGITS}
    assert (reading.note, reading.intact) == (None, True)


def test_a_version_announced_later_is_known_before_its_first_record(tmp_path: Path) -> None:
    data = content([RECORDS[0]], [PENGUINS]) + frame(encode(DIGITS)) + frame(encode(RECORDS[1]))
    reading = read(_written(tmp_path / "a", data))
    known = [(record.project, (record.project in {key[0] for key in reading.metas}))
             for record in reading]  # fmt: skip
    assert known == [("penguins", True), ("digits", True)]


def test_a_row_keeps_its_values_and_their_types(tmp_path: Path) -> None:
    row = (1, 1.0, True, "", None, b"\x00\xff", -0.0, 2**63 + 1)
    record = Record(bytes(16), START, "p", [row], [], "json", "dev")
    (given_back,) = read(_written(tmp_path / "a", content([record])))
    assert [repr(value) for value in given_back.rows[0]] == [repr(value) for value in row]


def test_values_that_messagepack_cannot_hold_become_the_nearest_ones(tmp_path: Path) -> None:
    row = (2**70, -(2**70), 10**400, -(10**400), "\ud800", 1)
    record = Record(bytes(16), START, "p", [row], [], "json", "dev")
    (given_back,) = read(_written(tmp_path / "a", content([record])))
    assert given_back.rows[0] == (2.0**70, -(2.0**70), math.inf, -math.inf, "?", 1)


def test_only_the_values_of_a_row_are_replaced_by_nearer_ones() -> None:
    with pytest.raises(OverflowError):
        encode(Header(2**70, "", "", 0))


def test_zeros_after_the_last_record_are_reserved_space(tmp_path: Path) -> None:
    reading = read(_written(tmp_path / "a", content(RECORDS) + bytes(10_000)))
    assert list(reading) == RECORDS
    assert reading.note is None


@pytest.mark.parametrize("reserved", [0, 5_000], ids=["at the end", "before reserved space"])
def test_a_torn_last_record_is_skipped_with_a_note(tmp_path: Path, reserved: int) -> None:
    torn = frame(encode(digit(b"\x01" * 784)))[:-100]
    reading = read(_written(tmp_path / "a.open", content(RECORDS) + torn + bytes(reserved)))
    assert list(reading) == RECORDS
    assert reading.note is not None
    assert reading.note.startswith("a.open: ")
    assert f"{len(RECORDS)} " in reading.note
    if reserved:
        assert reading.intact
        assert "the last record is torn" in reading.note


def test_a_damaged_record_in_the_middle_ends_the_reading_with_its_size(tmp_path: Path) -> None:
    before, after = content(RECORDS[:2]), frame(encode(RECORDS[2])) + frame(encode(RECORDS[3]))
    data = bytearray(before + after + bytes(100))
    data[len(before) + 20] ^= 1
    reading = read(_written(tmp_path / "a", bytes(data)))
    assert list(reading) == RECORDS[:2]
    assert reading.note is not None
    assert f"damaged at byte {len(before)}; the {len(after)} bytes" in reading.note
    assert not reading.intact


def test_a_damaged_length_does_not_ask_for_gigabytes(tmp_path: Path) -> None:
    data = content(RECORDS[:1]) + b"\xff" * 40
    reading = read(_written(tmp_path / "a", data))
    assert list(reading) == RECORDS[:1]
    assert not reading.intact


def test_a_large_record_is_read_whole(tmp_path: Path) -> None:
    large = penguin(*[(float(n), "x" * 20, n) for n in range(60_000)])
    assert list(read(_written(tmp_path / "a", content([large])))) == [large]


def test_zeros_in_the_middle_are_damage_and_not_the_end(tmp_path: Path) -> None:
    data = content(RECORDS[:1]) + bytes(64) + frame(encode(RECORDS[1]))
    reading = read(_written(tmp_path / "a", data))
    assert list(reading) == RECORDS[:1]
    assert not reading.intact


def test_a_whole_frame_that_is_no_record_is_damage(tmp_path: Path) -> None:
    reading = read(_written(tmp_path / "a", content(RECORDS[:1]) + frame(b"\x91" * 5_000) + b"x"))
    assert list(reading) == RECORDS[:1]
    assert not reading.intact


def test_a_file_of_a_newer_format_says_so_and_is_not_guessed_at(tmp_path: Path) -> None:
    newer = MAGIC + frame(encode(Header(FORMAT + 1, "boot", "0", START)))
    reading = read(_written(tmp_path / "a", newer + frame(encode(RECORDS[0]))))
    assert list(reading) == []
    assert reading.note is not None
    assert "expected format 1 or older, got 2; upgrade timonel" in reading.note


@pytest.mark.parametrize(
    ("data", "intact"),
    [(b"", True), (MAGIC[:5], True), (bytes(50), True), (b"\x89PNG", False), (b"x" * 99, False)],
)
def test_a_file_without_the_start_of_a_journal_gives_nothing(
    tmp_path: Path, data: bytes, intact: bool
) -> None:
    reading = read(_written(tmp_path / "a", data))
    assert list(reading) == []
    assert reading.intact is intact


@given(data=st.data())
@file_property
def test_truncation_never_loses_a_record_before_it_nor_invents_one(
    tmp_path: Path, data: st.DataObject
) -> None:
    whole = content(RECORDS)
    ends = [len(content(RECORDS[:n])) for n in range(len(RECORDS) + 1)]
    cut = data.draw(st.integers(0, len(whole)))
    zeros = data.draw(st.sampled_from([0, 7, 5_000]))
    got = list(read(_written(tmp_path / "a", whole[:cut] + bytes(zeros))))
    complete = sum(end <= cut for end in ends) - 1
    # A record that ends in zeros may be whole again with those of the reserved space.
    assert got == RECORDS[: len(got)]
    assert len(got) >= complete


@given(data=st.data())
@file_property
def test_flipped_bits_never_lose_a_record_before_them_nor_invent_one(
    tmp_path: Path, data: st.DataObject
) -> None:
    damaged = bytearray(content(RECORDS) + bytes(64))
    flips = data.draw(
        st.lists(st.integers(0, len(damaged) * 8 - 1), min_size=1, max_size=5, unique=True)
    )
    for flip in flips:
        damaged[flip // 8] ^= 1 << flip % 8
    first = min(flips) // 8
    reading = read(_written(tmp_path / "a", bytes(damaged)))
    got = list(reading)
    whole = sum(len(content(RECORDS[:n])) <= first for n in range(1, len(RECORDS) + 1))
    assert got == RECORDS[: len(got)]
    assert len(got) >= whole
    assert reading.note is not None


@given(junk=st.binary(max_size=300))
@file_property
def test_no_bytes_at_all_make_reading_fail(tmp_path: Path, junk: bytes) -> None:
    for tail in (junk, frame(junk)):
        got = list(read(_written(tmp_path / "a", content(RECORDS[:1]) + tail)))
        assert got == RECORDS[:1]
    assert list(read(_written(tmp_path / "a", junk))) == []


def test_columns_are_stated_by_name_and_kind() -> None:
    assert kinds_of([Column("a", "number"), Column("b", "image")]) == (
        ("a", "number"),
        ("b", "image"),
    )


@pytest.mark.parametrize(
    ("pixels", "size"),
    [
        ([0, 1, 128, 255], 4),
        ([-0.0, 1, 2, 3], 4),
        ([0.5, 1, 2, 3], 16),
        ([-1, 1, 2, 3], 16),
        ([256, 1, 2, 3], 16),
        ([math.nan, 1, 2, 3], 16),
        ([math.inf, 1e30, 2, 3], 16),
    ],
)
def test_a_picture_is_kept_exactly_in_the_fewest_bytes(pixels: list[Any], size: int) -> None:
    picture = np.array(pixels, dtype=np.float32)
    kept = image_bytes(picture)
    assert len(kept) == size
    np.testing.assert_array_equal(image_values(kept, 4), picture)
    assert image_values(kept, 4).dtype == np.float32


def test_bytes_of_another_size_are_no_picture() -> None:
    with pytest.raises(ValueError, match="Expected 4 or 16 bytes of pixels, got 5"):
        image_values(b"12345", 4)
