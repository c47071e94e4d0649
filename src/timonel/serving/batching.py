"""Requests that wait for the same model are answered together, where that was measured to pay.

Nobody waits for company: a batch is what came while the former one ran.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import numpy as np

from timonel.errors import DeadlinePassed, Overloaded
from timonel.tensors import Arrays

__all__ = ["Batcher", "Result", "check_deadline"]

Result = tuple[list[int], np.ndarray]
"""Class indices, and probabilities float32 (rows, classes)."""

Offload = Callable[[Callable[[Arrays], Any], Arrays], Awaitable[Any]]


def check_deadline(deadline: float | None, now: float) -> None:
    """Refuse what nobody waits for any more; both are readings of the monotonic clock.

    Raises:
        DeadlinePassed: the deadline has passed.
    """
    if deadline is not None and now >= deadline:
        raise DeadlinePassed(
            "Expected to answer within the request's timeout, got to it too late: nothing was run.",
            remedy="Ask again, or give it more time in X-Request-Timeout.",
        )


@dataclass(eq=False)
class _Waiting:
    arrays: Arrays
    rows: int
    deadline: float | None
    result: "asyncio.Future[Result]" = field(repr=False)


class Batcher:
    """One model's queue; used from one event loop.

    `run` answers the arrays of several rows, on a thread by way of `offload`. A batch has at most
    `rows` rows, a single request of more excepted; at most `most` requests wait.
    """

    def __init__(
        self,
        run: Callable[[Arrays], Result],
        rows: int,
        *,
        most: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
        offload: Offload = anyio.to_thread.run_sync,
    ) -> None:
        self._run = run
        self._rows = rows
        self._most = most
        self._clock = clock
        self._offload = offload
        self._queue: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, arrays: Arrays, rows: int, deadline: float | None = None) -> Result:
        """The answers to these rows, in their order.

        Raises:
            Overloaded: too many wait already.
            DeadlinePassed: the deadline passed before they were run.
        """
        if len(self._queue) >= self._most:
            raise Overloaded(
                f"Expected at most {self._most} requests to wait for this model, got more.",
                remedy="Ask again in a moment.",
            )
        check_deadline(deadline, self._clock())
        loop = asyncio.get_running_loop()
        waiting = _Waiting(arrays, rows, deadline, loop.create_future())
        self._queue.append(waiting)
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await waiting.result

    async def _work(self) -> None:
        try:
            while batch := self._take():
                await self._answer(batch)
        finally:
            self._task = None
            for waiting in self._queue:  # left only when this task itself was cancelled
                waiting.result.cancel()

    def _take(self) -> list[_Waiting]:
        """The next batch: whoever still waits, and in time."""
        batch: list[_Waiting] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].rows <= self._rows):
            waiting = self._queue.popleft()
            if waiting.result.done():  # its client hung up
                continue
            try:
                check_deadline(waiting.deadline, self._clock())
            except DeadlinePassed as late:
                waiting.result.set_exception(late)
                continue
            batch.append(waiting)
            rows += waiting.rows
        return batch

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        try:
            indices, scores = await self._offload(self._run, _joined(batch))
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told to who caused it)
            if len(batch) == 1:
                if not batch[0].result.done():
                    batch[0].result.set_exception(error)
                return
            # One bad row must not fail the others' requests: each is tried alone.
            for waiting in batch:
                if not waiting.result.done():
                    await self._answer([waiting])
            return
        except BaseException:
            for waiting in batch:
                waiting.result.cancel()
            raise
        start = 0
        for waiting in batch:
            end = start + waiting.rows
            if not waiting.result.done():
                waiting.result.set_result((indices[start:end], scores[start:end]))
            start = end


def _joined(batch: Sequence[_Waiting]) -> Arrays:
    if len(batch) == 1:
        return batch[0].arrays
    names = batch[0].arrays
    return {name: np.concatenate([waiting.arrays[name] for waiting in batch]) for name in names}
