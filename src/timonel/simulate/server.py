"""A server of a simulation's own: `timonel up` as a child, on a port that was free."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from timonel.errors import NotReady
from timonel.settings import Settings
from timonel.simulate.traffic import host_and_port

__all__ = ["is_ready", "own_server", "wait_ready"]

_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.25


@contextmanager
def own_server(project: str, settings: Settings) -> Iterator[str]:
    """The address of a server that is stopped at the end; it trains what has no version yet.

    `project` is a name or a path.

    Raises:
        NotReady: it did not start, with what it said.
    """
    log = settings.logs_folder / "simulate-server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "timonel", "up", project, "--port", "0", "--json"]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command,
            env=_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the simulation, which stops it
            text=True,
        )
    try:
        line = process.stdout.readline() if process.stdout else ""
        try:
            address = str(json.loads(line)["address"])
        except (ValueError, KeyError, TypeError):
            raise NotReady(
                f"Expected a server of {project}, got none.", remedy=f"See its log: {log}"
            ) from None
        # A pipe that nobody reads would stop it in the end.
        threading.Thread(target=_drain, args=(process,), daemon=True).start()
        yield address
    finally:
        _stop(process)


def is_ready(address: str) -> bool:
    """Whether every model that is served answers."""
    connection = http.client.HTTPConnection(*host_and_port(address), timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_ready(address: str, seconds: float, stopped: Callable[[], bool]) -> None:
    """Return when every model answers, or when `stopped` says so.

    Raises:
        NotReady: it takes longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not is_ready(address) and not stopped():
        if time.monotonic() > deadline:
            raise NotReady(
                f"Expected {address} to answer within {seconds:,.0f} s, got a server that is not "
                "ready.",
                remedy="See what it lacks: timonel doctor",
            )
        time.sleep(_POLL_SECONDS)


def _environment(settings: Settings) -> dict[str, str]:
    """The shell's variables, without those that would name other stores than the settings do."""
    others = ("TIMONEL_", "MLFLOW_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return kept | settings.environment_variables()


def _drain(process: "subprocess.Popen[str]") -> None:
    for _ in process.stdout or ():
        pass


def _stop(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout:
        process.stdout.close()
