"""The parent of the workers: it owns the socket, and replaces workers that end."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from timonel.errors import TimonelError
from timonel.ids import Ids
from timonel.project import Project
from timonel.serving.channel import SupervisorEnd
from timonel.serving.launcher import Launcher
from timonel.serving.operator import PipelineOperator
from timonel.serving.upkeep import Upkeep
from timonel.settings import Settings

__all__ = ["PortTaken", "Supervisor"]

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_READY_SECONDS = 60.0
_DRAIN_SECONDS = 12.0
_MOST_BACKOFF = 2.0
_MOST_FAILURES = 5


class PortTaken(TimonelError):
    """Another program listens on the address."""

    exit_code = 8


@dataclass
class _Worker:
    """A worker's process, and what it says of itself."""

    number: int
    process: subprocess.Popen[bytes]
    channel: SupervisorEnd
    started: float
    is_ready: bool = False


@dataclass
class _Slot:
    """The place of a worker, which outlives the processes that fill it."""

    number: int
    worker: _Worker | None = None
    failures: int = 0
    not_before: float = 0.0


@dataclass
class Supervisor:
    """Serves projects until it is told to stop; see `run`.

    `names` are what workers load the projects by (a bundled name or a path). `say` is told what a
    person should read, `tell` each line of a run with its project's name. `on_ready` is called
    once, when the first worker answers; with `train`, what has no champion is then trained.
    """

    names: Sequence[str]
    projects: Sequence[Project]
    settings: Settings
    at_root: bool
    say: Callable[[str], None] = lambda sentence: None
    tell: Callable[[str, str], None] = lambda project, line: None
    on_ready: Callable[[], None] = lambda: None
    train: bool = False
    _slots: list[_Slot] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; then drain the workers and export the journal.

        Raises:
            PortTaken: the address is in use.
            TimonelError: no worker could start.
        """
        settings = self.settings
        boot = Ids()().hex
        listener = self._listen()
        metrics_folder = _metrics_folder(settings.serving_folder)
        self._launcher = Launcher(settings, self.tell)
        self._operator = PipelineOperator(settings, self.projects, self._launcher, self._all_serve)
        upkeep = Upkeep(settings, self.projects, self._operator.adopt)
        with self._signals():
            try:
                upkeep.start()
                self._slots = [_Slot(number) for number in range(settings.workers)]
                self._loop(listener, boot, metrics_folder)
            finally:
                self._launcher.stop()
                self._stop_workers()
                listener.close()
                upkeep.stop()
                shutil.rmtree(metrics_folder, ignore_errors=True)

    def stop(self) -> None:
        """End `run`; may be called from any thread or a signal handler."""
        self._stopping.set()

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self._port}"

    @property
    def worker_pids(self) -> list[int]:
        """The processes that answer now."""
        workers = [slot.worker for slot in self._slots]
        return [worker.process.pid for worker in workers if worker and worker.is_ready]

    def _listen(self) -> socket.socket:
        host, port = self.settings.host, self.settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(2048)
        except OSError as error:
            listener.close()
            raise PortTaken(
                f"Expected to listen on {host}:{port}, got: {error.strerror or error}.",
                remedy="Stop what listens there, or choose another with --port.",
            ) from None
        listener.set_inheritable(True)
        self._port = listener.getsockname()[1]
        return listener

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self._stopping.set()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _loop(self, listener: socket.socket, boot: str, metrics_folder: Path) -> None:
        announced = False
        while not self._stopping.is_set():
            now = time.monotonic()
            for slot in self._slots:
                self._tend(slot, now, listener, boot, metrics_folder)
            if not announced and any(s.worker and s.worker.is_ready for s in self._slots):
                announced = True
                self.on_ready()
                if self.train:
                    self._launcher.start(self.projects)
            self._stopping.wait(_POLL_SECONDS)

    def _tend(
        self, slot: _Slot, now: float, listener: socket.socket, boot: str, metrics_folder: Path
    ) -> None:
        """Start, look after and replace the worker of one slot."""
        worker = slot.worker
        if worker is None:
            if now >= slot.not_before:
                try:
                    slot.worker = self._start(slot.number, listener, boot, metrics_folder)
                except OSError as error:  # no memory or no process to be had
                    self._failed(slot, now, error.strerror or str(error))
            return
        if not worker.is_ready:
            worker.is_ready = worker.channel.ready.is_set()
            if worker.is_ready:
                slot.failures = 0
        code = worker.process.poll()
        late = not worker.is_ready and now - worker.started > _READY_SECONDS
        if code is None and not late:
            return
        if late:
            worker.process.kill()
            worker.process.wait()
        self._forget(worker, metrics_folder)
        slot.worker = None
        if worker.is_ready:  # one that served is replaced at once
            self.say(f"Worker {slot.number} ended ({_ending(code)}); starting another.")
        else:
            self._failed(slot, now, "not ready in time" if late else _ending(code))

    def _failed(self, slot: _Slot, now: float, why: str) -> None:
        """A worker that cannot start must not spin, nor end those that answer."""
        slot.failures += 1
        slot.not_before = now + min(_MOST_BACKOFF, 0.1 * 2**slot.failures)
        if slot.failures >= _MOST_FAILURES and not any(
            other.worker and other.worker.is_ready for other in self._slots
        ):
            raise TimonelError(
                f"Worker {slot.number} ended {slot.failures} times before it was ready "
                f"(the last time: {why}).",
                remedy="Its messages above say why; check with: timonel check "
                + " ".join(self.names),
            )
        self.say(f"Worker {slot.number} could not start ({why}); trying again.")

    def _start(
        self, number: int, listener: socket.socket, boot: str, metrics_folder: Path
    ) -> _Worker:
        mine, theirs = socket.socketpair()
        command = [
            sys.executable,
            "-m",
            "timonel.serving.worker",
            *self.names,
            *("--socket", str(listener.fileno())),
            *("--channel", str(theirs.fileno())),
            *("--worker", str(number)),
            *("--boot", boot),
            *("--parent", str(os.getpid())),
            *(["--at-root"] if self.at_root else []),
        ]
        try:
            process = subprocess.Popen(
                command,
                pass_fds=(listener.fileno(), theirs.fileno()),
                env=os.environ
                | self.settings.environment_variables()
                | {"PROMETHEUS_MULTIPROC_DIR": str(metrics_folder)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the supervisor, which then drains
            )
        except OSError:
            mine.close()
            raise
        finally:
            theirs.close()
        channel = SupervisorEnd(mine, self._operator.asked)
        return _Worker(number, process, channel, time.monotonic())

    def _all_serve(self, labels: frozenset[str]) -> bool:
        """Whether every worker serves the versions of these labels.

        One that is starting counts as well: it may answer before this process hears of it.
        """
        workers = [slot.worker for slot in self._slots if slot.worker]
        return all(labels <= worker.channel.serves for worker in workers)

    def _forget(self, worker: _Worker, metrics_folder: Path) -> None:
        worker.channel.close()
        # Gauges of a dead process must not count; its counters must.
        for path in metrics_folder.glob(f"gauge_*_{worker.process.pid}.db"):
            path.unlink(missing_ok=True)

    def _stop_workers(self) -> None:
        workers = [slot.worker for slot in self._slots if slot.worker]
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + _DRAIN_SECONDS
        for worker in workers:
            try:
                worker.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.channel.close()
        self._slots = []


def _metrics_folder(serving_folder: Path) -> Path:
    """This process's empty folder; those that killed supervisors left are removed."""
    for left in serving_folder.glob("metrics-*"):
        with contextlib.suppress(ValueError):
            if not _lives(int(left.name.removeprefix("metrics-"))):
                shutil.rmtree(left, ignore_errors=True)
    folder = serving_folder / f"metrics-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lives(pid: int) -> bool:
    """Whether another process has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
