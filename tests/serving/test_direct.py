"""What a connection answers by itself is what the ordinary way would have, on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from tests.homes import app_of, deploy, deploy_digits, home_at
from tests.serving.bad_inputs import PENGUINS
from tests.serving.boats import MALE, boat, launch
from tests.serving.bodies import bodies_of, pictures_of
from tests.serving.processes import journaled, serving
from tests.serving.test_lean import PENGUIN, recorded
from timonel.contract import Answer
from timonel.errors import JournalFull
from timonel.journal.append import Journal
from timonel.project import Project, load_project
from timonel.serving.direct import Direct, DirectProtocol, direct_protocol
from timonel.serving.lean import Lean
from timonel.serving.wire import BoundedProtocol
from timonel.settings import Settings

Reply = tuple[bytes, list[tuple[bytes, bytes]], bytes]

PATH = "/penguins/predict"
BODY = json.dumps(PENGUIN).encode()
JSON = "Content-Type: application/json"


def request(
    body: bytes, *lines: str, path: str = PATH, method: str = "POST", version: str = "1.1"
) -> bytes:
    """A request as clients write it."""
    given = (f"{method} {path} HTTP/{version}", "Host: 127.0.0.1", *lines)
    head = "\r\n".join([*given, f"Content-Length: {len(body)}"])
    return head.encode() + b"\r\n\r\n" + body


class Client:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, *parts: bytes) -> Reply:
        """The reply to a request in parts."""
        for part in parts:
            self.writer.write(part)
            if len(parts) > 1:
                await asyncio.sleep(0.002)
        return await self.reply()

    async def reply(self) -> Reply:
        """The next reply: status line, headers, body."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)
        status, *lines = head[:-4].split(b"\r\n")
        pairs = [line.partition(b": ") for line in lines]
        headers = [(name, value) for name, _, value in pairs]
        size = int(dict(headers).get(b"content-length", b"0"))
        return status, headers, await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything until the server ends the connection."""
        return bytes(await asyncio.wait_for(self.reader.read(), 20))


class Way:
    """A worker in this process: its connections answer by themselves, and, beside, ordinarily."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.direct = Direct(app.lean.paths, app.front, app.recorder.then)
        self.answered = 0  # by the connections themselves
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.ports: dict[str, int] = {}

    @property
    def connections(self) -> list[DirectProtocol]:
        """Those that answer by themselves."""
        return [one for one in self.state.connections if isinstance(one, DirectProtocol)]

    @asynccontextmanager
    async def client(self, way: str = "direct") -> AsyncIterator[Client]:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.ports[way]))
        try:
            yield client
        finally:
            client.writer.close()

    async def learn(self, *requests: bytes) -> None:
        """Let the heads of these be known."""
        async with self.client() as client:
            for one in requests:
                await client.ask(one)


@asynccontextmanager
async def worker(
    projects: list[Project], settings: Settings, keep_alive: float = 5.0
) -> AsyncIterator[Way]:
    app = app_of(projects, settings)
    async with app.router.lifespan_context(app):
        way = Way(app)
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(app, lifespan="off", access_log=False, log_level="error")
        config.load()
        config.timeout_keep_alive = keep_alive  # type: ignore[assignment]

        class Counted(direct_protocol(way.direct)):  # type: ignore[misc]
            def _answer(self, lean: Lean, body: bytes) -> bool:
                answered: bool = super()._answer(lean, body)
                way.answered += answered
                return answered

        kinds: dict[str, Callable[..., asyncio.Protocol]] = {
            "direct": Counted,
            "ordinary": BoundedProtocol,
        }
        servers = []
        for name, kind in kinds.items():
            server = await loop.create_server(
                lambda kind=kind: kind(config, way.state, {}),  # type: ignore[misc]
                "127.0.0.1",
                0,
            )
            way.ports[name] = server.sockets[0].getsockname()[1]
            servers.append(server)
        try:
            yield way
        finally:
            for server in servers:
                server.close()
            await asyncio.sleep(0.01)


def without_ids(reply: Reply) -> object:
    """A reply but for what differs from one to the next."""
    status, headers, body = reply
    content = json.loads(body) if body else None
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if name != "id"}
    return status, [pair for pair in headers if pair[0] != b"x-prediction-id"], content


def replay(project: Project, settings: Settings, bodies: Iterable[bytes]) -> tuple[int, int]:
    """Send all bodies both ways; how many the connection answered, and how many are recorded."""
    path = f"/{project.name}/predict"

    async def run() -> int:
        async with worker([project], settings) as way, way.client() as quick:
            async with way.client("ordinary") as slow:
                for body in bodies:
                    asked = request(body, JSON, path=path)
                    await quick.ask(asked)  # where its head is learnt
                    first, second = await quick.ask(asked), await slow.ask(asked)
                    assert without_ids(first) == without_ids(second), body[:300]
            return way.answered

    answered = asyncio.run(run())
    records = recorded(settings)
    assert records[0::3] == records[1::3] == records[2::3]
    return answered, len(records) // 3


def penguins(tmp_path: Path, **given: Any) -> tuple[Settings, Project]:
    settings, project = home_at(tmp_path, **given), load_project("penguins")
    deploy(project, settings)
    return settings, project


def test_penguins_are_answered_as_on_the_ordinary_way(tmp_path: Path) -> None:
    settings, project = penguins(tmp_path)
    bodies = [*bodies_of(PENGUIN), *(bad.body for bad in PENGUINS if len(bad.body) < 100_000)]
    answered, good = replay(project, settings, bodies)
    # A head is known from the first time on, and many bodies have the same length.
    assert good < answered <= 2 * good


def test_digits_are_answered_as_on_the_ordinary_way(tmp_path: Path) -> None:
    settings = home_at(tmp_path)
    deploy_digits(settings)
    bodies = [body for body in pictures_of(784, ("pixels", "data", "image")) if body]
    answered, good = replay(load_project("digits"), settings, bodies)
    assert 0 < answered <= 2 * good


def test_a_request_is_answered_wherever_it_is_cut(tmp_path: Path) -> None:
    settings, project = penguins(tmp_path)
    asked = request(BODY, JSON)

    async def run() -> int:
        async with worker([project], settings) as way, way.client() as client:
            whole = without_ids(await client.ask(asked))
            for place in range(1, len(asked)):
                assert without_ids(await client.ask(asked[:place], asked[place:])) == whole
            by_bytes = [asked[place : place + 1] for place in range(len(asked))]
            assert without_ids(await client.ask(*by_bytes)) == whole
            return way.answered

    # Cut in its head, a request is for the parser.
    assert asyncio.run(run()) >= len(BODY)
    assert len(recorded(settings)) == len(asked) + 1


def test_requests_sent_at_once_are_answered_in_their_order(tmp_path: Path) -> None:
    settings, project = penguins(tmp_path)
    masses = [2_700, 6_300, 3_000, 6_000] * 5
    asked = [request(json.dumps(PENGUIN | {"body_mass_g": m}).encode(), JSON) for m in masses]

    async def run() -> None:
        async with worker([project], settings) as way, way.client() as client:
            await way.learn(asked[0])
            alone = [without_ids(await client.ask(one)) for one in asked]
            before = way.answered
            client.writer.write(b"".join(asked))
            assert [without_ids(await client.reply()) for _ in asked] == alone
            assert way.answered == before
            # What comes while a reply waits for the journal is looked at when that has left.
            (connection,) = (one for one in way.connections if not one.transport.is_closing())
            connection.data_received(asked[0])
            connection.data_received(asked[1])
            connection.data_received(asked[2] + asked[3][:9])
            connection.data_received(asked[3][9:])
            assert [without_ids(await client.reply()) for _ in range(4)] == alone[:4]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("lines", "given"),
    [
        ((), {"version": "1.0"}),
        (("Connection: close",), {}),
        (("Connection: keep-alive",), {"version": "1.0"}),
        (("Expect: 100-continue",), {}),
        (("Origin: http://localhost:3000",), {}),
        (("X-Request-Timeout: 20",), {}),
        (("X-Request-Timeout: never",), {}),
        (("Authorization: Bearer x",), {}),
        (("X-Api-Key: x",), {}),
        (("Cookie: a=b",), {}),
        (("Content-Encoding: gzip",), {}),
        (("Content-Type: text/csv",), {}),
        (("Content-Type: multipart/form-data; boundary=x",), {}),
        (("X-Long: " + "x" * 1_100,), {}),
        ((), {"path": PATH + "?model=rf"}),
        ((), {"path": "/penguins/predictions"}),
        ((), {"method": "GET"}),
        ((), {"method": "HEAD"}),
        ((), {"method": "PUT"}),
    ],
)
def test_what_is_unusual_goes_the_ordinary_way(
    tmp_path: Path, lines: tuple[str, ...], given: dict[str, str]
) -> None:
    settings, project = penguins(tmp_path)
    asked = request(BODY, *lines, **given)

    async def run() -> None:
        async with worker([project], settings) as way:
            replies = []
            for kind in ("direct", "direct", "ordinary"):
                async with way.client(kind) as client:
                    client.writer.write(asked + request(b"", "Connection: close", method="GET"))
                    replies.append(await client.rest())
            heads = [reply.partition(b"x-prediction-id")[0] for reply in replies]
            assert heads[0] == heads[1] == heads[2] != b""
            assert way.answered == 0
            assert not way.direct.heads

    asyncio.run(run())


def test_chunked_and_large_bodies_go_the_ordinary_way(tmp_path: Path) -> None:
    settings, project = penguins(tmp_path, max_body=100_000)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    chunked = request(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")

    async def run() -> None:
        async with worker([project], settings) as way, way.client() as client:
            for _ in range(2):
                assert (await client.ask(chunked + chunks))[0].endswith(b"200 OK")
                large = request(BODY + b" " * 50_000)
                assert (await client.ask(large))[0].endswith(b"200 OK")
            assert not way.direct.heads
            assert (await client.ask(request(b" " * 200_000)))[0].startswith(b"HTTP/1.1 413")

    asyncio.run(run())


def test_a_body_that_does_not_come_is_for_the_ordinary_way(tmp_path: Path) -> None:
    settings, project = penguins(tmp_path, body_seconds=0.2)
    asked = request(BODY, JSON)

    async def run() -> None:
        async with worker([project], settings) as way:
            await way.learn(asked)
            async with way.client() as client:
                client.writer.write(asked[:-5])
                assert (await client.reply())[0].startswith(b"HTTP/1.1 408")
                assert await client.rest() == b""
            async with way.client() as client:
                client.writer.write(asked[:-5])
                await asyncio.sleep(0.02)
            assert way.answered == 0

    asyncio.run(run())
    assert len(recorded(settings)) == 1


def test_a_client_that_hangs_up_takes_nobody_elses_answer_away(tmp_path: Path) -> None:
    settings, project = penguins(tmp_path)
    asked = request(BODY, JSON)

    async def run() -> None:
        async with worker([project], settings) as way:
            await way.learn(asked)
            async with way.client() as gone, way.client() as stays:
                await gone.ask(asked)
                await stays.ask(asked)
                for connection in way.connections:
                    if not connection.transport.is_closing():
                        connection.data_received(asked)
                gone.writer.transport.abort()
                assert (await stays.reply())[0] == b"HTTP/1.1 200 OK"
                assert (await stays.ask(asked))[0] == b"HTTP/1.1 200 OK"
            assert way.app.front.open_to("127.0.0.1").inside == 0
            counted = way.app.lean.paths[PATH]._answerer.metrics.render().decode()
            assert 'timonel_requests_total{project="penguins",status="200"} 6.0' in counted

    asyncio.run(run())
    assert len(recorded(settings)) == 6


def test_the_reply_leaves_after_the_record_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, project = penguins(tmp_path)
    asked = request(BODY, JSON)
    order: list[str] = []
    put, send = Journal._put, DirectProtocol._send

    def noted_put(journal: Journal, data: bytes) -> None:
        put(journal, data)
        order.append("written")

    def noted_send(connection: DirectProtocol, reply: bytes, closes: bool) -> None:
        order.append("sent")
        send(connection, reply, closes)

    async def run() -> None:
        async with worker([project], settings) as way:
            await way.learn(asked)
            async with way.client() as first, way.client() as second:
                await first.ask(asked)
                await second.ask(asked)
                monkeypatch.setattr(Journal, "_put", noted_put)
                monkeypatch.setattr(DirectProtocol, "_send", noted_send)
                for connection in way.connections:
                    if not connection.transport.is_closing():
                        connection.data_received(asked)
                await first.reply()
                await second.reply()
        assert order[:3] == ["written", "sent", "sent"]

    asyncio.run(run())


def test_a_full_journal_refuses_as_on_the_ordinary_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, project = penguins(tmp_path)
    asked = request(BODY, JSON)

    def full(journal: Journal, payloads: list[bytes]) -> None:
        raise OSError(28, "No space left on device")

    async def run() -> None:
        async with worker([project], settings) as way:
            await way.learn(asked)
            monkeypatch.setattr(Journal, "_write", full)
            async with way.client() as quick, way.client("ordinary") as slow:
                first, second = await quick.ask(asked), await slow.ask(asked)
            assert first == second
            assert int(first[0].split()[1]) == JournalFull.status
            assert way.answered == 1

    asyncio.run(run())


def test_writing_that_fails_otherwise_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, project = penguins(tmp_path)
    asked = request(BODY, JSON)

    def broken(journal: Journal, payloads: list[bytes]) -> None:
        raise MemoryError

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with worker([project], settings) as way:
            await way.learn(asked)
            with monkeypatch.context() as patch:
                patch.setattr(Journal, "_write", broken)
                async with way.client() as client:
                    client.writer.write(asked)
                    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                        await client.reply()
            assert way.app.front.open_to("127.0.0.1").inside == 0

    asyncio.run(run())


def test_a_reply_that_fails_is_an_error_of_the_route_behind(tmp_path: Path) -> None:
    broken = [False]

    def reply(answer: Answer) -> dict[str, str]:
        if broken[0]:
            raise KeyError(answer.id)
        return {"id": answer.id}

    settings, project = home_at(tmp_path), boat(reply=reply)
    launch(project, settings)
    asked = request(json.dumps(MALE).encode(), path="/boat/predict")

    async def run() -> None:
        async with worker([project], settings) as way, way.client() as client:
            await client.ask(asked)
            told = await client.ask(asked)
            assert json.loads(told[2])["id"] == dict(told[1])[b"x-prediction-id"].decode()
            assert way.answered == 1
            broken[0] = True
            assert (await client.ask(asked))[0].startswith(b"HTTP/1.1 500")
            assert way.answered == 1

    asyncio.run(run())


def test_where_keys_are_asked_for_nothing_is_answered_without_one(tmp_path: Path) -> None:
    settings, project = penguins(tmp_path, keys=True)

    async def run() -> None:
        async with worker([project], settings) as way, way.client() as client:
            for _ in range(3):
                assert (await client.ask(request(BODY, JSON)))[0].startswith(b"HTTP/1.1 401")
            assert way.answered == 0

    asyncio.run(run())


def test_without_room_the_door_decides(tmp_path: Path) -> None:
    settings, project = penguins(tmp_path, max_waiting=2)
    asked = request(BODY, JSON)

    async def run() -> None:
        async with worker([project], settings) as way, way.client() as client:
            await way.learn(asked)
            load = way.app.front.open_to("127.0.0.1")
            tickets = [load.enter(10), load.enter(10)]
            assert (await client.ask(asked))[0].startswith(b"HTTP/1.1 503")
            load.leave(tickets[0])
            assert (await client.ask(asked))[0].startswith(b"HTTP/1.1 200")
            assert way.answered == 1
            assert load.inside == 1

    asyncio.run(run())


def test_while_it_drains_every_reply_ends_its_connection(tmp_path: Path) -> None:
    settings, project = penguins(tmp_path)
    asked = request(BODY, JSON)

    async def run() -> None:
        async with worker([project], settings) as way:
            await way.learn(asked)
            async with way.client() as client:
                await client.ask(asked)
                way.state.default_headers = [*way.state.default_headers, (b"connection", b"close")]
                assert (b"connection", b"close") in (await client.ask(asked))[1]
                assert await client.rest() == b""
            assert way.answered == 2

    asyncio.run(run())


@pytest.mark.parametrize("sent", ["whole", "in part", "nothing"])
def test_a_shutdown_answers_what_came_and_ends_the_connection(tmp_path: Path, sent: str) -> None:
    settings, project = penguins(tmp_path)
    asked = request(BODY, JSON)
    parts = {"whole": (asked, b""), "in part": (asked[:-5], asked[-5:]), "nothing": (b"", b"")}
    first, second = parts[sent]

    async def run() -> None:
        async with worker([project], settings) as way:
            await way.learn(asked)
            async with way.client() as client:
                await client.ask(asked)
                (connection,) = (one for one in way.connections if not one.transport.is_closing())
                if first:
                    connection.data_received(first)
                connection.shutdown()
                if second:
                    client.writer.write(second)
                if first:
                    status, headers, _ = await client.reply()
                    assert status == b"HTTP/1.1 200 OK"
                    assert (b"connection", b"close") in headers
                assert await client.rest() == b""

    asyncio.run(run())


def test_an_idle_connection_ends_and_one_in_use_does_not(tmp_path: Path) -> None:
    settings, project = penguins(tmp_path)
    asked = request(BODY, JSON)

    async def run() -> None:
        async with worker([project], settings, keep_alive=0.5) as way:
            await way.learn(asked)
            async with way.client() as client:
                for _ in range(10):
                    assert (await client.ask(asked))[0] == b"HTTP/1.1 200 OK"
                    await asyncio.sleep(0.1)
                assert await client.rest() == b""
            assert way.answered == 10

    asyncio.run(run())


def test_heads_that_differ_each_time_do_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timonel.serving.direct._MOST_HEADS", 8)
    settings, project = penguins(tmp_path)

    async def run() -> None:
        async with worker([project], settings) as way, way.client() as client:
            for number in range(30):
                await client.ask(request(BODY, JSON, f"Traceparent: {number}"))
                assert len(way.direct.heads) <= 8
            assert way.answered == 0

    asyncio.run(run())


def test_what_a_worker_acknowledged_is_exported(tmp_path: Path) -> None:
    settings, _ = penguins(tmp_path, journal_rotate_seconds=0.5)
    asked = request(BODY, JSON, path="/predict")

    async def run(port: int) -> list[str]:
        ids = []
        for _ in range(4):
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
            for _ in range(25):
                _, headers, _ = await client.ask(asked)
                ids.append(dict(headers)[b"x-prediction-id"].decode())
            client.writer.close()
        return ids

    with serving(["penguins"], settings, workers=1) as server:
        ids = asyncio.run(run(int(server.address.rpartition(":")[2])))
        counted = server.send("GET", "/metrics")[1].decode()
        assert 'timonel_requests_total{project="penguins",status="200"} 100.0' in counted
    assert sorted(ids) == sorted(journaled(settings))
