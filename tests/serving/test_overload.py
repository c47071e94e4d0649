"""Ten times what a server can answer: it answers what it can, and says so to the rest at once."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.homes import deploy_digits, home_at, tiny_digits
from tests.serving.processes import Server, serving, until
from timonel.settings import Settings

DEADLINE = 30.0  # seconds; generous, for other work may share the machine
FACTOR = 10
CONNECTIONS = 1_000
LARGE = 400_000  # bytes of every twentieth body


def slowed(content: bytes, rounds: int) -> bytes:
    """The same model, which first multiplies so many matrices of zeros for each row."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(content)
    graph = model.graph
    given = graph.input[0].name
    inside = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["went"]),
            helper.make_node("MatMul", ["matrix", "slow_weights"], ["product"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [256, 256]),
        ],
        [
            helper.make_tensor_value_info("went", TensorProto.BOOL, []),
            helper.make_tensor_value_info("product", TensorProto.FLOAT, [256, 256]),
        ],
    )
    constants: dict[str, Any] = {
        "slow_weights": np.zeros((256, 256), np.float32),
        "slow_zero": np.zeros((), np.float32),
        "slow_rounds": np.array(rounds, np.int64),
        "slow_go": np.array(True),
        "slow_first": np.array(0, np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == given:
                node.input[i] = "slow_given"
    slow = [
        helper.make_node("Shape", [given], ["slow_shape"]),
        helper.make_node("Gather", ["slow_shape", "slow_first"], ["slow_rows"]),
        helper.make_node("Mul", ["slow_rows", "slow_rounds"], ["slow_turns"]),
        helper.make_node("ReduceSum", [given], ["slow_sum"], keepdims=0),
        helper.make_node("Mul", ["slow_sum", "slow_zero"], ["slow_nothing"]),
        helper.make_node("Add", ["slow_weights", "slow_nothing"], ["slow_begin"]),
        helper.make_node(
            "Loop", ["slow_rounds", "slow_go", "slow_begin"], ["slow_end"], body=inside
        ),
        helper.make_node("ReduceSum", ["slow_end"], ["slow_add"], keepdims=0),
        helper.make_node("Add", [given, "slow_add"], ["slow_given"]),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*slow, *rest])
    return bytes(model.SerializeToString())


@dataclass
class Told:
    """What a client saw: statuses, and the seconds until each."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    without_advice: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    unsent: int = 0

    def add(self, status: int, seconds: float, head: bytes) -> None:
        self.seconds.setdefault(status, []).append(seconds)
        if status in (429, 503) and b"retry-after" not in head:
            self.without_advice += 1

    def count(self, *statuses: int) -> int:
        return sum(len(self.seconds.get(status, ())) for status in statuses)

    def quantile(self, share: float, *statuses: int) -> float:
        found = sorted(s for status in statuses for s in self.seconds.get(status, ())) or [0.0]
        return found[min(len(found) - 1, int(share * len(found)))]


class Crowd:
    """Clients that ask at a rate, whatever they are told; connections are kept and used again."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.removeprefix("http://").partition(":")
        self._port = int(port)
        body = json.dumps({"pixels": [0] * 784}).encode()
        self._requests = [self._request(body), self._request(body + b" " * LARGE)]
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.asked = 0

    def _request(self, body: bytes) -> bytes:
        head = (
            "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"X-Request-Timeout: {DEADLINE:g}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def ask(self, told: Told) -> None:
        self.asked += 1
        request = self._requests[self.asked % 20 == 0]
        started = time.monotonic()
        try:
            head = await self._exchange(request)
        except (OSError, EOFError) as error:
            told.broken[repr(error)] += 1
            return
        told.add(int(head[9:12]), time.monotonic() - started, head)

    async def _exchange(self, request: bytes) -> bytes:
        """The head of the reply, in lower case.

        A connection that was kept may be ended by the server, which has waited enough, at the very
        moment when it is used again: then the request goes over a new one, as clients do.
        """
        while self._idle:
            reader, writer = self._idle.pop()
            try:
                return await self._over(reader, writer, request)
            except (OSError, asyncio.IncompleteReadError) as error:
                if getattr(error, "partial", b""):
                    raise
        return await self._over(*await asyncio.open_connection(self._host, self._port), request)

    async def _over(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> bytes:
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
            await writer.drain()
        except BaseException:
            writer.close()
            raise
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return head

    async def closed_loop(self, clients: int, seconds: float) -> Told:
        """Each client asks anew when it was answered."""
        told, until_ = Told(), time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < until_:
                await self.ask(told)

        await asyncio.gather(*(client() for _ in range(clients)))
        return told

    async def open_loop(self, rate: float, seconds: float) -> Told:
        """So many ask each second, as long as there are connections to be had."""
        told, tasks = Told(), set[asyncio.Task[None]]()
        started, begun = time.monotonic(), 0
        while begun < int(rate * seconds):
            passed = min(seconds, time.monotonic() - started)
            due = int(rate * passed) - begun
            begun += due
            for _ in range(due):
                if len(tasks) >= CONNECTIONS:
                    told.unsent += 1
                    continue
                task = asyncio.create_task(self.ask(told))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.01)
        self.left = set(tasks)
        return told

    async def end(self) -> None:
        for task in self.left:
            task.cancel()
        await asyncio.gather(*self.left, return_exceptions=True)
        for _, writer in self._idle:
            writer.close()


def memory(pids: list[int]) -> float:
    """Megabytes that processes hold in memory."""
    kilobytes = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return kilobytes / 1_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = home_at(tmp_path, max_waiting=40)
    deploy_digits(settings, slowed(tiny_digits().content, 20), tiny_digits().binding)
    return settings


@pytest.fixture
def server(settings: Settings) -> Iterator[Server]:
    with serving(["digits"], settings) as server:
        yield server


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.soak
def test_ten_times_too_much_is_answered_as_far_as_it_can_be_and_refused_beyond(
    server: Server,
) -> None:
    asyncio.run(_overload(server, 60.0))


async def _overload(server: Server, seconds: float) -> None:
    workers = server.started()
    crowd = Crowd(server.address)
    await crowd.closed_loop(8, 1)
    steady = await crowd.closed_loop(8, 5)
    assert set(steady.seconds) == {200}, Counter({k: len(v) for k, v in steady.seconds.items()})
    capacity = steady.count(200) / 5
    before, most = memory(workers), 0.0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, memory(workers))
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    told = await crowd.open_loop(FACTOR * capacity, seconds)
    over = time.monotonic()
    late = Told()
    while not late.count(200):  # until one is let in again, and answered
        await crowd.ask(late)
    recovery = time.monotonic() - over
    _, waiting = await asyncio.wait(crowd.left, timeout=2 * DEADLINE)
    after = await crowd.closed_loop(4, 2)
    watching.cancel()
    await crowd.end()

    answered, refused = told.count(200), told.count(429, 503)
    said = (
        f"{capacity:.0f}/s answered steadily; under {FACTOR} times that for {seconds:.0f} s: "
        f"{answered} answered (median {told.quantile(0.5, 200):.2f} s, "
        f"p99 {told.quantile(0.99, 200):.2f} s), {refused} refused "
        f"(median {told.quantile(0.5, 429, 503):.3f} s), {told.unsent} not sent, "
        f"memory {before:.0f} to {most:.0f} MB, recovered in {recovery:.2f} s"
    )
    print(said)  # noqa: T201
    assert set(told.seconds) <= {200, 429, 503}, said
    assert (told.broken, told.without_advice, waiting) == (Counter(), 0, set()), said
    assert refused > answered > 0, said
    assert told.quantile(0.99, 200) < DEADLINE, said
    # At once: not after those that wait. Beside other work the clients themselves are slow.
    assert told.quantile(0.5, 429, 503) < told.quantile(0.5, 200) / 2, said
    # Two workers may hold 64 MB of bodies each, and parse some of it.
    assert most < before + 300, said
    assert recovery < 5, said
    assert set(after.seconds) == {200}, said
    assert server.started() == workers, said
    until(lambda: "Requests are refused" not in str(server.health()))
