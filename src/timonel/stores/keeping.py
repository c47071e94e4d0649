"""The lock of a home's objects: who reads many of them keeps all, until it is done."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from timonel.errors import Busy

__all__ = ["keeping"]


@contextmanager
def keeping(home: Path, *, deleting: bool = False, wait: bool = True) -> Iterator[None]:
    """Let no object go meanwhile; with `deleting`, be the one that lets some go.

    Raises:
        Busy: without `wait`, others keep them, or let some go.
    """
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / "objects.lock", os.O_RDWR | os.O_CREAT, 0o644)
    kind = fcntl.LOCK_EX if deleting else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Busy(
            f"Expected a home of which no backup is being made, got {home}.",
            remedy="Wait for it to end.",
        ) from None
    finally:
        os.close(descriptor)
