"""Whatever order things happen in, everybody gets the answer to their own rows."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timonel.errors import DeadlinePassed, Overloaded
from timonel.serving.batching import Batcher, Result
from timonel.tensors import Arrays

BAD = -1.0


def answer(arrays: Arrays) -> Result:
    """Each row's own number as its class, and twice that as its score; a bad one fails all."""
    numbers = arrays["x"]
    if (numbers == BAD).any():
        raise ValueError("a bad row")
    return numbers.astype(int).tolist(), (2 * numbers).reshape(-1, 1).astype(np.float32)


class Thread:
    """Runs what it is given when the test says so; `ran` are the numbers of each run."""

    def __init__(self) -> None:
        self.ran: list[list[float]] = []
        self._waiting: list[asyncio.Future[None]] = []

    async def __call__(self, run: Callable[[Arrays], Any], arrays: Arrays) -> Any:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn
        self.ran.append(arrays["x"].tolist())
        return run(arrays)

    def step(self) -> bool:
        """Let the run that waits go on."""
        if not self._waiting:
            return False
        self._waiting.pop(0).set_result(None)
        return True


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


Steps = list[tuple[str, int, int]]
ASK = st.tuples(st.just("ask"), st.integers(1, 5), st.integers(-1, 4))  # rows, deadline or none
STEP = st.tuples(st.sampled_from(["run", "wait", "turn"]), st.integers(0, 3), st.just(0))
BREAK = st.tuples(st.sampled_from(["cancel", "bad"]), st.integers(0, 20), st.just(0))


@given(st.lists(ASK | STEP | BREAK, max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_answer_is_mixed_lost_or_late_in_any_order_of_events(steps: Steps) -> None:
    asyncio.run(interleave(steps))


async def interleave(steps: Steps) -> None:
    now, thread = [0.0], Thread()
    batcher = Batcher(answer, 8, clock=lambda: now[0], offload=thread)
    tasks: list[tuple[asyncio.Task[Result], list[float], float | None]] = []
    cancelled: set[int] = set()
    number = 0.0
    for kind, first, second in steps:
        if kind in ("ask", "bad"):
            count = first if kind == "ask" else 1
            numbers = [number + n for n in range(count)] if kind == "ask" else [BAD]
            number += count
            deadline = now[0] + second if kind == "ask" and second >= 0 else None
            arrays = {"x": np.array(numbers, np.float32)}
            task = asyncio.create_task(batcher(arrays, len(numbers), deadline))
            tasks.append((task, numbers, deadline))
        elif kind == "run":
            thread.step()
        elif kind == "wait":
            now[0] += first
        elif kind == "turn":
            await asyncio.sleep(0)
        elif tasks:
            cancelled.add(first % len(tasks))
            tasks[first % len(tasks)][0].cancel()
    for _ in range(3 * len(tasks) + 3):
        await settle()
        thread.step()
    ran = [number for run in thread.ran for number in run]
    for place, (task, numbers, deadline) in enumerate(tasks):
        assert task.done()
        if task.cancelled():
            assert place in cancelled
            continue
        error = task.exception()
        if error is None:
            indices, scores = task.result()
            assert indices == numbers
            assert scores.ravel().tolist() == [2 * n for n in numbers]
        elif isinstance(error, DeadlinePassed):
            assert deadline is not None
            assert not set(numbers) & set(ran)
        else:
            assert isinstance(error, ValueError)
            assert numbers == [BAD]
    # Only what shared a batch with a bad row is ever run twice.
    bad_runs = {number for run in thread.ran if BAD in run for number in run}
    assert all(ran.count(number) == 1 for number in set(ran) - bad_runs)


async def ask(batcher: Batcher, *numbers: float, deadline: float | None = None) -> Result:
    return await batcher({"x": np.array(numbers, np.float32)}, len(numbers), deadline)


def test_a_batch_is_what_came_while_the_former_one_ran() -> None:
    async def run() -> list[list[float]]:
        thread = Thread()
        batcher = Batcher(answer, 4, offload=thread)
        tasks = [asyncio.create_task(ask(batcher, float(n))) for n in range(1)]
        await settle()
        tasks += [asyncio.create_task(ask(batcher, float(n))) for n in range(1, 7)]
        for _ in range(4):
            await settle()
            thread.step()
        await asyncio.gather(*tasks)
        return thread.ran

    assert asyncio.run(run()) == [[0], [1, 2, 3, 4], [5, 6]]


def test_a_request_of_more_rows_than_a_batch_has_is_run_alone() -> None:
    async def run() -> list[list[float]]:
        thread = Thread()
        batcher = Batcher(answer, 2, offload=thread)
        tasks = [asyncio.create_task(ask(batcher, *map(float, range(n)))) for n in (1, 5, 1)]
        for _ in range(4):
            await settle()
            thread.step()
        await asyncio.gather(*tasks)
        return thread.ran

    assert asyncio.run(run()) == [[0], [0, 1, 2, 3, 4], [0]]


def test_more_than_may_wait_are_refused_at_once() -> None:
    async def run() -> None:
        thread = Thread()
        batcher = Batcher(answer, 4, most=2, offload=thread)
        tasks = [asyncio.create_task(ask(batcher, 0.0))]
        await settle()
        tasks += [asyncio.create_task(ask(batcher, float(n))) for n in (1, 2)]
        await settle()
        with pytest.raises(Overloaded, match="at most 2 requests"):
            await ask(batcher, 3.0)
        for _ in range(3):
            await settle()
            thread.step()
        assert [indices for indices, _ in await asyncio.gather(*tasks)] == [[0], [1], [2]]

    asyncio.run(run())


def test_one_bad_row_fails_alone() -> None:
    async def run() -> list[object]:
        batcher = Batcher(answer, 8)
        asked = [ask(batcher, number) for number in (1.0, BAD, 2.0)]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    first, bad, last = asyncio.run(run())
    assert isinstance(first, tuple)
    assert isinstance(last, tuple)
    assert (first[0], last[0]) == ([1], [2])
    assert isinstance(bad, ValueError)


def test_a_deadline_that_has_passed_is_said_before_anything_waits() -> None:
    async def run() -> None:
        with pytest.raises(DeadlinePassed, match="nothing was run"):
            await ask(Batcher(answer, 8, clock=lambda: 5.0), 1.0, deadline=5.0)

    asyncio.run(run())
