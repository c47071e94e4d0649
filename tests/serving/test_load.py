"""How much a worker takes on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from tests.stores.conftest import Clock
from timonel.errors import Overloaded
from timonel.serving.load import Load, Refusals, Ticket, most_of


def load_of(most: int = 2, **given: Any) -> Load:
    return Load(lambda: most, **{"most_bytes": 100, "max_body": 60, "body_seconds": 30.0} | given)


def coming(*bodies: bytes) -> Callable[[], Awaitable[Message]]:
    """A body in parts."""
    parts = list(bodies)

    async def receive() -> Message:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    return receive


def test_more_than_there_is_room_for_is_refused_until_somebody_leaves() -> None:
    load = load_of(2)
    first, _ = load.enter(0), load.enter(0)
    with pytest.raises(Overloaded, match="at most 2 requests"):
        load.enter(0)
    load.leave(first)
    load.enter(0)


def test_those_without_a_ticket_are_counted_with_the_others() -> None:
    load = load_of(2)
    assert load.has_room()
    load.beside += 1
    ticket = load.enter(1)
    assert (load.inside, load.has_room()) == (2, False)
    with pytest.raises(Overloaded):
        load.enter(1)
    load.leave(ticket)
    assert load.has_room()


def test_bodies_are_bounded_together() -> None:
    load = load_of(10)
    first = load.enter(60)
    with pytest.raises(Overloaded, match="at most 100 bytes"):
        load.enter(41)
    load.enter(40)
    load.leave(first)
    assert (load.inside, load.held) == (1, 40)


def test_a_body_that_will_be_refused_takes_no_more_room_than_the_largest() -> None:
    load = load_of(10)
    load.enter(10**15)
    assert load.held == 60


def test_the_largest_body_always_fits_into_an_idle_worker() -> None:
    load = load_of(most_bytes=10)
    load.enter(60)


def test_a_body_that_does_not_say_its_size_is_counted_as_it_comes() -> None:
    async def read_all() -> None:
        load = load_of(10)
        other = load.enter(60)
        ticket = load.enter(0)
        read = load.reader(ticket, coming(b"x" * 20, b"x" * 20, b"x" * 20))
        await read()
        await read()
        assert load.held == 100
        with pytest.raises(Overloaded):
            await read()
        load.leave(ticket)
        load.leave(other)
        assert (load.inside, load.held) == (0, 0)

    asyncio.run(read_all())


def test_a_body_that_says_its_size_is_counted_once() -> None:
    async def read_all() -> None:
        load = load_of(10)
        read = load.reader(load.enter(40), coming(b"x" * 20, b"x" * 20))
        assert [len((await read())["body"]) for _ in range(2)] == [20, 20]
        assert load.held == 40

    asyncio.run(read_all())


def test_a_body_that_does_not_come_is_not_waited_for_for_ever() -> None:
    async def never() -> Message:
        await asyncio.sleep(3_600)
        raise AssertionError

    async def wait() -> Ticket:
        load = load_of(10, body_seconds=0.02)
        ticket = load.enter(10)
        with pytest.raises(asyncio.CancelledError):
            await load.reader(ticket, never)()
        return ticket

    assert asyncio.run(wait()).is_late


def test_who_waits_for_the_client_to_go_may_wait_for_long() -> None:
    async def wait() -> Ticket:
        load = load_of(10, body_seconds=0.01)
        ticket = load.enter(0)
        bodies = coming(b"")

        async def receive() -> Message:
            try:
                return await bodies()
            except IndexError:
                await asyncio.sleep(0.1)
                return {"type": "http.disconnect"}

        read = load.reader(ticket, receive)
        await read()
        assert (await read())["type"] == "http.disconnect"
        return ticket

    assert not asyncio.run(wait()).is_late


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=60))
def test_the_bounds_hold_whatever_comes_and_goes(moves: list[tuple[bool, int]]) -> None:
    load, inside = load_of(5), list[Ticket]()
    for comes, size in moves:
        if comes:
            try:
                inside.append(load.enter(size))
            except Overloaded:
                assert len(inside) == 5 or load.held + min(size, 60) > 100
        elif inside:
            load.leave(inside.pop(size % len(inside)))
        assert load.inside == len(inside) <= 5
        assert load.held == sum(ticket.held for ticket in inside) <= 100


def test_how_many_may_wait_follows_the_slowest_model() -> None:
    assert most_of(0.0) == most_of(0.000_05) == 1_024
    assert most_of(0.01) == 200
    assert most_of(5.0) == 64


def test_health_tells_of_refusals_for_a_while() -> None:
    timer, counted = Clock(0.0), list[str]()
    refusals = Refusals(counted.append, timer)
    refusals("key")
    assert refusals.troubles() == []
    refusals("overload")
    assert "TIMONEL_MAX_WAITING" in refusals.troubles()[0]
    timer.now = 11.0
    assert refusals.troubles() == []
    assert counted == ["key", "overload"]
