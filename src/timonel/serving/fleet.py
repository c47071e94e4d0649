"""The workers of one server: started, looked after, and replaced one after the other."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from timonel.errors import TimonelError
from timonel.ids import Ids
from timonel.serving.channel import AskRun, RunReply, SupervisorEnd
from timonel.serving.roster import Report

__all__ = ["Fleet"]

_READY_SECONDS = 60.0
_REPLACE_PATIENCE = 50.0  # that a replacing worker has for what the replaced one answers with
_DRAIN_SECONDS = 45.0  # longer than a worker takes to drain by itself
_STOP_SECONDS = 12.0
_MOST_BACKOFF = 2.0
_MOST_FAILURES = 5


@dataclass
class _Worker:
    """A worker's process, and what it says of itself; `ends_by` while it drains."""

    number: int
    process: subprocess.Popen[bytes]
    channel: SupervisorEnd
    started: float
    is_ready: bool = False
    ends_by: float | None = None


@dataclass
class _Slot:
    """The place of a worker, which outlives the processes that fill it.

    `next` is a worker that will replace the present one, `leaving` one that was replaced.
    """

    number: int
    worker: _Worker | None = None
    next: _Worker | None = None
    leaving: _Worker | None = None
    failures: int = 0
    not_before: float = 0.0
    trouble: str = ""


class Fleet:
    """Keeps `count` workers answering on `listener`.

    `names` are the projects, and with `options` what all workers are started with; `folder` is
    where they count.
    `asked` is given the runs that somebody asks a worker for, `say` what a person should read.
    Used from one thread; `routed`, `all_serve` and `restart` from any.
    """

    def __init__(
        self,
        count: int,
        listener: socket.socket,
        names: Sequence[str],
        options: Sequence[str],
        environment: dict[str, str],
        folder: Path,
        *,
        asked: Callable[[AskRun, Callable[[RunReply], None]], None],
        say: Callable[[str], None],
    ) -> None:
        self._listener = listener
        self._names = names
        self._options = options
        self._environment = environment | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
        self._folder = folder
        self._asked = asked
        self._say = say
        self._slots = [_Slot(number) for number in range(count)]
        self._turns: list[tuple[_Slot, _Worker]] = []  # workers that are yet to be replaced
        self._wanted = False
        self._ids = Ids()
        self.restarts = 0
        """rolling restarts that ended"""
        self.trouble = ""
        """why the last one did not replace every worker"""

    def begin(self, *options: str) -> None:
        """Start the first worker, with further options; `tend` starts the others."""
        slot = self._slots[0]
        with suppress(OSError):  # `tend` tries it again, and says so
            slot.worker = self._start(slot.number, *options)

    def tend(self) -> None:
        """Start, look after and replace workers; to be called again and again.

        Raises:
            TimonelError: no worker could start, several times in a row.
        """
        now = time.monotonic()
        for slot in self._slots:
            self._end_leaving(slot, now)
            self._tend(slot, now)
        self._turn(now)

    def restart(self) -> None:
        """Replace every worker by a new process, one after the other, while the others answer."""
        self._wanted = True

    def stop(self) -> None:
        """End all workers; what they are answering, they answer."""
        workers = [w for s in self._slots for w in (s.worker, s.next, s.leaving) if w]
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for worker in workers:
            try:
                worker.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.channel.close()
        self._slots = []

    def pids(self) -> list[int]:
        """The processes that answer now."""
        return [s.worker.process.pid for s in self._slots if s.worker and s.worker.is_ready]

    def report(self) -> tuple[Report, ...]:
        """How each worker fares."""
        return tuple(_report(slot) for slot in self._slots)

    def routed(self) -> frozenset[str]:
        """The versions that some worker's requests go to."""
        workers = [slot.worker for slot in self._slots if slot.worker]
        return frozenset(label for w in workers for label in w.channel.serves.labels)

    def all_serve(self, labels: frozenset[str]) -> bool:
        """Whether every worker serves the versions of these labels.

        One that is starting counts as well: it may answer before this process hears of it.
        """
        workers = [w for slot in self._slots for w in (slot.worker, slot.next) if w]
        return all(labels.issubset(worker.channel.serves.labels) for worker in workers)

    def _tend(self, slot: _Slot, now: float) -> None:
        worker = slot.worker
        if worker is None:
            if now >= slot.not_before:
                try:
                    slot.worker = self._start(slot.number)
                except OSError as error:  # no memory or no process to be had
                    self._failed(slot, now, error.strerror or str(error))
            return
        if _becomes_ready(worker):
            slot.failures, slot.trouble = 0, ""
        code, late = _ended(worker, now)
        if code is None and not late:
            return
        self._forget(worker)
        # One that was to replace it anyhow is already on its way.
        slot.worker, slot.next = slot.next, None
        if worker.is_ready:  # one that served is replaced at once
            self._say(f"Worker {slot.number} ended ({_ending(code)}); starting another.")
        else:
            self._failed(slot, now, "not ready in time" if late else _ending(code))

    def _failed(self, slot: _Slot, now: float, why: str) -> None:
        """A worker that cannot start must not spin, nor end those that answer."""
        slot.failures += 1
        slot.not_before = now + min(_MOST_BACKOFF, 0.1 * 2**slot.failures)
        times = f"{slot.failures} times" if slot.failures > 1 else "once"
        slot.trouble = (
            f"Worker {slot.number} does not come up: it ended {times} before it was ready (the "
            f"last time: {why})."
        )
        if slot.failures >= _MOST_FAILURES and not self.pids():
            raise TimonelError(
                f"Worker {slot.number} ended {slot.failures} times before it was ready "
                f"(the last time: {why}).",
                remedy="Its messages above say why; check with: timonel check "
                + " ".join(self._names),
            )
        self._say(f"Worker {slot.number} could not start ({why}); trying again.")

    def _turn(self, now: float) -> None:
        """One step of a rolling restart: a new worker, and when it is ready the end of the old."""
        if not self._turns:
            if self._wanted:
                self._wanted, self.trouble = False, ""
                self._turns = [(s, s.worker) for s in self._slots if s.worker]
                self.restarts += not self._turns  # none is up: whatever comes up is new
            return
        slot, old = self._turns[0]
        if slot.leaving:
            return
        if slot.worker is not old:  # replaced, by this or because it ended
            self._turned()
        elif slot.next is None:
            if old.is_ready:  # one that is not either becomes so or ends
                self._replace(slot, old)
        elif _becomes_ready(slot.next):
            slot.worker, slot.next, slot.leaving = slot.next, None, old
            old.ends_by = now + _DRAIN_SECONDS
            old.process.send_signal(signal.SIGHUP)
        else:
            code, late = _ended(slot.next, now)
            if code is not None or late:
                self._forget(slot.next)
                slot.next = None
                self._give_up(slot, "not ready in time" if late else _ending(code))

    def _replace(self, slot: _Slot, old: _Worker) -> None:
        answered = {label.rpartition("@")[0] for label in old.channel.serves.labels}
        must = ("--must", ",".join(sorted(answered)), "--patience", str(_REPLACE_PATIENCE))
        try:
            slot.next = self._start(slot.number, *must)
        except OSError as error:
            self._give_up(slot, error.strerror or str(error))

    def _turned(self) -> None:
        self._turns.pop(0)
        self.restarts += not self._turns

    def _give_up(self, slot: _Slot, why: str) -> None:
        """The workers that there are go on; whatever is wrong with a new one, they are not."""
        self.trouble = f"Worker {slot.number} was not replaced: the new one ended ({why})."
        self._turns.clear()
        self.restarts += 1
        self._say(self.trouble)

    def _end_leaving(self, slot: _Slot, now: float) -> None:
        worker = slot.leaving
        if worker is None:
            return
        if worker.ends_by is not None and now > worker.ends_by:
            worker.process.kill()
            worker.process.wait()
        if worker.process.poll() is not None:
            self._forget(worker)
            slot.leaving = None

    def _start(self, number: int, *options: str) -> _Worker:
        mine, theirs = socket.socketpair()
        command = [
            *(sys.executable, "-m", "timonel.serving.worker", *self._names),
            *self._options,
            *("--socket", str(self._listener.fileno())),
            *("--channel", str(theirs.fileno())),
            *("--worker", str(number)),
            *("--boot", self._ids().hex),
            *("--parent", str(os.getpid())),
            *options,
        ]
        try:
            process = subprocess.Popen(
                command,
                pass_fds=(self._listener.fileno(), theirs.fileno()),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the supervisor, which then drains
            )
        except OSError:
            mine.close()
            raise
        finally:
            theirs.close()
        return _Worker(number, process, SupervisorEnd(mine, self._asked), time.monotonic())

    def _forget(self, worker: _Worker) -> None:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()
        worker.channel.close()
        # Gauges of a dead process must not count; its counters must.
        for path in self._folder.glob(f"gauge_*_{worker.process.pid}.db"):
            path.unlink(missing_ok=True)


def _becomes_ready(worker: _Worker) -> bool:
    """Whether it has just said so."""
    if worker.is_ready or not worker.channel.ready.is_set():
        return False
    worker.is_ready = True
    return True


def _ended(worker: _Worker, now: float) -> tuple[int | None, bool]:
    """Its exit code if it ended, and whether it takes too long to become ready."""
    late = not worker.is_ready and now - worker.started > _READY_SECONDS
    return worker.process.poll(), late


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


def _report(slot: _Slot) -> Report:
    worker = slot.worker
    if worker is None:
        return Report(slot.number, trouble=slot.trouble)
    serves = worker.channel.serves
    return Report(
        number=slot.number,
        pid=worker.process.pid,
        is_ready=worker.is_ready,
        serves=serves.labels,
        loaded=serves.loaded,
        failed=serves.failed,
        trouble=slot.trouble,
    )
