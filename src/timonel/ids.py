"""Prediction, run and boot ids: UUIDv7 (RFC 9562), so that ids sort by the time they were made."""

import os
import time
import uuid
from collections.abc import Callable

__all__ = ["Ids", "span", "time_of"]

_AHEAD = 512  # bytes, of which an id takes 8: asking the system takes longer than making an id


class Ids:
    """Makes UUIDv7s that rise strictly within one process.

    The 12 bits after the version hold a counter, as RFC 9562 (section 6.2, method 1) allows: ids
    made in the same millisecond still sort in the order in which they were made.
    """

    def __init__(
        self,
        clock_ns: Callable[[], int] = time.time_ns,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock_ns = clock_ns
        self._random = random_bytes
        self._last = 0  # milliseconds << 12 | counter
        self._drawn = b""  # random bytes ahead, and how many of them are used
        self._used = 0
        self._process = 0  # that drew them; one that is forked off draws its own

    def __call__(self) -> uuid.UUID:
        """The next id."""
        tick = (self._clock_ns() // 1_000_000) << 12
        # A clock that stands still or steps back must not make ids fall: count on from the last.
        self._last = max(tick, self._last + 1)
        milliseconds, counter = self._last >> 12, self._last & 0xFFF
        used = self._used
        if used == len(self._drawn) or self._process != os.getpid():
            self._drawn, self._process, used = self._random(_AHEAD), os.getpid(), 0
        self._used = used + 8
        low = int.from_bytes(self._drawn[used : used + 8], "big") & 0x3FFF_FFFF_FFFF_FFFF
        return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | low)


def span(since: float, until: float) -> tuple[str, str]:
    """The lowest and the highest id, as text, of those made at `since` <= time < `until`.

    Both are seconds since 1970; what is beyond the times that ids hold is cut off. The lowest is
    above the highest where there are none.
    """
    first, beyond = (round(min(max(time * 1_000, 0), 1 << 48)) << 80 for time in (since, until))
    return _text(first), _text(beyond - 1)


def _text(number: int) -> str:
    return str(uuid.UUID(int=min(max(number, 0), (1 << 128) - 1)))


def time_of(identifier: uuid.UUID) -> int:
    """The milliseconds since 1970 that a UUIDv7 was made at."""
    return identifier.int >> 80
