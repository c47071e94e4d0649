"""Pipeline runs beside a server: a process each, so that training can neither slow nor crash it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from timonel.errors import Busy, TimonelError
from timonel.project import Project
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.runs import Runs
from timonel.stores.versions import EMBEDDED, Versions

__all__ = ["Launcher", "Ran"]

_STOP_SECONDS = 10
_NAMED_SECONDS = 30  # how long a run may take to tell its id


@dataclass(frozen=True)
class Ran:
    """How a run ended: its exit code, its id if it began, its status and a sentence."""

    code: int
    run: str | None
    status: str
    sentence: str


class _Going:
    """A run that goes on here; `named` is set when its id is known or will never be."""

    def __init__(self) -> None:
        self.run: str | None = None
        self.named = threading.Event()
        self.process: subprocess.Popen[str] | None = None


class Launcher:
    """Runs pipelines, at most one of a project at a time.

    `tell` gets the project's name and each line that its run prints (JSON events).
    """

    def __init__(self, settings: Settings, tell: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._going: dict[str, _Going] = {}
        self._thread: threading.Thread | None = None

    def start(self, projects: Sequence[Project]) -> None:
        """Run what has to be trained, one after the other; first what cannot answer at all."""
        self._thread = threading.Thread(
            target=self._run_all, args=(projects,), name="timonel-launcher", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the runs that go on, cleanly, and start no other."""
        with self._lock:
            self._stopping.set()
            processes = [going.process for going in self._going.values() if going.process]
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        if self._thread:
            self._thread.join(timeout=_STOP_SECONDS)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_STOP_SECONDS)
            if process.poll() is None:
                process.kill()

    def untrained(self, project: Project) -> list[str]:
        """The project's models that have no champion but what ships with it."""
        return [
            name for name, number in self._champions(project).items() if number in (None, EMBEDDED)
        ]

    def run(
        self,
        project: Project,
        models: Sequence[str] = (),
        *,
        fresh: bool = False,
        command: Sequence[str] = ("run",),
        named: Callable[[str | None], None] = lambda run: None,
    ) -> Ran:
        """Run a project's pipeline and wait for its end; `named` is told its id once it has one.

        Raises:
            Busy: another run of the project goes on, naming it.
        """
        going = _Going()
        with self._lock:
            other = self._going.get(project.name)
            if other is None:
                self._going[project.name] = going
        if other is not None:
            other.named.wait(_NAMED_SECONDS)
            raise _busy(project.name, other.run or "another run")
        try:
            runs = Runs(Database.open(self._settings.database_url))
            active = runs.active(project.name)
            if active is not None and not runs.is_over(active, socket.gethostname()):
                going.run = active.id  # for those who are refused because of this very call
                raise _busy(project.name, active.id)
            return self._carry(project, models, fresh, command, going, named)
        finally:
            going.named.set()
            with self._lock:
                del self._going[project.name]

    def _run_all(self, projects: Sequence[Project]) -> None:
        def answers(project: Project) -> bool:
            with suppress(TimonelError):
                champions = self._champions(project)
                return all(champions[name] is not None for name in project.answering)
            return False

        if self._stopping.is_set():
            return
        for project in sorted(projects, key=answers):
            if self._stopping.is_set():
                return
            try:
                models = self.untrained(project)
                if models:
                    self.run(project, models)
            except (TimonelError, OSError) as error:  # the next project may still be trained
                self._tell(project.name, json.dumps({"error": str(error)}) + "\n")

    def _champions(self, project: Project) -> dict[str, int | None]:
        versions = Versions(Database.open(self._settings.database_url))
        found = {name: versions.champion(project.name, name) for name in project.model_names}
        return {name: None if it is None else it.number for name, it in found.items()}

    def _carry(
        self,
        project: Project,
        models: Sequence[str],
        fresh: bool,
        words: Sequence[str],
        going: _Going,
        named: Callable[[str | None], None],
    ) -> Ran:
        self._settings.logs_folder.mkdir(parents=True, exist_ok=True)
        log = self._settings.logs_folder / f"run-{project.name}.log"
        command = [sys.executable, "-m", "timonel", *words, project.reference, "--json"]
        command += [part for model in models for part in ("--model", model)]
        command += ["--fresh"] if fresh else []
        last: dict[str, Any] = {}
        with log.open("a") as errors:
            with self._lock:
                if self._stopping.is_set():
                    return Ran(130, None, "stopped", "The server is stopping.")
                process = going.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    encoding="utf-8",
                    errors="replace",
                    env=os.environ | self._settings.environment_variables(),
                    start_new_session=True,
                )
            with process:
                for line in process.stdout or ():
                    with suppress(OSError):  # a listener that left must not end the run
                        self._tell(project.name, line)
                    event = _event(line)
                    if event.get("run") and going.run is None:
                        going.run = str(event["run"])
                        going.named.set()
                        named(going.run)
                    if event.get("kind") == "run" or "error" in event:
                        last = event
        status = str(last.get("status", "failed"))
        sentence = str(last.get("error") or last.get("note") or f"It ended; see {log}.")
        return Ran(process.returncode, going.run, status, sentence)


def _event(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _busy(project: str, run: str) -> Busy:
    return Busy(
        f"Expected no active run of {project}, got run {run}.", remedy="Try again when it ended."
    )
