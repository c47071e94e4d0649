"""What stands in front of the application: who comes in, and what the others are told."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import msgspec
import pytest
from starlette.types import Message, Receive, Scope, Send

from timonel.serving.door import Door, Rules
from timonel.serving.keyring import Keyring
from timonel.serving.load import Load
from timonel.serving.state import Key
from timonel.stores.keys import digest_of

PREDICT, OPERATE, ONE = (f"timonel_{name * 8}_{'0' * 64}" for name in "poq")
KEYS = (
    Key("pppppppp", "shop", digest_of(PREDICT), ("predict",)),
    Key("oooooooo", "ops", digest_of(OPERATE), ("operate",)),
    Key("qqqqqqqq", "one", digest_of(ONE), ("predict", "operate"), projects=("digits",)),
)
ORIGIN = "http://127.0.0.1:3000"
PATHS = {
    "probe": "/health",
    "about": "/docs",
    "metrics": "/metrics",
    "predict": "/digits/predict",
    "feedback": "/digits/feedback",
    "operate": "/api/projects/digits/runs",
}

Behind = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Reply:
    """What was sent, put together."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    seconds: float = 0.0


@dataclass
class Behinds:
    """An application that says how it was called."""

    scopes: list[Scope] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"by":"behind"}'})


def door_of(app: Behind | None = None, most: int = 10, **given: Any) -> Door:
    keyring = given.pop("keyring", None) or Keyring(lambda: KEYS)
    refused = given.pop("refused", lambda reason: None)
    rules: dict[str, Any] = {"projects": ("digits", "penguins"), "at_root": False}
    rules |= {"origins": (ORIGIN,)} | given
    return Door(app or Behinds(), Rules(**rules), keyring, most=lambda: most, refused=refused)


async def ask(
    door: Door,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    client: str | None = "127.0.0.1",
    server: str = "127.0.0.1",
    receive: Receive | None = None,
) -> Reply:
    given = {"host": "127.0.0.1:8000", **(headers or {})}
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": b"",
        "client": (client, 1) if client else None,
        "server": (server, 8000),
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in given.items()],
    }
    reply = Reply()

    async def body() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            if reply.status:
                raise RuntimeError("twice")
            reply.status = message["status"]
            reply.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            reply.body = msgspec.json.decode(message["body"])

    started = time.monotonic()
    await door(scope, receive or body, send)
    reply.seconds = time.monotonic() - started
    return reply


def asked(door: Door, path: str, headers: Mapping[str, str] | None = None, **given: Any) -> Reply:
    return asyncio.run(ask(door, path, headers, **given))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", PATHS.values())
def test_on_loopback_nothing_needs_a_key(path: str) -> None:
    assert asked(door_of(), path).status == 200


@pytest.mark.parametrize(
    ("rules", "given", "open_to_all"),
    [
        ({"locked": True}, {}, {"probe"}),
        ({"locked": True, "open": "predict"}, {}, {"probe", "about", "predict"}),
        # Bound by another server, which did not tell us where.
        ({}, {"server": "10.0.0.7", "client": "10.0.0.8"}, {"probe"}),
    ],
)
def test_what_needs_a_key_where_keys_are_asked_for(
    rules: dict[str, Any], given: dict[str, Any], open_to_all: set[str]
) -> None:
    for kind, path in PATHS.items():
        reply = asked(door_of(**rules), path, **given)
        assert reply.status == (200 if kind in open_to_all else 401), kind
        if reply.status == 401:
            assert "timonel keys create" in reply.body["detail"]
            assert reply.headers["www-authenticate"].startswith("Bearer")
        if kind != "operate":
            assert asked(door_of(**rules), path, bearer(PREDICT), **given).status == 200


def test_with_keys_an_operator_needs_one_also_on_this_machine() -> None:
    door = door_of(locked=True, open="predict")
    path = PATHS["operate"]
    assert asked(door, path).status == 401
    assert asked(door, path, bearer(OPERATE)).status == 200
    assert asked(door, path, bearer(OPERATE), client="10.0.0.8").status == 200


@pytest.mark.parametrize(
    ("token", "path", "status", "said"),
    [
        (PREDICT, "/digits/predict", 200, ""),
        (PREDICT, "/penguins/predict", 200, ""),
        (PREDICT, "/digits/run-pipeline", 403, "--scope operate"),
        (OPERATE, "/digits/run-pipeline", 200, ""),
        (OPERATE, "/digits/predict", 403, "--scope predict"),
        (PREDICT, "/digits/feedback", 200, ""),
        (OPERATE, "/digits/feedback", 403, "--scope predict"),
        (ONE, "/penguins/feedback", 403, "key for penguins"),
        (OPERATE, "/metrics", 200, ""),
        (ONE, "/digits/predict", 200, ""),
        (ONE, "/v2/models/digits/infer", 200, ""),
        (ONE, "/penguins/predict", 403, "key for penguins, got one for digits"),
        (ONE, "/api/projects/penguins/runs", 403, "key for penguins"),
        (ONE, "/api/events", 403, "key for all projects"),
        (ONE, "/nowhere", 403, "key for all projects"),
        (PREDICT.replace("0", "1"), "/digits/predict", 401, "got another"),
    ],
)
def test_a_key_is_for_its_scopes_and_projects(
    token: str, path: str, status: int, said: str
) -> None:
    for headers in (
        bearer(token),
        {"X-Api-Key": token},
        {"authorization": f"bearer  {token}"},
        {"Authorization": "Basic eDp5", "X-Api-Key": token},
    ):
        reply = asked(door_of(locked=True), path, headers)
        assert reply.status == status
        assert said in str(reply.body)
        assert token not in str(reply.body)


def test_a_rate_is_a_429_that_says_when_to_ask_again() -> None:
    key = msgspec.structs.replace(KEYS[0], rate=2)
    door = door_of(locked=True, keyring=Keyring(lambda: (key,), timer=lambda: 0.0))

    async def many() -> list[Reply]:
        return [await ask(door, "/digits/predict", bearer(PREDICT)) for _ in range(3)]

    replies = asyncio.run(many())
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert replies[2].headers["retry-after"] == "30"


def test_other_sites_say_no_labels_and_other_machines_may() -> None:
    door, path = door_of(), PATHS["feedback"]
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert asked(door, path, headers).status == 403
    assert asked(door, path, {"Origin": ORIGIN}, client="10.0.0.8").status == 200


def test_other_sites_change_nothing_even_on_loopback_nor_by_a_name_of_theirs() -> None:
    door, path = door_of(), PATHS["operate"]
    for headers in (
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example:8000"},
        {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"},
    ):
        for method in ("GET", "POST", "PUT"):
            assert asked(door, path, headers, method=method).status == 403
    assert asked(door, path, client="10.0.0.8").status == 403
    assert asked(door, path, {"Origin": ORIGIN}).status == 200
    locked = door_of(locked=True)
    assert asked(locked, path, bearer(OPERATE) | {"Origin": "http://evil.example"}).status == 403


def test_a_page_that_may_ask_is_told_why_not_and_asks_beforehand_without_a_key() -> None:
    door = door_of(locked=True)
    reply = asked(door, "/digits/predict", {"Origin": ORIGIN})
    assert reply.status == 401
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    reply = asked(door, "/digits/predict", {"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in reply.headers
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    assert asked(door, "/digits/predict", preflight, method="OPTIONS").status == 200


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/digits/predict", "detail"),
        ("/v2/models/digits/infer", "error"),
        ("/invocations", "message"),
    ],
)
def test_each_protocol_is_refused_in_its_own_form(path: str, field: str) -> None:
    assert "Expected a valid key" in asked(door_of(locked=True), path).body[field]


def test_where_a_server_mounts_us_below_a_path_that_path_is_not_ours() -> None:
    door = door_of()

    async def below() -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request"}

        scope = {
            "type": "http",
            "method": "PUT",
            "path": "/ml/api/projects/digits/runs",
            "root_path": "/ml",
            "client": ("10.0.0.8", 1),
            "headers": [],
        }
        await door(scope, receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(below()) == 403


def test_web_sockets_are_refused_and_the_lifespan_passes() -> None:
    behind = Behinds()
    door = door_of(behind)

    async def talk(kind: str) -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": f"{kind}.startup"}

        await door({"type": kind}, receive, send)
        return sent

    assert asyncio.run(talk("websocket")) == [{"type": "websocket.close", "code": 1008}]
    asyncio.run(talk("lifespan"))
    assert [scope["type"] for scope in behind.scopes] == ["lifespan"]


def holding(until: asyncio.Event) -> Behind:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await until.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    return app


def test_what_is_too_much_is_told_at_once_and_what_was_let_in_is_answered() -> None:
    reasons: list[str] = []

    async def crowd() -> tuple[list[Reply], list[Reply], Reply]:
        until = asyncio.Event()
        door = door_of(holding(until), most=3, refused=reasons.append)
        inside = [asyncio.create_task(ask(door, "/digits/predict")) for _ in range(3)]
        await asyncio.sleep(0)
        outside = [await ask(door, "/digits/predict") for _ in range(50)]
        until.set()
        return await asyncio.gather(*inside), outside, await ask(door, "/digits/predict")

    inside, outside, after = asyncio.run(crowd())
    assert {reply.status for reply in inside} == {after.status} == {200}
    assert {reply.status for reply in outside} == {503}
    assert outside[0].headers["retry-after"] == "1"
    assert "connection" not in outside[0].headers
    assert "at most 3 requests" in outside[0].body["detail"]
    assert reasons == ["overload"] * 50


def test_health_and_operators_are_answered_by_a_crowded_worker() -> None:
    async def crowd() -> list[int]:
        until = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"].endswith("predict"):
                await until.wait()
            await Behinds()(scope, receive, send)

        door = door_of(app, most=1)
        inside = asyncio.create_task(ask(door, "/digits/predict"))
        await asyncio.sleep(0)
        others = [await ask(door, path) for path in PATHS.values()]
        until.set()
        return [reply.status for reply in [*others, await inside]]

    assert asyncio.run(crowd()) == [200, 200, 200, 503, 200, 200, 200]


@pytest.mark.parametrize(
    ("headers", "closes"),
    [
        ({"Content-Length": "100"}, False),
        ({"Content-Length": "9000000000"}, True),
        ({"Transfer-Encoding": "chunked"}, True),
    ],
)
def test_a_refused_body_is_only_read_to_its_end_if_that_is_near(
    headers: dict[str, str], closes: bool
) -> None:
    reply = asked(door_of(locked=True), "/digits/predict", headers)
    assert ("connection" in reply.headers) is closes


@pytest.mark.parametrize(
    "given", ["", "0", "-1", "0.0", "500ms", "1e3", "nan", "inf", " 1", "1" * 9]
)
def test_a_deadline_that_is_no_number_of_seconds_is_refused(given: str) -> None:
    reply = asked(door_of(), "/digits/predict", {"X-Request-Timeout": given})
    assert (reply.status, "such as 0.5" in reply.body["detail"]) == (400, True)


def test_a_deadline_is_handed_on_and_does_not_delay() -> None:
    behind = Behinds()
    before = time.monotonic()
    reply = asked(door_of(behind), "/digits/predict", {"X-Request-Timeout": "7.5"})
    assert (reply.status, reply.body) == (200, {"by": "behind"})
    assert before + 7.5 <= behind.scopes[0]["timonel.deadline"] <= time.monotonic() + 7.5
    assert reply.seconds < 7


def test_who_waits_past_the_deadline_is_told_and_the_work_is_cancelled() -> None:
    reasons: list[str] = []

    async def late() -> tuple[Reply, bool, int]:
        ended = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await asyncio.sleep(3_600)
            finally:
                ended.set()

        door = door_of(app, most=1, refused=reasons.append)
        reply = await ask(door, "/digits/predict", {"X-Request-Timeout": "0.02"})
        await asyncio.wait_for(ended.wait(), 10)
        await asyncio.sleep(0.01)
        again = await ask(door, "/digits/predict", {"X-Request-Timeout": "0.02"})
        return reply, ended.is_set(), again.status

    reply, cancelled, again = asyncio.run(late())
    assert (reply.status, again, cancelled) == (504, 504, True)
    assert "within 0.02 seconds" in reply.body["detail"]
    assert reasons == ["deadline", "deadline"]


def test_what_cannot_be_cancelled_is_let_go_but_takes_up_room_until_its_end() -> None:
    release = threading.Event()

    async def late() -> tuple[list[int], int]:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await anyio.to_thread.run_sync(release.wait, 30)
            await Behinds()(scope, receive, send)

        door = door_of(app, most=1)
        statuses = [(await ask(door, "/digits/predict", {"X-Request-Timeout": "0.05"})).status]
        statuses.append((await ask(door, "/digits/predict")).status)
        release.set()
        load: Load = door._loads["predict"]
        for _ in range(1_000):
            if not load.inside:
                break
            await asyncio.sleep(0.01)
        return statuses, load.inside

    assert asyncio.run(late()) == ([504, 503], 0)


def test_a_reply_that_has_begun_is_ended_whatever_the_deadline() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"{}"})

    reply = asked(door_of(app), "/digits/predict", {"X-Request-Timeout": "0.01"})
    assert (reply.status, reply.body) == (200, {})


def test_a_failure_behind_is_a_failure_with_and_without_a_deadline() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("behind")

    for headers in ({}, {"X-Request-Timeout": "5"}):
        door = door_of(app)
        with pytest.raises(KeyError, match="behind"):
            asked(door, "/digits/predict", headers)
        assert door._loads["predict"].inside == 0


def test_a_client_that_is_cancelled_cancels_what_it_asked() -> None:
    async def gone(headers: dict[str, str]) -> int:
        door = door_of(holding(asyncio.Event()))
        task = asyncio.create_task(ask(door, "/digits/predict", headers))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)
        return door._loads["predict"].inside

    for headers in ({}, {"X-Request-Timeout": "5"}):
        assert asyncio.run(gone(headers)) == 0


@pytest.mark.parametrize("headers", [{}, {"X-Request-Timeout": "30"}])
def test_a_body_that_stops_coming_is_a_408_and_gives_up_its_place(headers: dict[str, str]) -> None:
    async def slow() -> tuple[Reply, int]:
        async def never() -> Message:
            await asyncio.sleep(3_600)
            raise AssertionError

        door = door_of(body_seconds=0.02)
        reply = await ask(door, "/digits/predict", headers, receive=never)
        await asyncio.sleep(0)
        return reply, door._loads["predict"].inside

    reply, inside = asyncio.run(slow())
    assert (reply.status, reply.headers["connection"], inside) == (408, "close", 0)


def test_made_up_paths_do_not_fill_the_memory() -> None:
    door = door_of()

    async def many() -> None:
        for number in range(5_000):
            await ask(door, f"/nowhere/{number}")

    asyncio.run(many())
    assert len(door._places) <= 2_048
