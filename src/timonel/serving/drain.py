"""The end of a worker: at once when all of the server ends, patiently when it is replaced."""

import asyncio
import signal
import socket
from types import FrameType

import uvicorn

__all__ = ["DRAIN_SECONDS", "DrainingServer"]

DRAIN_SECONDS = 30.0
"""How long a worker that is replaced waits for its connections to end by themselves."""

_CLOSE = ("Connection", "close")
_POLL_SECONDS = 0.02
_ACCEPTED_SECONDS = 0.1  # those accepted in the last moment are not yet among the connections


class DrainingServer(uvicorn.Server):
    """A server that SIGHUP ends without a request failing, as long as others accept.

    It accepts no more, and every reply says `Connection: close`, so that each client's next
    request comes over a new connection, to another worker. Connections that are idle end by their
    keep-alive timeout. SIGTERM and SIGINT end it sooner: what is being answered is, and that is
    all.
    """

    _patient = False

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal says to end."""
        former = signal.signal(signal.SIGHUP, self._let_go)
        try:
            await super().serve(sockets)
        finally:
            signal.signal(signal.SIGHUP, former)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the connections, then the application."""
        if self._patient:
            for server in self.servers:
                server.close()
            self._say_close()
            clock = asyncio.get_running_loop().time
            began = clock()
            while not self.force_exit and clock() < began + DRAIN_SECONDS:
                if not self.server_state.connections and clock() > began + _ACCEPTED_SECONDS:
                    break
                await asyncio.sleep(_POLL_SECONDS)
        await super().shutdown(sockets)

    def _let_go(self, number: int, frame: FrameType | None) -> None:
        self._patient = True
        self.should_exit = True

    def _say_close(self) -> None:
        """Let every reply end its connection."""
        name, value = _CLOSE
        self.server_state.default_headers = [
            *self.server_state.default_headers,
            (name.lower().encode(), value.encode()),
        ]
        for connection in self.server_state.connections:
            # A request that is being answered was given the headers before; of several that a
            # client sent at once, only the last may close. One whose reply is on its way already
            # is told at its next.
            pipeline = getattr(connection, "pipeline", None)
            cycle = pipeline[0][0] if pipeline else getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_started:
                cycle.keep_alive = False
