"""Servers as processes of their own, and traffic that notes what was acknowledged."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

from timonel.serving.supervisor import Supervisor
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

__all__ = ["ROW", "Server", "Traffic", "alive", "connect", "journaled", "serving", "until"]

ROW = {"bill_length_mm": 20, "bill_depth_mm": 40, "flipper_length_mm": 200, "body_mass_g": 4000}


def until(true: Callable[[], bool], seconds: float = 20.0) -> float:
    """Wait for a condition; returns the seconds it took, or fails."""
    started = time.monotonic()
    while not true():
        waited = time.monotonic() - started
        assert waited < seconds, f"waited {seconds} s in vain"
        time.sleep(0.01)
    return time.monotonic() - started


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def connect(address: str) -> http.client.HTTPConnection:
    """A new connection to a server."""
    where = urlsplit(address)
    return http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)


class Server:
    """`timonel serve` in a process."""

    def __init__(self, names: Sequence[str], settings: Settings, *, workers: int = 2) -> None:
        self.settings = settings
        self.errors = settings.root / "stderr.txt"
        self.errors.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "timonel", "serve", *names, "--port", "0", "--json"]
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                [*command, "--workers", str(workers)],
                env=os.environ | settings.environment_variables(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        line = self.process.stdout.readline() if self.process.stdout else ""
        assert line, self.errors.read_text()
        self.address = json.loads(line)["address"]
        self.workers = workers
        until(lambda: len(self.started()) == workers)

    def send(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of the reply, over a connection of its own."""
        connection = connect(self.address)
        try:
            connection.request(method, path, body, {"Content-Type": kind} if body else {})
            reply = connection.getresponse()
            headers = {name.lower(): value for name, value in reply.getheaders()}
            return reply.status, reply.read(), headers
        finally:
            connection.close()

    def predict(self, path: str = "/predict") -> tuple[int, bytes, dict[str, str]]:
        """The reply to a penguin."""
        return self.send("POST", path, json.dumps(ROW).encode())

    def health(self) -> tuple[int, dict[str, object]]:
        """Status and body of /health."""
        status, body, _ = self.send("GET", "/health")
        return status, json.loads(body)

    def children(self) -> list[int]:
        """The workers' processes."""
        found = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
        )
        rows = [line.split() for line in found.stdout.splitlines()]
        return [
            int(pid)
            for pid, parent, status in rows
            if int(parent) == self.process.pid and not status.startswith("Z")
        ]

    def started(self) -> list[int]:
        """The workers that are about to answer, or do: those whose metrics are there."""
        folder = self.settings.serving_folder / f"metrics-{self.process.pid}"
        return [pid for pid in self.children() if (folder / f"gauge_sum_{pid}.db").exists()]

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        """Signal it and wait; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout)
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def said(self) -> str:
        """What it and its workers wrote to stderr."""
        return self.errors.read_text()


@contextmanager
def serving(names: Sequence[str], settings: Settings, *, workers: int = 2) -> Iterator[Server]:
    """A server that is stopped at the end, whatever happens."""
    server = Server(names, settings, workers=workers)
    try:
        yield server
    finally:
        children = server.children()
        server.stop()
        for pid in children:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


class Traffic:
    """Clients that ask, `pause` seconds apart; acknowledged ids and failures are kept.

    With `fresh`, each request comes over a connection of its own.
    """

    def __init__(
        self,
        server: Server | Supervisor,
        path: str = "/predict",
        clients: int = 3,
        row: object = ROW,
        pause: float = 0.0,
        fresh: bool = False,
    ) -> None:
        self._fresh = fresh
        self.acknowledged: list[tuple[str, str]] = []
        self.refused: list[int] = []
        self.broken = 0
        self._address = server.address
        self._path = path
        self._body = json.dumps(row)
        self._pause = pause
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def versions(self) -> set[str]:
        """The versions that answered."""
        return {version for _, version in self.acknowledged}

    def _ask(self) -> None:
        connection = connect(self._address)
        while not self._stop.is_set():
            try:
                connection.request("POST", self._path, self._body)
                reply = connection.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException):
                self.broken += 1
                connection.close()
                time.sleep(0.005)
                continue
            if reply.status == 200:
                headers = reply.headers
                self.acknowledged.append((headers["X-Prediction-Id"], headers["X-Model-Version"]))
            else:
                self.refused.append(reply.status)
            if self._fresh:
                connection.close()
            self._stop.wait(self._pause)
        connection.close()


def journaled(settings: Settings, project: str = "penguins") -> list[str]:
    """The ids of all exported segments, after a server has stopped."""
    import polars as pl

    objects = ObjectStore.open(settings.objects_url)
    listed = Segments(Database.open(settings.database_url)).list(project)
    frames = [pl.read_parquet(BytesIO(objects.get(s.object_key))) for s in listed]
    return [str(id_) for frame in frames for id_ in frame["id"].to_list()]
