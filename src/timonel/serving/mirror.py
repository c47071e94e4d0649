"""Challengers that are asked what live requests asked, after those were answered.

Nobody waits for them: one request at a time runs on a thread, a few wait, and what is more than
that is let go and counted.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import anyio.to_thread

from timonel.errors import JournalFull
from timonel.journal.records import SHADOW, Value
from timonel.project import Project
from timonel.serving.answer import Entry, Recorder
from timonel.serving.batching import Result
from timonel.serving.routing import Served

__all__ = ["Mirror"]

_MOST = 256


@dataclass(frozen=True)
class _Asked:
    project: Project
    challenger: Served
    run: Callable[[], Result]
    rows: Sequence[tuple[Value, ...]]
    identifier: bytes


class Mirror:
    """The queue of one worker; used from its event loop."""

    def __init__(
        self,
        record: Recorder,
        *,
        most: int = _MOST,
        clock_ns: Callable[[], int] = time.time_ns,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._record = record
        self._most = most
        self._clock_ns = clock_ns
        self._timer = timer
        self._waiting: deque[_Asked] = deque()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        """requests that were not mirrored because too many waited"""

    def __call__(
        self,
        project: Project,
        challenger: Served,
        run: Callable[[], Result],
        rows: Sequence[tuple[Value, ...]],
        identifier: bytes,
    ) -> None:
        """Ask a challenger as well, when there is time; `run` is given a thread."""
        if len(self._waiting) >= self._most:
            self.dropped += 1
            return
        self._waiting.append(_Asked(project, challenger, run, rows, identifier))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Let go of what waits."""
        self._waiting.clear()
        if self._task is not None:
            with suppress(asyncio.CancelledError):
                await self._task

    async def _work(self) -> None:
        while self._waiting:
            asked = self._waiting.popleft()
            started = self._timer()
            try:
                result, error = await anyio.to_thread.run_sync(asked.run), ""
            except Exception as failure:  # noqa: BLE001 (a challenger's trouble is what is looked for)
                result, error = None, f"{type(failure).__name__}: {failure}"
            entry = Entry(
                asked.identifier,
                self._clock_ns(),
                asked.project,
                asked.rows,
                [] if result is None else [(asked.challenger, *result)],
                SHADOW,
                self._timer() - started,
                [(asked.challenger, error)] if error else [],
            )
            with suppress(JournalFull):  # it is counted there
                await self._record(entry)
