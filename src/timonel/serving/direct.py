"""Plain good requests, answered by the connection itself: no task, no messages, no parsing twice.

The same request's head comes again and again. One that the parser has read, and that asks for
nothing unusual, is known by its bytes from then on; a request that begins with it is only a body
to the lean path. Whatever else comes, or is not answered there, is left to uvicorn from its first
byte, as if nobody had looked at it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, cast

from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from timonel.errors import JournalFull
from timonel.serving.answer import Entry
from timonel.serving.door import Door
from timonel.serving.lean import Lean, LeanAnswer, is_plain
from timonel.serving.load import Load
from timonel.serving.wire import BoundedProtocol

__all__ = ["Direct", "DirectProtocol", "Known", "direct_protocol"]

_log = logging.getLogger(__name__)

_LONGEST_HEAD = 1_024  # bytes
_MOST_HEADS = 1_024
_PATIENCE = 0.25  # seconds for the rest of a body, which most clients send at once

# Headers that are somebody else's business, or that nobody else should keep.
_UNUSUAL = frozenset(
    (b"authorization", b"cookie", b"expect", b"upgrade", b"x-api-key", b"x-request-timeout")
)

Headers = list[tuple[bytes, bytes]]


class Then(Protocol):
    """Records an entry and says so; see `JournalRecorder.then`."""

    def __call__(self, entry: Entry, done: Callable[[BaseException | None], object]) -> None:
        """Returns at once."""
        ...


class Known(NamedTuple):
    """What a head asks for: an answer of `lean` to the `size` bytes that follow."""

    lean: Lean
    size: int


class Direct:
    """What the connections of one worker share: `paths` of the lean path, and the heads known."""

    def __init__(self, paths: Mapping[str, Lean], door: Door, then: Then) -> None:
        self.heads: dict[bytes, Known] = {}
        self.open_to = door.open_to
        self.then = then
        self._paths = paths
        self._headers: Headers | None = None
        self._beginning = b""
        self._closes = False

    def learn(self, head: bytes, scope: Scope) -> None:
        """Know a head again that the parser has read, if it is plain."""
        lean = self._paths.get(scope["path"])
        if lean is None or scope["http_version"] != "1.1" or not is_plain(scope, lean.limit):
            return
        headers = dict(scope["headers"])
        size = int(headers.get(b"content-length", b"0"))
        if not size or not _UNUSUAL.isdisjoint(headers):
            return
        if len(self.heads) >= _MOST_HEADS:  # they differ with each request
            self.heads.clear()
        self.heads[head] = Known(lean, size)

    def beginning(self, headers: Headers) -> tuple[bytes, bool]:
        """How a good reply begins with the server's own headers, and whether they say to close."""
        if headers is not self._headers:
            self._beginning, self._closes = _begin(200, headers)
            self._headers = headers
        return self._beginning, self._closes


class DirectProtocol(BoundedProtocol):
    """A connection that answers what it can by itself."""

    direct: Direct

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._load: Load | None = None
        self._begun = False  # the parser is within a message
        self._body_size = 0  # of what the parser was given last
        self._early = b""  # what nobody has looked at yet
        self._early_timer: asyncio.TimerHandle | None = None
        self._identifier: object = None  # that of a request which is handed on
        self._waiting: tuple[Lean, LeanAnswer] | None = None  # for the journal
        self._closing = False
        self._last = 0.0  # loop time when something came that the parser did not see

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See where callers come in."""
        super().connection_made(transport)
        self._load = self.direct.open_to(self.server[0] if self.server else "")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what came."""
        self._take()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer a plain request that is whole, or have the parser read what came."""
        if self._early:
            data = self._take() + data
        if self._waiting is not None:
            self._early = data  # until the reply has left
            return
        if self._begun or not self._is_idle():
            super().data_received(data)
            return
        body = data.find(b"\r\n\r\n", 0, _LONGEST_HEAD) + 4
        head = data[:body]
        known = self.direct.heads.get(head)
        if known is None:
            self._read(data, head)
            return
        self._last = self.loop.time()
        missing = body + known.size - len(data)
        if missing > 0:
            self._early = data
            self._early_timer = self.loop.call_later(_PATIENCE, self._hand_on)
        elif missing < 0 or not self._answer(known.lean, data[body:]):
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Note that the parser is within a message."""
        self._begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Tell the application the id that a request has already."""
        if self._identifier is not None:
            self.scope["timonel.id"] = self._identifier  # type: ignore[typeddict-unknown-key]
            self._identifier = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what is no head."""
        self._body_size += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the parser is between messages."""
        self._begun = False
        super().on_message_complete()

    def shutdown(self) -> None:
        """End the connection, but not before what came is answered."""
        if self._waiting is not None:
            self._closing = True
            return
        self._hand_on()
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it was idle as long as it may; else look again when it is."""
        left = self._last + self.timeout_keep_alive - self.loop.time()
        if left > 0 and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                left, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def _is_idle(self) -> bool:
        """Whether no reply is under way, none waits, and there is room for one."""
        cycle, flow = self.cycle, self.flow
        return (
            self._load is not None
            and (cycle is None or cycle.response_complete)
            and not (self.pipeline or flow.read_paused or flow.write_paused)
            and not self.transport.is_closing()
        )

    def _read(self, data: bytes, head: bytes) -> None:
        """Have the parser read what came, and learn the head if it is one request's."""
        heads, self._body_size = self._heads, 0
        super().data_received(data)
        # What is no body is the head, if nothing else came.
        is_one = self._heads == heads + 1 and (self._in_body or not self._begun)
        if is_one and head and self._body_size == len(data) - len(head) and self.cycle.keep_alive:
            self.direct.learn(head, cast(Scope, self.scope))

    def _take(self) -> bytes:
        """What came early."""
        if self._early_timer is not None:
            self._early_timer.cancel()
            self._early_timer = None
        data, self._early = self._early, b""
        return data

    def _hand_on(self) -> None:
        """Let the parser have a request whose body does not come."""
        if data := self._take():
            super().data_received(data)

    def _answer(self, lean: Lean, body: bytes) -> bool:
        """Answer a body once that is recorded, or say that it is not for this way."""
        load = self._load
        if load is None or not load.has_room():
            return False
        identifier = lean.new_id()
        answered = lean(body, lean.timer(), identifier)
        if answered is None:
            self._identifier = identifier
            return False
        self.direct.then(answered.entry, self._recorded)
        load.beside += 1
        self._waiting = lean, answered
        if self._patience is not None:
            self._wait_no_more()
        return True

    def _recorded(self, error: BaseException | None) -> None:
        """Reply, now that the answer is in the journal, or is not."""
        try:
            self._reply(error)
        except Exception:  # noqa: BLE001 (the replies of others wait behind this one)
            _log.exception("A reply failed")
            self.transport.close()

    def _reply(self, error: BaseException | None) -> None:
        if self._waiting is None or self._load is None:
            return
        lean, answered = self._waiting
        self._waiting = None
        self._load.beside -= 1
        headers = self.server_state.default_headers
        if self._closing:
            headers = [*headers, (b"connection", b"close")]
        beginning, closes = self.direct.beginning(headers)
        if error is None:
            lean.count(answered)
            self._send(answered.in_one(beginning), closes)
            lean.mirror(answered)
        elif isinstance(error, JournalFull):
            response = lean.refused(error, answered.started)
            self._send(_whole(response, headers), closes)
        else:
            self.transport.abort()

    def _send(self, reply: bytes, closes: bool) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.transport.write(reply)
        if closes:
            self.transport.close()
            return
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        if self._early:
            self.data_received(b"")


def direct_protocol(direct: Direct) -> type[DirectProtocol]:
    """The class of the connections that share `direct`, for uvicorn to make them."""
    return type("WorkersProtocol", (DirectProtocol,), {"direct": direct})


def _begin(status: int, headers: Headers) -> tuple[bytes, bool]:
    """A reply's first lines, and whether they say that the connection ends."""
    lines = [b"%b: %b\r\n" % (name.lower(), value) for name, value in headers]
    closes = any(name == b"connection" and b"close" in value for name, value in headers)
    return STATUS_LINE[status] + b"".join(lines), closes


def _whole(response: Response, headers: Headers) -> bytes:
    """A reply that is no good one, in one."""
    beginning, _ = _begin(response.status_code, [*headers, *response.raw_headers])
    return beginning + b"\r\n" + bytes(response.body)
