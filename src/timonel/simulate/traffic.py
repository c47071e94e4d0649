"""Requests over HTTP at a steady rate, and the true labels of some of them, a while later."""

import heapq
import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from timonel.errors import BadRequest
from timonel.settings import is_loopback
from timonel.simulate.cases import Case

__all__ = ["Counts", "Feedback", "Flow", "Traffic", "host_and_port"]

_PATIENCE = 20.0  # seconds for one reply
_POST_SECONDS = 0.25
_MOST_LABELS = 500  # in one request
_PAUSE = 0.05  # before a client whose connection broke makes another
_CATCH_UP = 1.0  # seconds of requests that are asked late rather than not at all


def host_and_port(address: str) -> tuple[str, int]:
    """The host and port of a server on this machine.

    Raises:
        BadRequest: it is no such address.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    if parts.scheme != "http" or not is_loopback(host):
        raise BadRequest(
            f"Expected the address of a server on this machine, got {address}.",
            remedy="Made-up traffic belongs on test servers: --url http://127.0.0.1:8000",
        )
    return host, port


@dataclass(frozen=True, kw_only=True)
class Flow:
    """How much is asked: `rate` requests a second, until `seconds` or `requests` have passed.

    After the share `after` (0..1) of them the drifted cases are asked. `clients` connections ask at
    once; a server that answers more slowly than `rate` is asked less.
    """

    rate: float = 50.0
    seconds: float = 60.0
    requests: int | None = None
    after: float = 0.3
    clients: int = 4


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """The share (0..1) of the requests whose true label is told, `delay` seconds later."""

    share: float = 0.0
    delay: float = 0.0


@dataclass(frozen=True)
class Counts:
    """What came of the requests so far; `failed` counts replies other than 200 by what they said.

    `versions` counts requests by the version that answered, `labels` those that were taken and
    `refused` the posts of labels that were not.
    """

    requests: int = 0
    answered: int = 0
    labels: int = 0
    seconds: float = 0.0
    versions: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)

    @property
    def failures(self) -> int:
        """The requests that failed."""
        return sum(self.failed.values())


class Traffic:
    """Asks a project's cases on threads of its own until its end, or until it is stopped."""

    def __init__(
        self,
        address: str,
        project: str,
        cases: Sequence[Case],
        flow: Flow,
        *,
        drifted: Sequence[Case] = (),
        feedback: Feedback | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._where = host_and_port(address)
        self._project = project
        self._cases = cases
        self._drifted = drifted
        self._flow = flow
        self._feedback = feedback or Feedback()
        self._rng = random.Random(seed)  # noqa: S311 (whom to label is no secret)
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._next = self._issued = 0
        self._began = clock()
        self._drifts_since: float | None = None
        self._answered = self._labels = 0
        self._versions: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._owed: list[tuple[float, int, str, int | str]] = []
        self._order = itertools.count()
        self._threads = [
            threading.Thread(target=self._ask, name=f"timonel-traffic-{n}", daemon=True)
            for n in range(flow.clients)
        ]
        self._teller = threading.Thread(target=self._tell, name="timonel-labels", daemon=True)
        self._asked = threading.Event()  # nobody asks any more

    def start(self) -> None:
        """Begin to ask."""
        self._began = self._clock()
        for thread in (*self._threads, self._teller):
            thread.start()

    def stop(self) -> None:
        """End after the requests that are on their way; returns when they are answered."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait for the last reply, and for the labels that are due by then."""
        for thread in self._threads:
            thread.join()
        self._asked.set()
        self._teller.join()

    @property
    def is_over(self) -> bool:
        """Whether everything was asked."""
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def drifts_since(self) -> float | None:
        """When the first drifted case was asked, in seconds since the start; None until then."""
        return self._drifts_since

    def counts(self) -> Counts:
        """What came of it so far."""
        with self._lock:
            return Counts(
                self._answered + sum(self._failed.values()),
                self._answered,
                self._labels,
                self._clock() - self._began,
                dict(self._versions),
                dict(self._failed),
                dict(self._refused),
            )

    def _due(self) -> tuple[float, Case] | None:
        """When the next request is to be made, and what it asks; None at the end."""
        with self._lock:
            flow, late = self._flow, self._clock() - self._began
            if late > self._next / flow.rate + _CATCH_UP:
                self._next = int(late * flow.rate)  # what was missed is not made up for
            due = self._next / flow.rate
            done = due / flow.seconds
            if flow.requests is not None:
                done = max(done, self._issued / flow.requests)
            if self._stop.is_set() or done >= 1:
                return None
            cases = self._cases
            if self._drifted and done >= flow.after:
                cases = self._drifted
                if self._drifts_since is None:
                    self._drifts_since = max(due, late)
            case = cases[self._issued % len(cases)]
            self._next += 1
            self._issued += 1
            return self._began + due, case

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(*self._where, timeout=_PATIENCE)
        path, headers = f"/{self._project}/predict", {"Content-Type": "application/json"}
        while (due := self._due()) is not None:
            moment, case = due
            if self._stop.wait(max(0.0, moment - self._clock())):
                break
            try:
                connection.request("POST", path, case.body, headers)
                reply = connection.getresponse()
                content = reply.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._fail(type(error).__name__)
                self._stop.wait(_PAUSE)
                continue
            if reply.status == 200:
                said = reply.headers
                self._note(said["X-Prediction-Id"], said["X-Model-Version"], case)
            else:
                self._fail(f"{reply.status} {content[:120].decode(errors='replace')}")
        connection.close()

    def _note(self, identifier: str, versions: str, case: Case) -> None:
        with self._lock:
            self._answered += 1
            self._versions.update(versions.split(", "))
            if self._rng.random() < self._feedback.share:
                due = self._clock() + self._feedback.delay
                heapq.heappush(self._owed, (due, next(self._order), identifier, case.label))

    def _fail(self, what: str) -> None:
        with self._lock:
            self._failed[what] += 1

    def _tell(self) -> None:
        connection = http.client.HTTPConnection(*self._where, timeout=_PATIENCE)
        while True:
            is_last = self._asked.wait(_POST_SECONDS)
            while labels := self._due_labels():
                if not self._post(connection, labels):
                    break
            if is_last:
                connection.close()
                return

    def _due_labels(self) -> list[dict[str, int | str]]:
        now = self._clock()
        found: list[dict[str, int | str]] = []
        with self._lock:
            while self._owed and self._owed[0][0] <= now and len(found) < _MOST_LABELS:
                _, _, identifier, label = heapq.heappop(self._owed)
                found.append({"id": identifier, "label": label})
        return found

    def _post(
        self, connection: http.client.HTTPConnection, labels: Sequence[dict[str, int | str]]
    ) -> bool:
        path, headers = f"/{self._project}/feedback", {"Content-Type": "application/json"}
        try:
            connection.request("POST", path, json.dumps(labels), headers)
            reply = connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._owe_again(labels)  # saying them twice changes nothing
            return self._refuse(type(error).__name__)
        if reply.status // 100 != 2:
            return self._refuse(f"{reply.status} {content[:120].decode(errors='replace')}")
        with self._lock:
            self._labels += len(labels)
        return True

    def _owe_again(self, labels: Sequence[dict[str, int | str]]) -> None:
        with self._lock:
            due = self._clock()
            for one in labels:
                owed = (due, next(self._order), str(one["id"]), one["label"])
                heapq.heappush(self._owed, owed)

    def _refuse(self, what: str) -> bool:
        with self._lock:
            self._refused[what] += 1
        return False
