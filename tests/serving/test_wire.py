"""Connections whose heads do not end, or do not come."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from timonel.serving.wire import BoundedProtocol

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    headers = [(b"content-length", b"%d" % len(message["body"]))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": message["body"]})


@contextlib.asynccontextmanager
async def connected(seconds: float = 30.0) -> AsyncIterator[Any]:
    class Protocol(BoundedProtocol):
        most_seconds = seconds

    config = uvicorn.Config(app, http=Protocol, lifespan="off", access_log=False)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()
        await asyncio.sleep(0.01)


async def reply(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    return head


def test_a_head_that_is_too_large_is_refused() -> None:
    async def send() -> bytes:
        async with connected() as (reader, writer):
            writer.write(HEAD + b"X: " + b"x" * 70_000)
            return await reply(reader)

    assert asyncio.run(send()).startswith(b"HTTP/1.1 431 ")


def test_a_head_without_an_end_does_not_fill_the_memory() -> None:
    async def send() -> int:
        async with connected() as (reader, writer):
            writer.write(HEAD + b"X: ")
            sent = 0
            with contextlib.suppress(OSError):
                while sent < 50_000_000 and not reader.at_eof():
                    writer.write(b"x" * 10_000)
                    sent += 10_000
                    await writer.drain()
                    await asyncio.sleep(0)
            return sent

    assert asyncio.run(send()) < 50_000_000


@pytest.mark.parametrize("begin", [b"", b"POST / HT", HEAD])
def test_a_head_that_does_not_come_ends_the_connection(begin: bytes) -> None:
    async def send() -> bytes:
        async with connected(0.05) as (reader, writer):
            writer.write(begin)
            return bytes(await asyncio.wait_for(reader.read(), 10))

    assert asyncio.run(send()) == b""


def test_a_later_head_that_stops_coming_ends_the_connection_too() -> None:
    async def send() -> bytes:
        async with connected(0.05) as (reader, writer):
            writer.write(HEAD + b"\r\nok")
            assert b" 200 " in await reply(reader)
            writer.write(HEAD)
            return bytes(await asyncio.wait_for(reader.read(), 10))

    assert asyncio.run(send()) == b""


def test_requests_in_pieces_large_bodies_and_several_at_once_are_answered() -> None:
    async def send() -> list[bytes]:
        async with connected() as (reader, writer):
            heads = []
            for piece in (HEAD[:5], HEAD[5:30], HEAD[30:], b"\r\n", b"o", b"k"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.005)
            heads.append(await reply(reader))
            large = HEAD.replace(b": 2", b": 300000") + b"\r\n" + b"x" * 300_000
            writer.write(large)
            heads.append(await reply(reader))
            writer.write((HEAD + b"\r\nok") * 2_000)
            heads += [await reply(reader) for _ in range(2_000)]
            return heads

    heads = asyncio.run(send())
    assert len(heads) == 2_002
    assert all(head.startswith(b"HTTP/1.1 200 ") for head in heads)
