"""A worker's thread that reads what the supervisor says, and lets the routes follow it."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from timonel.serving.channel import Serves
from timonel.serving.routing import Routes
from timonel.serving.state import State, read_state

__all__ = ["Follower"]

_log = logging.getLogger(__name__)

_FOLLOW_SECONDS = 0.05
_TOLD_SECONDS = 30.0  # a database that takes longer to open is taken for one that is down
_TOLD_PAUSE = 0.005
_STOP_SECONDS = 5


class Follower:
    """Follows `state.json` of a serving folder; `tell` is told what is loaded, from any thread."""

    def __init__(
        self, routes: Routes, serving_folder: Path, tell: Callable[[Serves], object]
    ) -> None:
        self._routes = routes
        self._folder = serving_folder
        self._tell = tell
        self._seen: tuple[int, int] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timonel-follow", daemon=True)
        routes.changed = self._changed

    def first(self, patience: float, boot: str = "") -> None:
        """Load what answers, for at most `patience` seconds each for champions and for the rest.

        What stands by is loaded later, unless it is needed because a champion cannot be loaded.
        With `boot`, what an earlier server told is loaded as well, and that server's word is
        waited for: until then nobody knows whether the versions are still champions.
        """
        state = read_state(self._folder) or State()
        deadline = time.monotonic() + _TOLD_SECONDS
        if boot and state.boot != boot:
            self._routes.follow(msgspec.structs.replace(state, standby=()), wait=patience)
        while boot and state.boot != boot and time.monotonic() < deadline:
            time.sleep(_TOLD_PAUSE)
            state = read_state(self._folder) or State()
        self._routes.follow(msgspec.structs.replace(state, standby=()), wait=patience)
        if self._routes.unanswered():
            self._routes.follow(state, wait=patience)
        self._seen = None

    def start(self) -> None:
        """Follow from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more; what is being loaded is waited for, and not used."""
        self._stop.set()
        self._thread.join(timeout=_STOP_SECONDS)
        self._routes.close(_STOP_SECONDS)

    def step(self) -> None:
        """Follow the state when its file changed, or when a version is not loaded yet."""
        seen = self._file()
        state = read_state(self._folder) if seen != self._seen else None
        if state is not None:
            self._routes.follow(state, wait=0)
            self._seen = seen
        elif not self._routes.settled():
            self._routes.follow(self._routes.state, wait=0)

    def _run(self) -> None:
        while not self._stop.wait(_FOLLOW_SECONDS):
            try:
                self.step()
            except Exception:  # noqa: BLE001 (nothing may end the following)
                _log.exception("The state could not be followed; it is tried again")

    def _changed(self) -> None:
        routes = self._routes
        with contextlib.suppress(RuntimeError):  # a version may be loaded when the loop has ended
            self._tell(Serves(routes.labels(), routes.loaded(), routes.failures()))

    def _file(self) -> tuple[int, int] | None:
        """What differs each time the file is replaced."""
        try:
            found = (self._folder / "state.json").stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns
