"""Ids: UUIDv7 that rise."""

import itertools
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timonel.ids import Ids, span, time_of


def test_an_id_is_a_uuid_of_version_7_and_tells_its_time() -> None:
    made = Ids(clock_ns=lambda: 1_700_000_000_123_000_000)()
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert time_of(made) == 1_700_000_000_123


@given(st.lists(st.integers(0, 2**60), min_size=2, max_size=50))
def test_ids_rise_however_the_clock_jumps(times: list[int]) -> None:
    clock = iter(times)
    ids = Ids(clock_ns=lambda: next(clock))
    made = [ids() for _ in times]
    assert all(before < after for before, after in itertools.pairwise(made))


def test_more_ids_in_a_millisecond_than_the_counter_holds_still_rise() -> None:
    ids = Ids(clock_ns=lambda: 0)
    made = [ids() for _ in range(5_000)]
    assert made == sorted(set(made))


def test_the_same_clock_and_randomness_give_the_same_ids() -> None:
    first, second = (
        Ids(clock_ns=lambda: 10**18, random_bytes=lambda size: b"\1" * size) for _ in range(2)
    )
    assert [first(), first()] == [second(), second()]


def test_a_process_that_is_forked_off_draws_random_bits_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = itertools.count()
    ids = Ids(clock_ns=lambda: 0, random_bytes=lambda size: bytes([next(drawn)]) * size)
    before = [ids().int & 0xFF for _ in range(3)]
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert [*before, ids().int & 0xFF] == [0, 0, 0, 1]


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_span_of_time_is_one_of_ids(since: int, until: int, made: int) -> None:
    first, last = span(since / 1_000, until / 1_000)
    identifier = str(Ids(clock_ns=lambda: made * 1_000_000)())
    assert (first <= identifier <= last) == (since <= made < until)


def test_a_span_may_have_no_end_or_no_ids() -> None:
    assert span(float("-inf"), float("inf")) == (
        str(uuid.UUID(int=0)),
        str(uuid.UUID(int=2**128 - 1)),
    )
    first, last = span(5.0, 5.0)
    assert first > last
