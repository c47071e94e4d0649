"""A process beside the workers that the supervisor keeps running, and that nobody waits for."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["Companion"]

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_STEADY_SECONDS = 60.0  # after which an end is no longer taken for a failure to start
_STOP_SECONDS = 5.0


class Companion:
    """Keeps `python -m MODULE …` running; what it prints goes to `log`.

    One that ends is started again after a pause that doubles up to a minute. `say` is told what a
    person should read.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._module = module
        self._command = [sys.executable, "-m", module, *arguments, "--parent", str(os.getpid())]
        self._environment = dict(environment)
        self._log = log
        self._say = say
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._not_before = 0.0
        self._pause = _FIRST_PAUSE

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def tend(self) -> None:
        """Start it when it does not run; to be called again and again, and returns at once."""
        now = self._clock()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._process = None
            if now - self._started >= _STEADY_SECONDS:
                self._pause = _FIRST_PAUSE
            self._not_before = now + self._pause
            self._say(
                f"{self._module} ended ({code}); it starts again in {self._pause:.0f} s. "
                f"Its log: {self._log}"
            )
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        if now >= self._not_before:
            self._start(now)

    def stop(self) -> None:
        """End it, and wait a little for that."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start(self, now: float) -> None:
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the supervisor
                )
            self._started = now
        except OSError as error:  # no memory, no process to be had, or a full disk
            self._not_before = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._say(f"{self._module} could not start ({error.strerror or error}); trying again.")
