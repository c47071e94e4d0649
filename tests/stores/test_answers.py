import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.redises import RedisServer, closed_port, redis_at
from tests.stores.conftest import Clock
from tests.stores.contract_answers import AnswersContract
from timonel.errors import MissingExtra, StoreError
from timonel.stores.answers import Answers, MemoryAnswers, RedisAnswers

# A machine that is busy must not look like a Redis that hangs.
_PATIENCE = 20.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_at(tmp_path_factory.mktemp("redis")) as running:
        yield running


@asynccontextmanager
async def redis_answers(
    url: str, *, patience: float = _PATIENCE, pause: float = 0.01
) -> AsyncIterator[RedisAnswers]:
    answers = RedisAnswers(url, patience=patience, pause=pause)
    answers.start()
    try:
        yield answers
    finally:
        await answers.close()


async def recovered(answers: RedisAnswers) -> None:
    async with asyncio.timeout(20):
        while answers.trouble:  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.005)


class TestMemory(AnswersContract):
    @pytest.fixture
    def store(self, clock: Clock) -> Answers:
        return MemoryAnswers(1_000, clock=clock)

    @pytest.fixture
    def wait(self, clock: Clock) -> Callable[[float], Awaitable[None]]:
        async def wait(seconds: float) -> None:
            clock.now += seconds

        return wait


class TestRedis(AnswersContract):
    @pytest.fixture
    async def store(self, server: RedisServer, anyio_backend: str) -> AsyncIterator[Answers]:
        server.stop()
        server.start()
        async with redis_answers(server.url) as answers:
            yield answers

    @pytest.fixture
    def wait(self) -> Callable[[float], Awaitable[None]]:
        return asyncio.sleep


@pytest.mark.anyio
async def test_memory_keeps_the_values_used_last() -> None:
    answers = MemoryAnswers(2)
    for key in (b"a", b"b"):
        await answers.put(key, key, 60)
    await answers.get(b"a")
    await answers.put(b"c", b"c", 60)
    assert [await answers.get(key) for key in (b"a", b"b", b"c")] == [b"a", None, b"c"]


@pytest.mark.anyio
async def test_memory_keeps_no_more_bytes_than_allowed() -> None:
    answers = MemoryAnswers(100, most_bytes=10)
    for key in (b"a", b"b", b"c"):
        await answers.put(key, bytes(4), 60)
    assert [await answers.get(key) for key in (b"a", b"b")] == [None, bytes(4)]
    await answers.put(b"b", bytes(11), 60)
    assert [await answers.get(key) for key in (b"b", b"c")] == [None, bytes(4)]
    for _ in range(5):
        await answers.put(b"b", bytes(6), 60)
    assert [await answers.get(key) for key in (b"b", b"c")] == [bytes(6), bytes(4)]


@pytest.mark.anyio
async def test_what_has_expired_takes_no_room(clock: Clock) -> None:
    answers = MemoryAnswers(100, most_bytes=10, clock=clock)
    await answers.put(b"a", bytes(6), 1)
    clock.now += 1
    assert await answers.get(b"a") is None
    await answers.put(b"b", bytes(4), 60)
    await answers.put(b"c", bytes(6), 60)
    assert [await answers.get(key) for key in (b"b", b"c")] == [bytes(4), bytes(6)]


@pytest.mark.anyio
async def test_a_redis_that_is_not_there_holds_nothing_and_says_so() -> None:
    port = closed_port()
    async with redis_answers(f"redis://me:secret@127.0.0.1:{port}/0", pause=60) as answers:
        assert await answers.get(b"a") is None
        assert answers.trouble is not None
        assert answers.trouble.startswith(
            f"The answers cache at 127.0.0.1:{port} does not work, so every answer is computed: "
        )
        assert "secret" not in answers.trouble
        await answers.put(b"a", b"one", 60)
        assert await answers.get(b"a") is None


@pytest.mark.anyio
async def test_a_redis_that_hangs_is_waited_for_once() -> None:
    heard: list[bytes] = []
    hung = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))
        await hung.wait()
        writer.close()

    listener = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with redis_answers(f"redis://127.0.0.1:{port}", patience=0.05, pause=60) as answers:
        started = time.monotonic()
        together = [answers.get(bytes([n])) for n in range(10)]
        assert await asyncio.gather(*together) == [None] * 10
        assert answers.trouble is not None
        assert "does not reply in time" in answers.trouble
        asked = len(heard)
        for _ in range(1_000):
            assert await answers.get(b"a") is None
            await answers.put(b"a", b"one", 60)
        assert len(heard) == asked <= 11  # the watch asks as well
        assert time.monotonic() - started < 10  # a thousand times the patience would be 50
    hung.set()
    listener.close()
    await listener.wait_closed()


@pytest.mark.anyio
async def test_a_redis_that_comes_back_is_used_again(server: RedisServer) -> None:
    async with redis_answers(server.url) as answers:
        await answers.put(b"a", b"one", 60)
        server.stop()
        while not answers.trouble:
            await answers.get(b"a")
        server.start()
        await recovered(answers)
        assert await answers.get(b"a") is None
        await answers.put(b"a", b"two", 60)
        assert await answers.get(b"a") == b"two"


@pytest.mark.anyio
async def test_a_redis_that_ends_while_nobody_asks_is_known(server: RedisServer) -> None:
    async with redis_answers(server.url) as answers, asyncio.timeout(20):
        await answers.put(b"a", b"one", 60)
        server.stop()
        while not answers.trouble:  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.005)
        server.start()
        await recovered(answers)


@pytest.mark.anyio
async def test_a_redis_that_wakes_up_gives_no_reply_to_the_wrong_question(
    server: RedisServer,
) -> None:
    async with redis_answers(server.url, patience=0.5, pause=0.5) as answers:
        for key in (b"a", b"b"):
            await answers.put(key, key, 60)
        server.hang()
        try:
            assert await asyncio.gather(*map(answers.get, (b"a", b"b"))) == [None, None]
        finally:
            server.wake()
        await recovered(answers)
        assert [await answers.get(key) for key in (b"b", b"a")] == [b"b", b"a"]


@pytest.mark.anyio
async def test_what_redis_refuses_is_no_error(tmp_path: Path) -> None:
    with redis_at(tmp_path, "--requirepass", "right") as guarded:
        url = guarded.url.replace("//", "//:wrong@")
        async with redis_answers(url, pause=60) as answers:
            assert await answers.get(b"a") is None
            assert answers.trouble is not None
            assert ":wrong" not in answers.trouble
        async with redis_answers(guarded.url.replace("//", "//:right@")) as answers:
            await answers.put(b"a", b"one", 60)
            assert await answers.get(b"a") == b"one"


@pytest.mark.parametrize("url", ["http://h:secret@x", "redis://h:secret@x:port", "secret"])
def test_an_address_that_is_none_of_redis_is_refused_without_telling_secrets(url: str) -> None:
    with pytest.raises(StoreError, match="Expected TIMONEL_ANSWERS to be") as caught:
        RedisAnswers(url)
    assert "secret" not in str(caught.value)


def test_without_its_package_redis_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtra, match=r"timonel\[redis\]"):
        RedisAnswers("redis://127.0.0.1")


def test_a_missing_redis_server_is_a_failure_in_ci_and_a_skip_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception), redis_at(tmp_path):
        pass
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="apt-get install"), redis_at(tmp_path):
        pass
