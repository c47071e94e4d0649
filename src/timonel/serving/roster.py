"""Who serves a home: one small file, written by the supervisor whenever something changes.

Workers read it, so that any of them can tell how all of them fare; commands read it to know whom
to ask, and when what they asked for is done. A lock beside it lives as long as the supervisor:
what a killed one left is never taken for one that runs.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from timonel.errors import Busy

__all__ = ["Report", "Roster", "Swap", "owning", "read_roster", "running", "write_roster"]

_TAKEN_SECONDS = 1.0  # those who only look hold the lock for a moment


class Report(msgspec.Struct, frozen=True):
    """How one worker fares.

    `serves` are the versions that its requests go to, `loaded` all that it holds ready, `failed`
    those that it cannot load with the reason. `trouble` says why there is no worker at all.
    """

    number: int
    pid: int | None = None
    is_ready: bool = False
    serves: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    failed: dict[str, str] = {}
    trouble: str = ""


class Swap(msgspec.Struct, frozen=True):
    """How often a model's champion changed since the server began, by `kind`."""

    project: str
    model: str
    kind: str
    count: int


class Roster(msgspec.Struct, frozen=True):
    """The whole file.

    `models` are those that the server knows, as "digits/cnn". `restarts` counts the rolling
    restarts that ended; `trouble` says why the last one did not replace every worker.
    """

    pid: int
    address: str
    models: tuple[str, ...] = ()
    workers: tuple[Report, ...] = ()
    swaps: tuple[Swap, ...] = ()
    restarts: int = 0
    trouble: str = ""

    def ready(self) -> list[Report]:
        """The workers that answer."""
        return [worker for worker in self.workers if worker.is_ready]

    def troubles(self) -> list[str]:
        """Sentences on what is not as it should be, over all workers."""
        found = [worker.trouble for worker in self.workers if worker.trouble]
        failed = [sentence for worker in self.workers for sentence in worker.failed.values()]
        return list(dict.fromkeys([*found, *failed, *([self.trouble] if self.trouble else [])]))


def _path(serving_folder: Path) -> Path:
    return serving_folder / "server.json"


def read_roster(serving_folder: Path) -> Roster | None:
    """What the supervisor said last, also one that was killed since; None without any."""
    try:
        return msgspec.json.decode(_path(serving_folder).read_bytes(), type=Roster)
    except (OSError, msgspec.MsgspecError):
        return None


def running(serving_folder: Path) -> Roster | None:
    """What the supervisor that serves this home says of itself; None when there is none."""
    try:
        descriptor = os.open(serving_folder / "server.lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _lock(descriptor, fcntl.LOCK_SH) else read_roster(serving_folder)
    finally:
        os.close(descriptor)


def write_roster(serving_folder: Path, roster: Roster) -> None:
    """Replace the file as a whole, so that no reader sees half of it."""
    draft = serving_folder / f"server.{os.getpid()}.tmp"
    draft.write_bytes(msgspec.json.encode(roster))
    draft.replace(_path(serving_folder))


@contextmanager
def owning(serving_folder: Path) -> Iterator[None]:
    """Be the one supervisor of a home.

    Raises:
        Busy: another is, naming its process and address.
    """
    serving_folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(serving_folder / "server.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + _TAKEN_SECONDS
        while not _lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise _taken(serving_folder)
            time.sleep(0.02)
        _path(serving_folder).unlink(missing_ok=True)
        yield
        _path(serving_folder).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _taken(serving_folder: Path) -> Busy:
    other = read_roster(serving_folder)
    who = f"process {other.pid} at {other.address}" if other else "another process"
    return Busy(
        f"Expected a home that nobody serves, got {serving_folder.parent}, which {who} serves.",
        remedy="Serve all projects of a home with one command, stop the other, or give this one "
        "a home of its own with --home.",
    )
