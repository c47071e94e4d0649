"""The loop that acts: one process in any number of servers on one database.

The supervisor starts it as `python -m timonel.control.controller`; it ends when its parent does.
Whichever holds the lease decides; the others wait for it to fall silent.
"""

import argparse
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Protocol

from timonel.control.gather import Gatherer
from timonel.control.grade import Grade
from timonel.control.retention import Keeping
from timonel.control.retrain import Retraining, begin_process
from timonel.control.steering import Steering
from timonel.control.watch import Watch
from timonel.errors import TimonelError
from timonel.ids import Ids
from timonel.monitoring.replay import Replay
from timonel.project import Project, load_project
from timonel.rollouts import AllAtOnce, Rollout
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.labels import Labels
from timonel.stores.leases import Leases
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

__all__ = ["LEASE", "Controller", "Part", "main"]

_log = logging.getLogger(__name__)

LEASE = "controller"
_LEASE_SECONDS = 10.0
_TICK_SECONDS = 1.0


class Part(Protocol):
    """Something that the controller does again and again; what a tick did may be repeated."""

    def tick(self) -> object:
        """Look once, and act if there is something to be done."""
        ...


class Controller:
    """Ticks its parts while it holds the lease; `holder` names this one among others."""

    def __init__(self, database: Database, parts: Sequence[Part], *, holder: str) -> None:
        self._leases = Leases(database)
        self._parts = parts
        self._holder = holder

    def tick(self) -> bool:
        """One round of all parts; False while another holds the lease.

        Raises:
            StoreError: the database does not answer.
        """
        if not self._leases.take(LEASE, self._holder, _LEASE_SECONDS):
            return False
        for part in self._parts:
            try:
                part.tick()
            except TimonelError as error:  # one part's trouble must not stop the others
                _log.warning("%s", error)
        return True

    def stop(self) -> None:
        """Let another take over at once."""
        with suppress(TimonelError):
            self._leases.give_up(LEASE, self._holder)


class _Rollouts:
    """Begins the rollouts that wait, and steers those that go on."""

    def __init__(self, projects: Sequence[Project], steering: Steering) -> None:
        self._steering = steering
        self._plans: dict[tuple[str, str], Rollout] = {
            (project.name, model): project.rollout
            for project in projects
            for model in project.model_names
            if project.rollout != AllAtOnce()
        }

    def tick(self) -> None:
        self._steering.start_waiting(self._plans)
        self._steering.tick()


def parts_of(projects: Sequence[Project], settings: Settings, database: Database) -> list[Part]:
    """What a controller of these projects does, in the order in which it does it."""
    objects = ObjectStore.open(settings.objects_url)
    replay = Replay(objects, settings.serving_folder)
    incomplete = {project.name for project in projects if project.unrecorded}
    gather = Gatherer(Segments(database), Labels(database), objects, replay, incomplete=incomplete)
    return [
        _Rollouts(projects, Steering(database, gather)),
        Watch(projects, settings, database),
        Grade(projects, settings, database),
        Retraining(projects, database, begin_process(settings)),
        Keeping(projects, settings, database),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Control until SIGTERM, or until the parent ends."""
    parser = argparse.ArgumentParser(prog="timonel.control.controller")
    parser.add_argument("projects", nargs="+")
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    settings = Settings()
    projects = [load_project(name) for name in given.projects]
    database = Database.open(settings.database_url)
    holder = f"{socket.gethostname()}:{os.getpid()}:{Ids()().hex[-6:]}"
    controller = Controller(database, parts_of(projects, settings, database), holder=holder)
    run(controller, stopping, lambda: os.getppid() == given.parent)


def run(
    controller: Controller,
    stopping: threading.Event,
    wanted: Callable[[], bool],
    *,
    seconds: float = _TICK_SECONDS,
) -> None:
    """Tick until told to stop, or not wanted any more; trouble is logged once and tried again."""
    trouble = ""
    while wanted() and not stopping.wait(seconds):
        try:
            controller.tick()
            trouble = ""
        except TimonelError as error:
            if str(error) != trouble:
                _log.warning("%s", error)
            trouble = str(error)
        except Exception:  # noqa: BLE001 (nothing may end what decides)
            _log.exception("The controller goes on after an error of its own")
    controller.stop()


if __name__ == "__main__":
    main()
