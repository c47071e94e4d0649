"""What a worker and its supervisor say to each other."""

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.serving.processes import until
from timonel.errors import NotReady
from timonel.serving.channel import AskRun, Link, RunReply, Serves, SupervisorEnd


class Pair:
    """Both ends; what was asked is kept."""

    def __init__(self) -> None:
        mine, theirs = socket.socketpair()
        self.asked: list[tuple[AskRun, Callable[[RunReply], None]]] = []
        self.end = SupervisorEnd(mine, lambda ask, reply: self.asked.append((ask, reply)))
        self.link = Link(theirs)

    async def next_asked(self) -> tuple[AskRun, Callable[[RunReply], None]]:
        for _ in range(500):
            if self.asked:
                return self.asked.pop(0)
            await asyncio.sleep(0.01)
        raise TimeoutError


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.end.close()


def test_a_worker_tells_when_it_is_ready_and_what_it_serves(pair: Pair) -> None:
    said = Serves(("a/b@1", "a/c@2"), ("a/b@1", "a/b@2", "a/c@2"), {"a/b@3": "it is bad"})

    async def talk() -> None:
        await pair.link.open()
        pair.link.say_ready()
        pair.link.say_serves(said)
        await pair.link.close()

    asyncio.run(talk())
    assert pair.end.ready.wait(5)
    until(lambda: pair.end.serves == said)


def test_each_reply_reaches_who_asked_in_whatever_order_they_come(pair: Pair) -> None:
    async def talk() -> list[RunReply]:
        await pair.link.open()
        waiting = [
            asyncio.create_task(pair.link.run(name, wait=True)) for name in ("first", "second")
        ]
        for ask, reply in [await pair.next_asked(), await pair.next_asked()][::-1]:
            reply(RunReply(ask.ticket, 200, ask.project))
        replies = [await task for task in waiting]
        await pair.link.close()
        return replies

    assert [reply.sentence for reply in asyncio.run(talk())] == ["first", "second"]


def test_the_end_of_the_supervisor_is_said_to_all_who_wait(pair: Pair) -> None:
    async def talk() -> None:
        await pair.link.open()
        waiting = asyncio.create_task(pair.link.run("penguins", wait=True))
        await pair.next_asked()
        pair.end.close()
        with pytest.raises(NotReady, match="stopping"):
            await waiting
        with pytest.raises(NotReady, match="Nobody"):
            await pair.link.run("penguins", wait=True)
        await pair.link.close()

    asyncio.run(talk())


def test_a_worker_without_a_supervisor_says_how_to_train() -> None:
    async def talk() -> None:
        link = Link()
        await link.open()
        link.say_ready()
        with pytest.raises(NotReady, match="timonel run penguins"):
            await link.run("penguins", wait=False)
        await link.close()

    asyncio.run(talk())


def test_a_worker_that_dies_in_the_middle_of_a_line_ends_the_conversation() -> None:
    mine, theirs = socket.socketpair()
    end = SupervisorEnd(mine, lambda ask, reply: None)
    theirs.sendall(b'{"type":"ready"}\n{"type":"ser')
    theirs.close()
    assert end.ready.wait(5)
    end.close()
    assert end.serves == Serves()
    end.reply(RunReply(1, 200, "nobody hears it"))


def test_what_nobody_waits_for_any_more_is_dropped(pair: Pair) -> None:
    async def talk() -> None:
        await pair.link.open()
        waiting = asyncio.create_task(pair.link.run("penguins", wait=True))
        ask, reply = await pair.next_asked()
        waiting.cancel()
        await asyncio.sleep(0)
        reply(RunReply(ask.ticket, 200, "too late"))
        await asyncio.sleep(0.05)
        await pair.link.close()

    asyncio.run(talk())
