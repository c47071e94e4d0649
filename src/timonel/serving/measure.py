"""What a loaded model takes, and what follows: on the event loop, on a thread, or in batches."""

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["INLINE_SECONDS", "Measured", "measure"]

INLINE_SECONDS = 0.002
"""The longest that one request's models may hold up the others of an event loop."""

# What waiting in a queue and the way to a thread and back cost a request.
_HANDING_OVER = 0.000_2
_WORTH = 0.3  # of a row's seconds; less would be lost again in how unevenly requests come
_SIZES = (8, 32)
_LONGEST = 1.0  # nobody waits longer at a swap for one measured batch
_TRIES = 3


@dataclass(frozen=True)
class Measured:
    """Seconds for one row alone, and for `batch_rows` rows at once where batches pay.

    `batch_rows` is 1 where they do not.
    """

    row_seconds: float
    batch_rows: int = 1
    batch_seconds: float = 0.0

    def is_quick(self, rows: int) -> bool:
        """Whether so many rows may run on the event loop itself."""
        return rows * self.row_seconds < INLINE_SECONDS

    @property
    def batches(self) -> bool:
        """Whether requests are better answered together than one by one."""
        return self.batch_rows > 1


def measure(
    run: Callable[[int], object],
    *,
    batch: bool,
    timer: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Time `run`, which is given a number of rows; `batch` says that it takes several at once.

    The first run is not counted: it warms the model.
    """
    run(1)
    alone = _best(run, 1, timer)
    chosen = Measured(alone)
    for size in _SIZES if batch else ():
        if alone <= _HANDING_OVER or size * alone > _LONGEST:
            break
        seconds = _best(run, size, timer)
        saved = alone - seconds / size
        known = chosen.batch_seconds / chosen.batch_rows if chosen.batches else alone
        if saved > max(_HANDING_OVER, _WORTH * alone) and seconds / size < known:
            chosen = Measured(alone, size, seconds)
    return chosen


def _best(run: Callable[[int], object], rows: int, timer: Callable[[], float]) -> float:
    """The quickest of a few: what else the machine does meanwhile is not the model's."""
    seconds = []
    for _ in range(_TRIES):
        started = timer()
        run(rows)
        seconds.append(timer() - started)
    return min(seconds)
