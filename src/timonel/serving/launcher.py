"""Pipeline runs beside a server: a process each, so that training can neither slow nor crash it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from timonel.errors import TimonelError
from timonel.project import Project
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.versions import EMBEDDED, Versions

__all__ = ["Launcher"]

_STOP_SECONDS = 10


class Launcher:
    """Runs the pipeline of each project that has a model without a trained champion.

    `tell` gets the project's name and each line that its run prints (JSON events).
    """

    def __init__(self, settings: Settings, tell: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def start(self, projects: Sequence[tuple[str, Project]]) -> None:
        """Run what has to be trained, one after the other; `projects`: names and definitions."""
        self._thread = threading.Thread(
            target=self._run_all, args=(projects,), name="timonel-launcher", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the run that goes on, cleanly, and start no other."""
        with self._starting:
            self._stopping.set()
            process = self._process
        if process and process.poll() is None:
            process.send_signal(signal.SIGTERM)
        if self._thread:
            self._thread.join(timeout=_STOP_SECONDS)
        if process and process.poll() is None:
            process.kill()

    def untrained(self, project: Project) -> list[str]:
        """The project's models that have no champion but what ships with it."""
        versions = Versions(Database.open(self._settings.database_url))
        champions = {name: versions.champion(project.name, name) for name in project.model_names}
        return [
            name
            for name, champion in champions.items()
            if champion is None or champion.number == EMBEDDED
        ]

    def _run_all(self, projects: Sequence[tuple[str, Project]]) -> None:
        for name, project in projects:
            if self._stopping.is_set():
                return
            try:
                models = self.untrained(project)
                if models:
                    self._run(name, project, models)
            except (TimonelError, OSError) as error:  # the next project may still be trained
                self._tell(project.name, json.dumps({"error": str(error)}) + "\n")

    def _run(self, name: str, project: Project, models: Sequence[str]) -> None:
        self._settings.logs_folder.mkdir(parents=True, exist_ok=True)
        log = self._settings.logs_folder / f"run-{project.name}.log"
        command = [sys.executable, "-m", "timonel", "run", name, "--json"]
        command += [part for model in models for part in ("--model", model)]
        with log.open("a") as errors:
            with self._starting:
                if self._stopping.is_set():
                    return
                process = self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=os.environ | self._settings.environment_variables(),
                    start_new_session=True,
                )
            with process:
                for line in process.stdout or ():
                    self._tell(project.name, line)
