"""The outermost layer: whether a caller may, whether there is room, and by when it wants an answer.

A request that is refused here has cost no more than its head. TLS is the business of a proxy.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio
import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from timonel.errors import (
    BadRequest,
    DeadlinePassed,
    KeyNeeded,
    NotAllowed,
    Overloaded,
    TimonelError,
    TooManyRequests,
)
from timonel.project import Project
from timonel.serving.callers import Place, check_near, check_page, client_of, is_far, place_of
from timonel.serving.keyring import Keyring
from timonel.serving.load import BodyTooSlow, Load, Ticket
from timonel.serving.protocols.refusals import refusal_content
from timonel.serving.state import Key
from timonel.settings import Settings

__all__ = ["Door", "Rules"]

_log = logging.getLogger(__name__)

_READ = frozenset(
    (
        b"authorization",
        b"content-length",
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"transfer-encoding",
        b"x-api-key",
        b"x-request-timeout",
    )
)
_SECONDS = re.compile(rb"\d{1,6}(\.\d{1,6})?")
_MOST_PATHS = 2_048
_OPERATING = 64  # pages that watch events, runs that are waited for; labels that are said
_REASONS: Sequence[tuple[type[TimonelError], str]] = (
    (KeyNeeded, "key"),
    (NotAllowed, "not allowed"),
    (TooManyRequests, "rate"),
    (Overloaded, "overload"),
    (DeadlinePassed, "deadline"),
    (BodyTooSlow, "slow body"),
    (BadRequest, "bad header"),
)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Whom a server is open to; see `Settings` for `locked`, `open` and `origins`."""

    projects: tuple[str, ...]
    at_root: bool
    locked: bool = False
    open: str | None = None
    origins: tuple[str, ...] = ()
    max_body: int = 8_000_000
    most_bytes: int = 64_000_000
    body_seconds: float = 30.0

    @classmethod
    def of(cls, settings: Settings, projects: Sequence[Project], *, at_root: bool) -> "Rules":
        """Those of the settings, for the projects that are served."""
        return cls(
            projects=tuple(project.name for project in projects),
            at_root=at_root,
            locked=settings.locked,
            open=settings.open,
            origins=tuple(origin for origin in settings.origins.split(",") if origin),
            max_body=settings.max_body,
            most_bytes=settings.max_held,
            body_seconds=settings.body_seconds,
        )


class Door:
    """An ASGI application in front of `app`.

    `most` says how many predictions may be inside; `refused` is told the reason of each refusal.
    A request with `X-Request-Timeout` has its end, by the monotonic clock, in the scope under
    `timonel.deadline`.
    """

    def __init__(
        self,
        app: ASGIApp,
        rules: Rules,
        keyring: Keyring,
        *,
        most: Callable[[], int],
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._app = app
        self._rules = rules
        self._keyring = keyring
        self._refused = refused
        self._places: dict[str, Place] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._loads = {
            kind: Load(
                limit,
                most_bytes=rules.most_bytes,
                max_body=rules.max_body,
                body_seconds=rules.body_seconds,
            )
            for kind, limit in (
                ("predict", most),
                ("feedback", lambda: _OPERATING),
                ("operate", lambda: _OPERATING),
            )
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through to the application, or answer it with why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        place = self._place(scope)
        if place.kind == "probe":
            await self._app(scope, receive, send)
            return
        headers = {name: value for name, value in scope["headers"] if name in _READ}
        if scope["method"] == "OPTIONS" and b"origin" in headers:
            # A browser asks, without keys, what a page may; nothing is done yet.
            await self._app(scope, receive, send)
            return
        try:
            self._check(place, scope, headers)
            if (load := self._loads.get(place.kind)) is None:
                await self._app(scope, receive, send)
                return
            seconds = _seconds_in(headers)
            ticket = load.enter(_size_in(headers))
        except TimonelError as error:
            await self._refuse(error, scope, headers, send)
            return
        read = load.reader(ticket, receive)
        if seconds is not None:
            await self._within(seconds, load, ticket, headers, (scope, read, send))
            return
        try:
            await self._app(scope, read, send)
        except asyncio.CancelledError:
            if not ticket.is_late:
                raise
            _uncancel()
            await self._refuse(_slow(self._rules.body_seconds), scope, headers, send)
        finally:
            load.leave(ticket)

    def open_to(self, server: str) -> Load | None:
        """The load of predictions, where they need no key over a socket of this address."""
        rules = self._rules
        if (rules.locked or is_far(server)) and rules.open != "predict":
            return None
        return self._loads["predict"]

    def _place(self, scope: Scope) -> Place:
        path: str = scope["path"]
        if (root := scope.get("root_path", "")) and path.startswith(root):
            path = path[len(root) :]
        place = self._places.get(path)
        if place is None:
            if len(self._places) >= _MOST_PATHS:  # somebody makes them up
                self._places.clear()
            place = place_of(path, self._rules.projects, at_root=self._rules.at_root)
            self._places[path] = place
        return place

    def _check(self, place: Place, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Whether the caller may.

        Raises:
            KeyNeeded: it showed no valid key, where one is needed.
            NotAllowed: its key, its machine or its page is not one that may.
            TooManyRequests: its key's rate is used up.
        """
        rules, kind = self._rules, place.kind
        server = scope.get("server")
        locked = rules.locked or is_far(server[0] if server else "")
        if kind in ("feedback", "operate"):
            check_page(headers, rules.origins, locked=locked)
            if kind == "operate" and not locked:
                host = headers.get(b"host")
                check_near(client_of(scope), None if host is None else host.decode("latin-1"))
        if not locked or (rules.open == "predict" and kind in ("predict", "about")):
            return
        key = self._key_in(headers)
        if kind in ("predict", "feedback", "operate"):
            # Labels move rollouts: `open` lets nobody say them, a key for predictions does.
            _check_scope(key, "operate" if kind == "operate" else "predict", place.project)
        self._keyring.spend(key)

    def _key_in(self, headers: Mapping[bytes, bytes]) -> Key:
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            token = headers.get(b"x-api-key", b"").decode("latin-1")
        key = self._keyring.find(token.strip()) if token else None
        if key is None:
            raise KeyNeeded(
                f"Expected a valid key, got {'another' if token else 'none'}.",
                remedy="Send it as Authorization: Bearer KEY; make one with: "
                "timonel keys create NAME",
            )
        return key

    async def _within(
        self,
        seconds: float,
        load: Load,
        ticket: Ticket,
        headers: Mapping[bytes, bytes],
        call: tuple[Scope, Receive, Send],
    ) -> None:
        """Answer in time, or say that it was not; what still runs then is let go.

        Its ticket stays with it: what runs takes up room, whoever waits for it.
        """
        scope, receive, send = call
        scope["timonel.deadline"] = time.monotonic() + seconds
        gate, span = _Gate(send), anyio.CancelScope()

        async def work() -> None:
            with span:
                await self._app(scope, receive, gate)

        task = asyncio.create_task(work())
        self._working.add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._working.discard(task)
            load.leave(ticket)
            if gate.is_closed and not task.cancelled() and task.exception():
                _log.error("A request failed after its deadline", exc_info=task.exception())

        task.add_done_callback(over)
        try:
            done, _ = await asyncio.wait((task,), timeout=seconds)
            if not done and not gate.is_open:
                gate.is_closed = True
                span.cancel()  # what waits, or has not begun, ends here
                error = DeadlinePassed(
                    f"Expected to answer within {seconds:g} seconds (X-Request-Timeout), did not.",
                    remedy="Ask again, or allow more.",
                )
                await self._refuse(error, scope, headers, send)
                return
            await task
        except asyncio.CancelledError:
            if not ticket.is_late:
                task.cancel()
                raise
            await self._refuse(_slow(self._rules.body_seconds), scope, headers, send)

    async def _refuse(
        self, error: TimonelError, scope: Scope, headers: Mapping[bytes, bytes], send: Send
    ) -> None:
        self._refused(next(reason for kind, reason in _REASONS if isinstance(error, kind)))
        body = msgspec.json.encode(refusal_content(scope["path"], error.status, str(error)))
        reply = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if error.retry_after is not None:
            reply.append((b"retry-after", str(error.retry_after).encode()))
        if error.status == 401:
            reply.append((b"www-authenticate", b'Bearer realm="timonel"'))
        origin = headers.get(b"origin", b"")
        if origin.decode("latin-1") in self._rules.origins:  # a page that may ask may know why not
            reply += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", b"Retry-After"),
                (b"vary", b"Origin"),
            ]
        # The server reads and drops what is left of a body, so that the connection can be kept;
        # one without a near end would keep it busy.
        if (
            isinstance(error, BodyTooSlow)
            or b"transfer-encoding" in headers
            or _size_in(headers) > self._rules.max_body
        ):
            reply.append((b"connection", b"close"))
        try:
            await send({"type": "http.response.start", "status": error.status, "headers": reply})
            await send({"type": "http.response.body", "body": body})
        except RuntimeError:
            _log.debug("A reply had begun already")


class _Gate:
    """`send`, which says whether a reply has begun, and drops one that comes too late."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_open = False
        self.is_closed = False

    async def __call__(self, message: Message) -> None:
        if not self.is_closed:
            self.is_open = True
            await self._send(message)


def _check_scope(key: Key, scope: str, project: str | None) -> None:
    if scope not in key.scopes:
        raise NotAllowed(
            f"Expected a key with the scope {scope}, got {key.name} with "
            f"{' and '.join(key.scopes)}.",
            remedy=f"Make one with: timonel keys create NAME --scope {scope}",
        )
    if key.projects is not None and project not in key.projects:
        raise NotAllowed(
            f"Expected a key for {project or 'all projects'}, got {key.name} for "
            f"{', '.join(key.projects)}."
        )


def _seconds_in(headers: Mapping[bytes, bytes]) -> float | None:
    """How long the caller waits. Raises BadRequest for what is no such number."""
    given = headers.get(b"x-request-timeout")
    if given is None:
        return None
    seconds = float(given) if _SECONDS.fullmatch(given) else 0.0
    if seconds <= 0:
        raise BadRequest(
            "Expected X-Request-Timeout to be seconds above 0, such as 0.5, got "
            f"{given[:40].decode('latin-1')!r}."
        )
    return seconds


def _size_in(headers: Mapping[bytes, bytes]) -> int:
    declared = headers.get(b"content-length", b"0")
    return int(declared) if declared.isdigit() and len(declared) < 19 else 0


def _slow(seconds: float) -> BodyTooSlow:
    return BodyTooSlow(f"Expected the body within {seconds:g} seconds, got a part of it.")


def _uncancel() -> None:
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
