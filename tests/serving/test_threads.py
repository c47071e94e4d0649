"""A few threads, and a bounded wait for them."""

import asyncio
import threading

import pytest

from timonel.errors import DeadlinePassed, Overloaded
from timonel.serving.threads import Threads


def test_what_is_too_much_to_wait_is_refused_and_what_is_too_late_is_not_run() -> None:
    async def run() -> None:
        now, go, ran = [0.0], threading.Event(), []
        threads = Threads(1, 1, clock=lambda: now[0])

        def slow() -> str:
            go.wait(10)
            return "done"

        first = asyncio.create_task(threads(slow))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(threads(lambda: ran.append(1), deadline=3.0))
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded, match="at most 1 requests"):
            await threads(lambda: None)
        now[0] = 3.0
        go.set()
        assert await first == "done"
        with pytest.raises(DeadlinePassed):
            await second
        assert ran == []

    asyncio.run(run())
