"""A few threads for what would hold up the event loop, and a bound on how much waits for them."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from timonel.errors import Overloaded
from timonel.serving.batching import check_deadline

__all__ = ["Threads"]

T = TypeVar("T")


class Threads:
    """Runs functions on at most `count` threads; `most` more may wait for one."""

    def __init__(
        self,
        count: int = os.cpu_count() or 1,
        most: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limiter = anyio.CapacityLimiter(count)
        self._most = most
        self._clock = clock

    async def __call__(self, function: Callable[[], T], deadline: float | None = None) -> T:
        """What the function returns; `deadline` is the clock's, after which it is not run.

        Raises:
            Overloaded: too many wait already.
            DeadlinePassed: its turn came too late.
        """
        if self._limiter.statistics().tasks_waiting >= self._most:
            raise Overloaded(
                f"Expected at most {self._most} requests to wait for a thread, got more.",
                remedy="Ask again in a moment.",
            )

        def unless_late() -> T:
            check_deadline(deadline, self._clock())
            return function()

        return await anyio.to_thread.run_sync(unless_late, limiter=self._limiter)
