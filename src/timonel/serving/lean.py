"""The lean path: plain good requests, answered in front of the application they belong to.

It knows how to say yes. Whatever is not plain, or goes wrong, is handed with its body to the route
behind, which answers as if it had been asked at once; so there is one place that refuses.
"""

import time
import uuid
from collections.abc import Mapping, Sequence

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from timonel.errors import JournalFull, TimonelError
from timonel.project import Project
from timonel.serving.answer import Entry
from timonel.serving.predict import Predictor
from timonel.serving.quick import QuickReader, QuickRows

__all__ = ["Lean", "LeanAnswer", "LeanPath", "is_plain", "why_not_lean"]

_LARGEST = 32_768
"""bytes of a body; more would take longer to read than others should wait"""

# The second is what curl says of data that it is told nothing about.
_READ_AS_JSON = (b"application/json", b"application/x-www-form-urlencoded")

# What these ask for is the business of the application behind.
_UNUSUAL = frozenset((b"origin", b"content-encoding", b"transfer-encoding"))


def why_not_lean(project: Project) -> str | None:
    """Why a project is never answered by the lean path; None when it is."""
    if project.cache is not None:
        return "answers come by way of the cache"
    return None


# What the layer for other origins adds to a reply to none.
_VARY = (b"vary", b"Origin")


class LeanAnswer(msgspec.Struct, frozen=True):
    """An answer that may leave once `entry` is in the journal.

    `name` is its id, `versions` are those that answered, `content` is the reply's body.
    """

    name: bytes
    versions: bytes
    content: bytes
    entry: Entry
    rows: QuickRows
    started: float

    def in_one(self, beginning: bytes) -> bytes:
        """The whole reply; `beginning` is the status line and the server's own headers."""
        return b"%bx-prediction-id: %b\r\nx-model-version: %b\r\ncontent-length: %d\r\n%b%b" % (
            beginning,
            self.name,
            self.versions,
            len(self.content),
            _END,
            self.content,
        )

    @property
    def start(self) -> Message:
        """The reply's head, as ASGI has it."""
        return {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"x-prediction-id", self.name),
                (b"x-model-version", self.versions),
                (b"content-length", b"%d" % len(self.content)),
                (b"content-type", b"application/json"),
                _VARY,
            ],
        }


_END = b"content-type: application/json\r\n%b: %b\r\n\r\n" % _VARY


class Lean:
    """One project's answers without a word about what is wrong."""

    def __init__(self, predictor: Predictor) -> None:
        answerer = predictor.answerer
        self.limit = min(_LARGEST, predictor.max_body)
        self.timer = answerer.timer
        self.new_id = answerer.new_id
        self.record = answerer.record
        self._predictor = predictor
        self._answerer = answerer
        self._read = QuickReader(predictor.project, predictor.reader)
        self._models = answerer.models(None)
        self._reply = predictor.project.contract.reply
        self._name = predictor.project.name
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, body: bytes, started: float, identifier: uuid.UUID) -> LeanAnswer | None:
        """The answer to a body, yet to be recorded; None: not for the lean path."""
        if len(body) > self.limit:
            return None
        answerer = self._answerer
        try:
            rows = self._read(body)
            if rows is None or not rows.kept:
                return None
            served = answerer.quick(self._models, len(rows.kept), identifier.bytes)
            if served is None:
                return None
            answer, results = answerer.at_once(
                served, rows.fed, started, identifier, single=rows.single
            )
            content = self._encode(self._reply(answer))
            versions = ", ".join([version.label for version in served]).encode("latin-1")
        except Exception:  # noqa: BLE001 (it happens again in the route behind, which says what)
            return None
        entry = answerer.entry(rows.kept, results, "json", identifier, answer.seconds)
        return LeanAnswer(answer.id.encode(), versions, content, entry, rows, started)

    def count(self, answered: LeanAnswer) -> None:
        """Count an answer that is about to leave."""
        entry = answered.entry
        self._answerer.count(entry.answers, len(entry.rows))
        self._answerer.metrics.request(self._name, 200, self.timer() - answered.started)

    def mirror(self, answered: LeanAnswer) -> None:
        """Have challengers asked as well, now that the answer has left."""
        if self._answerer.mirrors:
            rows, identifier = answered.rows, answered.entry.id
            self._answerer.mirror(self._models, identifier, identifier, rows.kept, fed=rows.fed)

    def refused(self, error: TimonelError, started: float) -> Response:
        """The reply when an answer could not be recorded."""
        response = self._predictor.refused(error)
        response.raw_headers.append(_VARY)
        self._answerer.metrics.request(self._name, response.status_code, self.timer() - started)
        return response


class LeanPath:
    """An ASGI application in front of another; `predictors` by the paths that they answer.

    A request with an id in its scope, under `timonel.id`, was for the lean path and is not.
    """

    def __init__(self, app: ASGIApp, predictors: Mapping[str, Predictor]) -> None:
        self._app = app
        lean = {id(p): Lean(p) for p in predictors.values() if not why_not_lean(p.project)}
        self.paths = {path: lean[id(p)] for path, p in predictors.items() if id(p) in lean}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        lean = self.paths.get(scope["path"]) if scope["type"] == "http" else None
        if lean is None or "timonel.id" in scope or not is_plain(scope, lean.limit):
            await self._app(scope, receive, send)
            return
        started = lean.timer()
        message = await receive()
        if message.get("more_body"):
            messages = await _whole(message, receive, lean.limit)
            body = b"".join([part.get("body", b"") for part in messages])
        else:
            messages, body = [message], message.get("body", b"")
        identifier = lean.new_id()
        answered = (
            lean(body, started, identifier) if messages[-1]["type"] == "http.request" else None
        )
        if answered is None:
            # The same id again, so that a rollout chooses the same version for it.
            scope["timonel.id"] = identifier
            await self._app(scope, _again(messages, receive), send)
            return
        try:
            await lean.record(answered.entry)
        except JournalFull as error:
            response = lean.refused(error, started)
            await response(scope, receive, send)
            return
        lean.count(answered)
        await send(answered.start)
        await send({"type": "http.response.body", "body": answered.content})
        lean.mirror(answered)


def is_plain(scope: Scope, limit: int) -> bool:
    """Whether nothing but the body, of up to `limit` bytes, needs to be looked at."""
    if scope["method"] != "POST" or scope["query_string"] or scope.get("root_path"):
        return False
    for name, value in scope["headers"]:
        if name in _UNUSUAL:
            return False
        if name == b"content-type":
            if not value.startswith(_READ_AS_JSON):
                return False
        elif name == b"content-length" and not (value.isdigit() and int(value) <= limit):
            return False
    deadline = scope.get("timonel.deadline")
    return deadline is None or time.monotonic() < deadline


async def _whole(first: Message, receive: Receive, limit: int) -> list[Message]:
    """The messages of a body up to its end, or to the first over the limit."""
    messages, size = [first], len(first.get("body", b""))
    while messages[-1].get("more_body") and size <= limit:
        messages.append(await receive())
        size += len(messages[-1].get("body", b""))
    return messages


def _again(messages: Sequence[Message], receive: Receive) -> Receive:
    """What was received already, and then what comes."""
    waiting = iter(messages)

    async def replay() -> Message:
        for message in waiting:
            return message
        return await receive()

    return replay
