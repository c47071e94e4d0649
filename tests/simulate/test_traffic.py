"""Traffic keeps its rate and its bounds, counts what failed, and tells labels when they are due."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from timonel.errors import BadRequest
from timonel.simulate.cases import Case
from timonel.simulate.traffic import Counts, Feedback, Flow, Traffic, host_and_port

CASES = [Case(json.dumps({"n": n}).encode(), n) for n in range(3)]
MOVED = [Case(b'{"n": 99}', 99)]


class Stub:
    """A server that answers as it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.labels: list[tuple[float, Any]] = []
        self.failing = False
        self.refuses = False
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/boats/feedback":
                    stub.labels += [(time.monotonic(), one) for one in body]
                    self.reply(422 if stub.refuses else 202)
                    return
                stub.asked.append(body["n"])
                self.reply(503 if stub.failing else 200)

            def reply(self, status: int) -> None:
                self.send_response(status)
                self.send_header("X-Prediction-Id", f"id-{len(stub.asked)}")
                self.send_header("X-Model-Version", "boats/a@1, boats/b@2")
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"null")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


def run(stub: Stub, flow: Flow, **given: Any) -> tuple[Traffic, Counts]:
    traffic = Traffic(stub.address, "boats", CASES, flow, **given)
    traffic.start()
    traffic.join()
    return traffic, traffic.counts()


def test_it_asks_so_many_requests_one_case_after_the_other(stub: Stub) -> None:
    traffic, counts = run(stub, Flow(rate=1_000, requests=30, clients=3))
    assert sorted(stub.asked) == sorted([0, 1, 2] * 10)
    assert (counts.requests, counts.answered, counts.failures) == (30, 30, 0)
    assert counts.versions == {"boats/a@1": 30, "boats/b@2": 30}
    assert traffic.drifts_since is None


def test_it_ends_after_its_seconds_at_its_rate(stub: Stub) -> None:
    began = time.monotonic()
    _, counts = run(stub, Flow(rate=50, seconds=0.6))
    assert 0.5 < time.monotonic() - began < 10
    assert 1 <= counts.requests <= 30


def test_the_drift_begins_after_its_share(stub: Stub) -> None:
    traffic, _ = run(stub, Flow(rate=2_000, requests=100, after=0.4, clients=1), drifted=MOVED)
    assert stub.asked.index(99) == 40
    assert stub.asked.count(99) == 60
    assert traffic.drifts_since is not None


def test_what_fails_is_counted_by_what_it_said(stub: Stub) -> None:
    stub.failing = True
    _, counts = run(stub, Flow(rate=1_000, requests=5), feedback=Feedback(share=1))
    assert counts.failed == {"503 null": 5}
    assert (counts.answered, counts.labels) == (0, 0)
    stub.server.shutdown()
    stub.server.server_close()
    _, counts = run(stub, Flow(rate=1_000, requests=2))
    assert counts.failures == 2


def test_labels_are_told_when_they_are_due(stub: Stub) -> None:
    began = time.monotonic()
    flow = Flow(rate=40, seconds=1.5, clients=1)
    _, counts = run(stub, flow, feedback=Feedback(share=1, delay=0.6))
    assert 0 < counts.labels <= counts.answered
    assert stub.labels[0][0] - began >= 0.6
    assert stub.labels[0][1] == {"id": "id-1", "label": 0}


def test_a_share_of_the_labels_is_told_and_refusals_are_no_failed_requests(stub: Stub) -> None:
    flow = Flow(rate=2_000, requests=200)
    _, counts = run(stub, flow, feedback=Feedback(share=0.3))
    assert 30 < counts.labels < 90
    stub.refuses = True
    _, counts = run(stub, flow, feedback=Feedback(share=0.3))
    assert (counts.labels, counts.failures) == (0, 0)
    assert list(counts.refused) == ["422 null"]


def test_it_stops_when_it_is_told_to(stub: Stub) -> None:
    traffic = Traffic(stub.address, "boats", CASES, Flow(rate=100, seconds=3_600))
    traffic.start()
    time.sleep(0.1)
    traffic.stop()
    assert traffic.is_over
    assert traffic.counts().requests < 1_000


@pytest.mark.parametrize(
    "address", ["http://example.org", "https://127.0.0.1:1", "ftp://localhost", "http://[::", ""]
)
def test_only_this_machine_is_asked(address: str) -> None:
    with pytest.raises(BadRequest, match="on this machine"):
        host_and_port(address)


def test_addresses_of_this_machine() -> None:
    assert host_and_port("http://127.0.0.1:8000") == ("127.0.0.1", 8000)
    assert host_and_port("http://localhost") == ("localhost", 80)
    assert host_and_port("http://[::1]:9") == ("::1", 9)
