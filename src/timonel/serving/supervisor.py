"""The parent of the workers: it owns the socket, and tells who they are and how they fare."""

import contextlib
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from timonel.errors import TimonelError
from timonel.ids import Ids
from timonel.project import Project
from timonel.serving.channel import AskRun, RunReply
from timonel.serving.companion import Companion
from timonel.serving.fleet import Fleet
from timonel.serving.roster import Roster, Swap, owning, write_roster
from timonel.settings import Settings

if TYPE_CHECKING:
    from timonel.serving.launcher import Launcher
    from timonel.serving.operator import PipelineOperator
    from timonel.serving.upkeep import Upkeep

__all__ = ["PortTaken", "Supervisor"]

_POLL_SECONDS = 0.05


class PortTaken(TimonelError):
    """Another program listens on the address."""

    exit_code = 8


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
    _fleet: Fleet | None = None
    _operator: "PipelineOperator | None" = None
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; then drain the workers and export the journal.

        SIGHUP replaces the workers one after the other. It stops the server when it means that the
        terminal is gone.

        Raises:
            Busy: the home is served already, naming by whom.
            PortTaken: the address is in use.
            TimonelError: no worker could start.
        """
        with owning(self.settings.serving_folder):
            self._run()

    def _run(self) -> None:
        settings, boot = self.settings, Ids()().hex
        listener = self._listen()
        metrics_folder = _metrics_folder(settings.serving_folder)
        fleet = self._fleet = Fleet(
            settings.workers,
            listener,
            self.names,
            ["--at-root"] if self.at_root else [],
            os.environ | settings.environment_variables(),
            metrics_folder,
            asked=self._asked,
            say=self.say,
        )
        companion = Companion(
            "timonel.control.controller",
            self.names,
            os.environ | settings.environment_variables(),
            settings.logs_folder / "controller.log",
            say=self.say,
        )
        with self._signals(), contextlib.ExitStack() as ends:
            ends.callback(shutil.rmtree, metrics_folder, ignore_errors=True)
            after_workers = ends.enter_context(contextlib.ExitStack())
            ends.callback(listener.close)
            ends.callback(fleet.stop)
            ends.callback(companion.stop)
            fleet.begin("--told", boot)
            # The first worker loads what answered last while this process imports what follows,
            # which takes about as long.
            from timonel.serving.launcher import Launcher
            from timonel.serving.operator import PipelineOperator
            from timonel.serving.upkeep import Upkeep

            launcher = Launcher(settings, self.tell)
            ends.callback(launcher.stop)
            operator = PipelineOperator(settings, self.projects, launcher, fleet.all_serve)
            self._operator = operator
            upkeep = Upkeep(settings, self.projects, operator.adopt, routed=fleet.routed, boot=boot)
            after_workers.callback(upkeep.stop)
            upkeep.start()
            self._loop(fleet, upkeep, companion, launcher)

    def _asked(self, ask: AskRun, reply: Callable[[RunReply], None]) -> None:
        if self._operator is not None:  # nobody can ask before a worker answers
            self._operator.asked(ask, reply)

    def stop(self) -> None:
        """End `run`; may be called from any thread or a signal handler."""
        self._stopping.set()

    def restart(self) -> None:
        """Replace the workers one after the other; may be called from anywhere, as `stop` may."""
        if self._fleet:
            self._fleet.restart()

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self._port}"

    @property
    def worker_pids(self) -> list[int]:
        """The processes that answer now."""
        return self._fleet.pids() if self._fleet else []

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
        terminal = _has_terminal()

        def stop(number: int, frame: FrameType | None) -> None:
            self.stop()

        def hang_up(number: int, frame: FrameType | None) -> None:
            if terminal and not _has_terminal():
                self.stop()
            else:
                self.restart()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: hang_up}
        former = {number: signal.signal(number, act) for number, act in handlers.items()}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _loop(
        self, fleet: Fleet, upkeep: "Upkeep", companion: Companion, launcher: "Launcher"
    ) -> None:
        announced, told = False, None
        while not self._stopping.is_set():
            fleet.tend()
            roster = self._roster(fleet, upkeep)
            if roster != told:
                with contextlib.suppress(OSError):  # a full disk must not end what answers
                    write_roster(self.settings.serving_folder, roster)
                    told = roster
            if not announced and fleet.pids():
                announced = True
                self.on_ready()
                if self.train:
                    launcher.start(self.projects)
            if announced and self.settings.controller:  # nothing else waits for it
                companion.tend()
            self._stopping.wait(_POLL_SECONDS)

    def _roster(self, fleet: Fleet, upkeep: "Upkeep") -> Roster:
        return Roster(
            pid=os.getpid(),
            address=self.address,
            models=tuple(f"{p.name}/{model}" for p in self.projects for model in p.model_names),
            workers=fleet.report(),
            swaps=tuple(Swap(*key, count) for key, count in sorted(upkeep.swaps.items())),
            restarts=fleet.restarts,
            trouble=fleet.trouble,
        )


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


def _has_terminal() -> bool:
    """Whether this process has a terminal; one that was closed is none."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
