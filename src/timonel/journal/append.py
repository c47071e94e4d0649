"""A worker's journal: every answer of one turn of the event loop, in one write, before any leaves.

This runs on the event loop, so what it costs every answer waits for.
"""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from timonel.errors import JournalFull
from timonel.journal.files import CLOSED, OPEN, take
from timonel.journal.records import FORMAT, MAGIC, Header, Meta, encode, frame

__all__ = ["Journal"]

# The filesystem, or the system, knows no reserving; every other error of it means "no space".
_CANNOT_RESERVE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENODEV})

_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
_reserve: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)


class Journal:
    """Appends to `<boot>-<worker>-<sequence>.open` in `folder`, renamed `.closed` when it is full.

    `meta` explains the versions that answer; `announce` adds one later. `policy` says what happens
    when the disk does not take a record: `refuse` (JournalFull to those who wait) or `answer`
    (they go on, and `lost` counts). `fsync` waits for the disk at each group. A file is closed when
    it has `rotate_bytes`, or `rotate_seconds` after its first record. `reserve` bytes are kept
    ahead of the end, so that a disk becoming full shows (`short`) before a record is at stake.
    An exclusive flock on the file lives as long as its writer. `clock` gives ns since 1970.

    Use it from one event loop; not thread-safe.
    """

    def __init__(
        self,
        folder: Path,
        *,
        worker: str,
        boot: str,
        meta: Iterable[Meta] = (),
        policy: Literal["refuse", "answer"] = "refuse",
        fsync: bool = False,
        rotate_bytes: int = 64_000_000,
        rotate_seconds: float = 5.0,
        reserve: int = 4 * 1024 * 1024,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.folder = folder
        self.worker = worker
        self.boot = boot
        self.policy = policy
        self.fsync = fsync
        self.rotate_bytes = rotate_bytes
        self.rotate_seconds = rotate_seconds
        self.written = 0
        """records in the journal"""
        self.refused = 0
        """records that were not written, and their answers refused"""
        self.lost = 0
        """records that were not written although their answers left: an alarm"""
        self.short = False
        """whether no space could be reserved ahead: an early alarm"""
        self._clock = clock
        self._ahead = reserve if _reserve else 0
        self._metas = {item.key: item for item in meta}
        self._payloads: list[bytes] = []
        self._waiting: list[Callable[[BaseException | None], object]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sequence = 0
        self._path: Path | None = None
        self._fd = -1
        self._size = 0  # where the next group goes; everything before is whole
        self._reserved = 0
        self._explained: set[tuple[str, str, str]] = set()

    def append(self, payload: bytes) -> "asyncio.Future[None]":
        """Add an encoded record; await the result before answering.

        Raises (when awaited):
            JournalFull: it could not be written, and the policy is `refuse`.
        """
        waiting = asyncio.get_running_loop().create_future()
        self.append_then(payload, partial(_settle, waiting))
        return waiting

    def append_then(self, payload: bytes, done: Callable[[BaseException | None], object]) -> None:
        """Add an encoded record; `done` is called when it is in the file, and raises nothing.

        It is given the JournalFull of `append`, or CancelledError where writing failed otherwise.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._payloads.append(payload)
        self._waiting.append(done)

    def announce(self, meta: Meta) -> None:
        """Explain a version, before its first record."""
        changed = [
            key
            for key, known in self._metas.items()
            if known.project == meta.project and known.columns != meta.columns
        ]
        if changed:
            # A file states one list of columns a project, so that one segment can hold its rows.
            self.flush()
            self.rotate()
            for key in changed:
                del self._metas[key]
        self._metas[meta.key] = meta

    def flush(self) -> None:
        """Write what waits now; the event loop calls this once a turn."""
        payloads, waiting = self._payloads, self._waiting
        if not payloads:
            return
        self._payloads, self._waiting = [], []
        failure: OSError | None = None
        try:
            self._write(payloads)
        except OSError as error:
            if self.policy == "answer":
                self.lost += len(payloads)
            else:
                self.refused += len(payloads)
                failure = error
        except BaseException:
            for done in waiting:
                done(asyncio.CancelledError())  # nobody may wait forever
            raise
        else:
            self.written += len(payloads)
            if self._size >= self.rotate_bytes:
                self.rotate()
        for done in waiting:
            done(None if failure is None else self._full(failure))

    def rotate(self) -> None:
        """Close the current file, if there is one; the next record starts another."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._path is None:
            return
        path, fd = self._path, self._fd
        self._path, self._fd = None, -1
        try:
            os.ftruncate(fd, self._size)
            path.rename(path.with_suffix(CLOSED))
        except OSError:
            pass  # left as it is, it is adopted like the file of a writer that died
        finally:
            os.close(fd)

    def close(self) -> None:
        """Write what waits and close the file."""
        self.flush()
        self.rotate()

    def _write(self, payloads: list[bytes]) -> None:
        if self._path is None:
            self._open()
        parts = [frame(payload) for payload in payloads]
        news = self._metas.keys() - self._explained
        if news:
            parts[:0] = [frame(encode(self._metas[key])) for key in sorted(news)]
        self._put(b"".join(parts))
        self._explained |= news
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.rotate_seconds, self.rotate)

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            # A time rather than a count: no name ever comes back, also not with a worker of the
            # same name; a file is exported once under its name.
            now = self._clock()
            self._sequence = max(now, self._sequence + 1)
            path = self.folder / f"{self.boot}-{self.worker}-{self._sequence:020d}{OPEN}"
            if path.with_suffix(CLOSED).exists():
                continue
            try:
                fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640)
            except FileExistsError:
                continue
            if take(fd, path):
                break
            os.close(fd)
        self._path, self._fd, self._size, self._reserved = path, fd, 0, 0
        self._explained = set()
        try:
            self._put(MAGIC + frame(encode(Header(FORMAT, self.boot, self.worker, now))))
            if self.fsync:
                self._sync_folder()
        except OSError:
            self._abandon()
            raise

    def _put(self, data: bytes) -> None:
        """Write all of `data` at the end, or leave the file as it was and raise OSError."""
        end = self._size + len(data)
        if end + self._ahead // 2 > self._reserved:
            self._keep_ahead(end)
        try:
            done = os.pwrite(self._fd, data, self._size)
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], self._size + done)
            if self.fsync:
                _sync(self._fd)
        except OSError:
            self._cut_back()
            raise
        self._size = end

    def _keep_ahead(self, end: int) -> None:
        if not self._ahead or _reserve is None:
            return
        for wanted in (end + self._ahead, end):
            if wanted <= self._reserved:
                return
            try:
                _reserve(self._fd, self._reserved, wanted - self._reserved)
            except OSError as error:
                if error.errno in _CANNOT_RESERVE:
                    self._ahead = 0
                    return
                self.short = True
                if wanted == end:
                    raise
            else:
                self._reserved = wanted
                self.short = wanted == end
                return

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
            self._reserved = self._size
        except OSError:
            # Half a group would stay behind later records: go on in another file.
            self._abandon()

    def _abandon(self) -> None:
        """Leave the file to those who adopt."""
        if self._path is not None:
            os.close(self._fd)
            self._path, self._fd = None, -1

    def _sync_folder(self) -> None:
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _full(self, error: OSError) -> JournalFull:
        return JournalFull(
            f"The journal in {self.folder} cannot be written ({error.strerror or error}), and an "
            "answer that is not recorded is not given.",
            remedy="Free space there; or set TIMONEL_JOURNAL_FULL=answer to answer unrecorded.",
        )


def _settle(future: "asyncio.Future[None]", error: BaseException | None) -> None:
    if future.done():  # cancelled: its client hung up
        return
    if error is None:
        future.set_result(None)
    elif isinstance(error, asyncio.CancelledError):
        future.cancel()
    else:
        future.set_exception(error)
