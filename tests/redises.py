"""A Redis of the tests' own, which can be stopped, hung and started again."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["RedisServer", "closed_port", "redis_at"]


def closed_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """`redis-server` on a port of its own; it keeps nothing on disk."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        for _ in range(5):  # somebody else may take the port in between
            self.port = closed_port()
            if self._started():
                return
        raise AssertionError(f"redis-server does not start; see {folder / 'redis.log'}")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start again on the same port, empty."""
        assert self._started()

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """Accept connections, and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _started(self) -> bool:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self._folder), "--save", "", "--logfile", "redis.log"]
        self._process = subprocess.Popen([*command, *self._options])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 20) as client:
                    client.sendall(b"PING\r\n")
                    if client.recv(1):
                        return True
            except OSError:
                time.sleep(0.01)
        self.stop()
        return False


@contextmanager
def redis_at(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A server; a skip where there is none to be had, and a failure in CI."""
    if shutil.which("redis-server") is None:
        reason = "no redis-server here; on Debian: apt-get install redis-server"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = RedisServer(folder, *options)
    try:
        yield server
    finally:
        server.stop()
