"""What a worker takes on at once: so many requests, so many bytes, and no body for ever.

What is more is refused while that is cheap: a queue without an end only makes everybody late.
"""

import asyncio
import math
import time
from collections.abc import Callable
from functools import lru_cache

from starlette.types import Message, Receive

from timonel.errors import BadRequest, Overloaded

__all__ = ["BodyTooSlow", "Load", "Refusals", "Ticket", "most_of"]

_FEWEST, _MOST = 64, 1_024
_WORTH_WAITING = 2.0  # seconds
_RECENT_SECONDS = 10.0
_REMEDY = "Ask again after the seconds of Retry-After."


class BodyTooSlow(BadRequest):
    """A body that did not arrive in the time that one may take."""

    status = 408


class Ticket:
    """One request that was let in; `task` is what waits for its body."""

    __slots__ = ("came", "has_body", "held", "is_late", "is_reading", "since", "task")

    def __init__(self, held: int, since: float) -> None:
        self.held = held
        self.since = since
        self.came = 0
        self.has_body = False  # all of it
        self.is_reading = False
        self.is_late = False
        self.task: asyncio.Task[object] | None = None


@lru_cache(maxsize=64)
def most_of(row_seconds: float) -> int:
    """How many may be inside where the slowest model takes so long for a row.

    As many as it answers in two seconds, one by one; at least 64 and at most 1,024.
    """
    return int(min(_MOST, max(_FEWEST, _WORTH_WAITING / max(row_seconds, 1e-6))))


class Load:
    """The requests inside, of which `most` says how many there may be; used on the event loop.

    Their bodies may be `most_bytes` together and `max_body` each, and take `body_seconds` to come.
    """

    def __init__(
        self,
        most: Callable[[], int],
        *,
        most_bytes: int,
        max_body: int,
        body_seconds: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.held = 0
        self.beside = 0
        """requests inside that have no ticket, for they end in this turn of the event loop"""
        self._most = most
        self._most_bytes = max(most_bytes, max_body)
        self._max_body = max_body
        self._body_seconds = body_seconds
        self._timer = timer
        self._tickets: set[Ticket] = set()
        self._timed: asyncio.TimerHandle | None = None

    @property
    def inside(self) -> int:
        """How many there are."""
        return len(self._tickets) + self.beside

    def has_room(self) -> bool:
        """Whether another may come in."""
        inside = len(self._tickets) + self.beside
        return not inside or inside < self._most()

    def enter(self, size: int) -> Ticket:
        """Let a request in whose body will have `size` bytes, as far as that is known.

        Raises:
            Overloaded: there is no room for it.
        """
        if (inside := self.inside) and inside >= (most := self._most()):
            raise Overloaded(
                f"Expected at most {most} requests at once in this worker, got more.",
                remedy=_REMEDY,
            )
        held = min(size, self._max_body)  # of what is larger nothing is kept
        self._check(held)
        self.held += held
        ticket = Ticket(held, self._timer())
        self._tickets.add(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """A request is over."""
        self._tickets.discard(ticket)
        self.held -= ticket.held

    def reader(self, ticket: Ticket, receive: Receive) -> Receive:
        """`receive`, bounded: one that waits too long for a body is cancelled, its ticket late.

        It raises Overloaded when the bodies together are more than there is room for.
        """

        async def read() -> Message:
            if ticket.has_body:  # this waits for the client to go, which may take long
                return await receive()
            ticket.task = asyncio.current_task()
            ticket.is_reading = True
            if self._timed is None:
                self._watch()
            message = await receive()
            ticket.is_reading = False
            ticket.has_body = not message.get("more_body")
            ticket.came += len(message.get("body", b""))
            if ticket.came > ticket.held:  # it came without saying how large it is
                more = min(ticket.came, self._max_body) - ticket.held
                self._check(more)
                ticket.held += more
                self.held += more
            return message

        return read

    def _check(self, more: int) -> None:
        if self.held + more > self._most_bytes:
            raise Overloaded(
                f"Expected at most {self._most_bytes:,} bytes of bodies at once in this worker, "
                "got more.",
                remedy=_REMEDY,
            )

    def _watch(self) -> None:
        pause = min(1.0, self._body_seconds / 4)
        self._timed = asyncio.get_running_loop().call_later(pause, self._sweep)

    def _sweep(self) -> None:
        self._timed = None
        before = self._timer() - self._body_seconds
        for ticket in self._tickets:
            if ticket.is_reading and ticket.since < before and ticket.task is not None:
                ticket.is_late = True
                ticket.task.cancel()
        if self._tickets:
            self._watch()


class Refusals:
    """Counts refusals by their reason with `count`, and knows when there was no room."""

    def __init__(
        self, count: Callable[[str], None], timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._timer = timer
        self._crowded = -math.inf

    def __call__(self, reason: str) -> None:
        """Count one."""
        self._count(reason)
        if reason == "overload":
            self._crowded = self._timer()

    def troubles(self) -> list[str]:
        """A sentence while requests are refused for want of room."""
        if self._timer() - self._crowded > _RECENT_SECONDS:
            return []
        return ["Requests are refused: a worker had as many as it may (TIMONEL_MAX_WAITING)."]
