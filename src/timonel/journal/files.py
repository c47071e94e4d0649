"""The journal's files on disk: what their names say, and the lock that says the writer lives.

`<boot>-<worker>-<sequence>` with the suffix `.open` while a worker appends, `.closed` when it waits
for its export, `.damaged` when it is kept because something in it could not be read.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["CLOSED", "DAMAGED", "OPEN", "locked", "take"]

OPEN = ".open"
CLOSED = ".closed"
DAMAGED = ".damaged"


def take(fd: int, path: Path) -> bool:
    """Lock an open file for as long as it is open; False when another has it.

    Also False when `path` no longer names this file: who had the lock before moved it away.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(fd).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a file meanwhile; False when it is gone or another has its lock."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        yield take(fd, path)
    finally:
        os.close(fd)
