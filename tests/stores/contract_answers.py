"""What every kind of answers cache must do; a kind is finished when this class passes over it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from timonel.stores.answers import Answers

__all__ = ["AnswersContract"]


@pytest.mark.anyio
class AnswersContract:
    """Give `store` (empty) and `wait` (lets so many seconds pass) as fixtures."""

    async def test_what_was_put_is_got_and_nothing_else(self, store: Answers) -> None:
        await store.put(b"a", b"one", 60)
        assert await store.get(b"a") == b"one"
        assert await store.get(b"b") is None
        assert store.trouble is None

    @pytest.mark.parametrize("value", [b"", b"\0\r\n\xff", bytes(100_000)])
    async def test_any_bytes_are_keys_and_values(self, store: Answers, value: bytes) -> None:
        await store.put(b"\0\r\n\xff ", value, 60)
        assert await store.get(b"\0\r\n\xff ") == value

    async def test_the_last_value_counts(self, store: Answers) -> None:
        await store.put(b"a", b"one", 60)
        await store.put(b"a", b"two", 60)
        assert await store.get(b"a") == b"two"

    async def test_a_value_is_gone_when_its_time_is_over(
        self, store: Answers, wait: Callable[[float], Awaitable[None]]
    ) -> None:
        await store.put(b"a", b"one", 0.05)
        await store.put(b"b", b"two", 600)
        await store.put(b"c", b"three", 0.05)
        await store.put(b"c", b"four", 600)
        await wait(0.06)
        assert await store.get(b"a") is None
        assert await store.get(b"b") == b"two"
        assert await store.get(b"c") == b"four"

    async def test_to_ask_for_a_value_does_not_make_it_last(
        self, store: Answers, wait: Callable[[float], Awaitable[None]]
    ) -> None:
        await store.put(b"a", b"one", 0.1)
        await store.get(b"a")
        await wait(0.06)
        await store.get(b"a")
        await wait(0.06)
        assert await store.get(b"a") is None

    async def test_the_shortest_time_is_a_time(
        self, store: Answers, wait: Callable[[float], Awaitable[None]]
    ) -> None:
        await store.put(b"a", b"one", 0.0001)
        await wait(0.01)
        assert await store.get(b"a") is None
        assert store.trouble is None

    async def test_many_may_ask_at_once(self, store: Answers) -> None:
        keys = [bytes([n]) for n in range(200)]
        await asyncio.gather(*(store.put(key, key * 3, 60) for key in keys))
        assert await asyncio.gather(*map(store.get, keys)) == [key * 3 for key in keys]

    async def test_one_who_stops_waiting_does_no_harm(self, store: Answers) -> None:
        await store.put(b"a", b"one", 60)
        asked = [asyncio.create_task(store.get(b"a")) for _ in range(20)]
        await asyncio.sleep(0)
        for task in asked[::2]:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert [task.result() for task in asked[1::2]] == [b"one"] * 10
        await store.put(b"b", b"two", 60)
        assert [await store.get(key) for key in (b"a", b"b")] == [b"one", b"two"]
        assert store.trouble is None

    async def test_it_may_be_closed_twice(self, store: Answers) -> None:
        await store.close()
        await store.close()
