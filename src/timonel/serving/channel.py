"""What a worker and its supervisor say to each other: lines of JSON over a pair of sockets.

A worker says when it is ready and which versions it serves, and may ask for a run of the pipeline;
the supervisor answers what was asked. Either may die: the other sees the end of the stream.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from timonel.errors import NotReady

__all__ = ["AskRun", "Link", "Operator", "RunReply", "Serves", "Supervision", "SupervisorEnd"]

_LIMIT = 1 << 20  # bytes of one line


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker has loaded what there is and listens."""


class Serves(msgspec.Struct, frozen=True, tag="serves"):
    """The versions that the worker's requests are answered by from now on.

    `loaded` are all that it holds ready, `failed` those that it cannot load, with the reason.
    """

    labels: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    failed: dict[str, str] = {}


class AskRun(msgspec.Struct, frozen=True, tag="run"):
    """Run a project's pipeline anew; with `wait`, reply when every worker serves its outcome."""

    ticket: int
    project: str
    wait: bool


class RunReply(msgspec.Struct, frozen=True, tag="ran"):
    """How an asked run went: an HTTP `status`, the run's id if there is one, and a sentence."""

    ticket: int
    status: int
    sentence: str
    run: str | None = None


FromWorker = Ready | Serves | AskRun

_from_worker: msgspec.json.Decoder[Any] = msgspec.json.Decoder(FromWorker)
_from_supervisor = msgspec.json.Decoder(RunReply)


class Operator(Protocol):
    """Who runs pipelines for a server."""

    async def run(self, project: str, *, wait: bool) -> RunReply:
        """Run a project's pipeline anew; see `AskRun`."""
        ...


class Supervision(Operator, Protocol):
    """Who looks after a process that answers; used on its event loop."""

    async def open(self) -> None:
        """Begin; called before any version is loaded."""
        ...

    async def close(self) -> None:
        """End; called when nothing is answered any more and the journal is closed."""
        ...

    def say_ready(self) -> None:
        """Take note that requests are answered from now on."""
        ...

    def say_serves(self, serves: Serves) -> None:
        """Take note of which versions answer from now on."""
        ...


class Link:
    """A worker's end, a `Supervision` from afar; used on its event loop.

    Without a socket nothing is said, and nobody runs pipelines.
    """

    def __init__(self, connection: socket.socket | None = None) -> None:
        self._connection = connection
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[RunReply]] = {}
        self._tickets = 0
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to listen to the supervisor."""
        if self._connection is not None:
            reader, self._writer = await asyncio.open_connection(
                sock=self._connection, limit=_LIMIT
            )
            self._reading = asyncio.create_task(self._read(reader))

    async def close(self) -> None:
        """Say no more."""
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    def say_ready(self) -> None:
        """Tell that requests are answered from now on."""
        self._say(Ready())

    def say_serves(self, serves: Serves) -> None:
        """Tell which versions answer from now on."""
        self._say(serves)

    async def run(self, project: str, *, wait: bool) -> RunReply:
        """Ask for a run of a project's pipeline; see `AskRun`.

        Raises:
            NotReady: there is no supervisor to ask, or it ended.
        """
        if self._writer is None or self._reading is None or self._reading.done():
            raise NotReady(
                "Nobody runs pipelines for this server.", remedy=f"Run: timonel run {project}"
            )
        self._tickets += 1
        ticket = self._tickets
        self._waiting[ticket] = asyncio.get_running_loop().create_future()
        try:
            self._say(AskRun(ticket, project, wait))
            return await self._waiting[ticket]
        finally:
            del self._waiting[ticket]

    def _say(self, message: FromWorker) -> None:
        if self._writer is not None:
            self._writer.write(msgspec.json.encode(message) + b"\n")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                reply = _from_supervisor.decode(line)
                waiting = self._waiting.get(reply.ticket)
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        except (OSError, ValueError):
            pass  # the supervisor ended in the middle of a line; the worker ends as well
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(NotReady("The server is stopping."))


class SupervisorEnd:
    """The supervisor's end for one worker; a thread reads, any thread may reply.

    `asked` is called for each run that is asked for, with something to give the reply to.
    """

    def __init__(
        self,
        connection: socket.socket,
        asked: Callable[[AskRun, Callable[[RunReply], None]], None],
    ) -> None:
        self._connection = connection
        self._asked = asked
        self._sending = threading.Lock()
        self.ready = threading.Event()
        self.serves = Serves()
        self._thread = threading.Thread(target=self._read, name="timonel-channel", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the conversation; safe to repeat."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=5)
        self._connection.close()

    def reply(self, reply: RunReply) -> None:
        """Answer what was asked; nothing happens when the worker is gone."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(msgspec.json.encode(reply) + b"\n")

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._connection.makefile("rb") as lines:
            for line in lines:
                try:
                    message = _from_worker.decode(line)
                except msgspec.MsgspecError:
                    return  # cut off in the middle: the worker died
                if isinstance(message, Ready):
                    self.ready.set()
                elif isinstance(message, Serves):
                    self.serves = message
                else:
                    self._asked(message, self.reply)
