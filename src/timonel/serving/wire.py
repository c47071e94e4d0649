"""A connection, bounded: the head of no request is endless, and none takes for ever to come.

The door sees a request when its head is complete. Until then uvicorn would keep whatever comes,
for as long as it takes.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedProtocol"]

_MOST = 65_536  # bytes
_SECONDS = 30.0
_SAID = b"Expected at most 65,536 bytes before a request's body.\n"
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_SAID), _SAID)
)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which closes a connection whose next head is too large or too late."""

    most_seconds = _SECONDS

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._heads = 0  # that were complete
        self._in_body = False
        self._size = 0  # of the head that comes
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head, but not for ever."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take note of what did not complete a head."""
        heads, in_body = self._heads, self._in_body
        super().data_received(data)
        if in_body or heads != self._heads or self.transport.is_closing():
            return
        self._size += len(data)
        if self._size > _MOST:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._patience is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._heads += 1
        self._in_body = True
        self._size = 0
        self._wait_no_more()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request's body."""
        self._in_body = False
        super().on_message_complete()

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self.most_seconds, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
