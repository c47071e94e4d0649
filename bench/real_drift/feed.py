"""Rows asked one after the other over HTTP, at a rate that may be changed; their labels later."""

import http.client
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from timonel.simulate.cases import Case
from timonel.simulate.traffic import host_and_port

__all__ = ["Answered", "Feed"]

_PATIENCE = 60.0  # seconds for a reply
_CLIENTS = 4
_MOST_LABELS = 500  # in one request
_POST_SECONDS = 0.25


@dataclass(frozen=True)
class Answered:
    """What was answered to the row at `place`, `at` seconds since 1970, by which version."""

    place: int
    at: float
    version: str
    label: str


class Feed:
    """Asks all `cases` in their order, each once, and says each one's label `delay` seconds later.

    `rate` is in rows a second. `answered` grows in the order of the replies.
    """

    def __init__(
        self, address: str, project: str, cases: Sequence[Case], *, rate: float, delay: float
    ) -> None:
        self._where = host_and_port(address)
        self._project, self._cases, self._delay = project, cases, delay
        self.rate = rate
        self.answered: list[Answered] = []
        self.failed: Counter[str] = Counter()
        self.labels = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._next, self._due = 0, 0.0
        self._owed: deque[tuple[float, str, int | str]] = deque()
        self._clients = [threading.Thread(target=self._ask, daemon=True) for _ in range(_CLIENTS)]
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._due = time.monotonic()
        for thread in (*self._clients, self._teller):
            thread.start()

    @property
    def asked(self) -> int:
        """How many rows were asked so far."""
        return self._next

    @property
    def is_over(self) -> bool:
        """Whether every row was asked, and every label said."""
        return not self._teller.is_alive()

    def stop(self) -> None:
        """End early: what is on its way is answered, labels that are not due are not said."""
        self._stop.set()
        for thread in (*self._clients, self._teller):
            thread.join()

    def _take(self) -> tuple[int, float] | None:
        with self._lock:
            if self._stop.is_set() or self._next >= len(self._cases):
                return None
            # What a slow server missed is not made up for.
            self._due = max(self._due + 1 / self.rate, time.monotonic() - 1.0)
            self._next += 1
            return self._next - 1, self._due

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(*self._where, timeout=_PATIENCE)
        path, headers = f"/{self._project}/predict", {"Content-Type": "application/json"}
        while (taken := self._take()) is not None:
            place, due = taken
            time.sleep(max(0.0, due - time.monotonic()))
            case = self._cases[place]
            try:
                connection.request("POST", path, case.body, headers)
                reply = connection.getresponse()
                content = reply.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._fail(type(error).__name__)
                continue
            if reply.status != 200:
                self._fail(f"{reply.status} {content[:120].decode(errors='replace')}")
                continue
            (label,) = json.loads(content).values()
            version = str(reply.headers["X-Model-Version"])
            with self._lock:
                self.answered.append(Answered(place, time.time(), version, str(label)))
                owed = (time.monotonic() + self._delay, reply.headers["X-Prediction-Id"])
                self._owed.append((*owed, case.label))
        connection.close()

    def _fail(self, what: str) -> None:
        with self._lock:
            self.failed[what] += 1

    def _tell(self) -> None:
        connection = http.client.HTTPConnection(*self._where, timeout=_PATIENCE)
        path, headers = f"/{self._project}/feedback", {"Content-Type": "application/json"}
        while not self._stop.wait(_POST_SECONDS):
            asking = any(thread.is_alive() for thread in self._clients)
            while labels := self._due_labels():
                try:
                    connection.request("POST", path, json.dumps(labels), headers)
                    reply = connection.getresponse()
                    content = reply.read()
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    self._fail(f"feedback: {type(error).__name__}")
                    continue
                if reply.status == 202:
                    self.labels += len(labels)
                else:
                    self._fail(f"feedback: {reply.status} {content[:120].decode()}")
            if not asking and not self._owed:
                break
        connection.close()

    def _due_labels(self) -> list[dict[str, int | str]]:
        found: list[dict[str, int | str]] = []
        with self._lock:
            while self._owed and self._owed[0][0] <= time.monotonic():
                _, identifier, label = self._owed.popleft()
                found.append({"id": identifier, "label": label})
                if len(found) == _MOST_LABELS:
                    break
        return found
