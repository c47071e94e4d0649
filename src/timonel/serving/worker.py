"""One process that answers: it loads versions, listens on the shared socket, and follows the state.

Started by the supervisor as `python -m timonel.serving.worker`; it ends when its parent does.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

from timonel.journal.append import Journal
from timonel.project import Project, load_project
from timonel.serving.answer import Answerer
from timonel.serving.app import build_app
from timonel.serving.cache import AnswerCache
from timonel.serving.channel import Link, Supervision
from timonel.serving.door import Door, Rules
from timonel.serving.keyring import Keyring
from timonel.serving.load import Refusals, most_of
from timonel.serving.metrics import Metrics
from timonel.serving.predict import Predictor
from timonel.serving.protocols.entrance import Entrance
from timonel.serving.recorder import JournalRecorder
from timonel.serving.routing import Routes
from timonel.serving.rows import RowReader
from timonel.serving.state import State, read_state
from timonel.settings import Settings
from timonel.stores.answers import Answers, MemoryAnswers, RedisAnswers

if TYPE_CHECKING:
    import uvicorn

__all__ = ["main", "worker_app"]

_FOLLOW_SECONDS = 0.1
_DRAIN_SECONDS = 10


def worker_app(
    projects: Sequence[Project],
    settings: Settings,
    *,
    at_root: bool,
    worker: str = "0",
    boot: str = "boot",
    link: Supervision | None = None,
) -> FastAPI:
    """The application of one worker; `link` connects it with who supervises it."""
    link = link or Link()
    routes = Routes(projects, settings.serving_folder)
    journal = Journal(
        settings.journal_folder,
        worker=worker,
        boot=boot,
        policy=settings.journal_full,
        fsync=settings.journal_fsync,
        rotate_bytes=settings.journal_rotate_bytes,
        rotate_seconds=settings.journal_rotate_seconds,
    )
    recorder = JournalRecorder(journal, settings.environment)
    metrics = Metrics()
    refusals = Refusals(metrics.refused)
    answers = _answers(projects, settings)
    caches = {
        project.name: AnswerCache(project.cache, answers[project.name])
        for project in projects
        if project.cache
    }
    ways = [
        (
            Answerer(project, routes, recorder, metrics, cache=caches.get(project.name)),
            RowReader(project, settings.max_rows),
        )
        for project in projects
    ]
    predictors = [
        Predictor(answerer, reader, max_body=settings.max_body, max_pixels=settings.max_pixels)
        for answerer, reader in ways
    ]
    entrances = [
        Entrance(answerer, reader, max_body=settings.max_body, max_rows=settings.max_rows)
        for answerer, reader in ways
    ]

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        await link.open()
        follower = _Follower(
            routes,
            settings.serving_folder,
            lambda: loop.call_soon_threadsafe(link.say_serves, routes.labels()),
        )
        await asyncio.to_thread(follower.step)
        follower.start()
        link.say_ready()
        for kept in set(answers.values()):
            kept.start()
        watch = asyncio.create_task(_watch(journal, metrics))
        try:
            yield
        finally:
            watch.cancel()
            follower.stop()
            for cache in caches.values():
                await cache.close()
            for kept in set(answers.values()):
                await kept.close()
            journal.close()
            metrics.flush()
            await link.close()

    return build_app(
        projects,
        predictors,
        routes,
        metrics,
        at_root=at_root,
        door=partial(
            Door,
            rules=Rules.of(settings, projects, at_root=at_root),
            keyring=Keyring(lambda: routes.state.keys, workers=settings.workers),
            most=lambda: settings.max_waiting or most_of(routes.slowest()),
            refused=refusals,
        ),
        entrances=entrances,
        origins=[origin for origin in settings.origins.split(",") if origin],
        lifespan=lifespan,
        operator=link,
        troubles=lambda: [
            *(kept.trouble for kept in set(answers.values()) if kept.trouble),
            *refusals.troubles(),
        ],
    )


def _answers(projects: Sequence[Project], settings: Settings) -> dict[str, Answers]:
    """Where the projects that have a cache keep their answers."""
    cached = {project.name: project.cache for project in projects if project.cache}
    if cached and settings.answers:
        return dict.fromkeys(cached, RedisAnswers(settings.answers))
    return {name: MemoryAnswers(cache.most) for name, cache in cached.items()}


async def _watch(journal: Journal, metrics: Metrics) -> None:
    while True:
        metrics.flush()
        metrics.journal(lost=journal.lost, refused=journal.refused, short=journal.short)
        await asyncio.sleep(1)


class _Follower:
    """Reads the state on a thread, so that loading a version never holds up an answer."""

    def __init__(
        self, routes: Routes, serving_folder: Path, followed: Callable[[], object]
    ) -> None:
        self._routes = routes
        self._folder = serving_folder
        self._followed = followed
        self._seen: State | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timonel-follow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=_DRAIN_SECONDS)

    def step(self) -> None:
        """Follow the state when it changed, or when a version did not load last time."""
        state = read_state(self._folder)
        if state is not None and (state != self._seen or not self._routes.settled()):
            self._routes.follow(state)
            self._seen = state
            self._followed()

    def _run(self) -> None:
        while not self._stop.wait(_FOLLOW_SECONDS):
            self.step()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM, then finish what is being answered."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="timonel.serving.worker")
    parser.add_argument("projects", nargs="+")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--boot", required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--at-root", action="store_true")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    app = worker_app(
        [load_project(name) for name in given.projects],
        Settings(),
        at_root=given.at_root,
        worker=given.worker,
        boot=given.boot,
        link=Link(socket.socket(fileno=given.channel)),
    )
    listener = socket.socket(fileno=given.socket)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
    )
    watch = threading.Thread(target=_end_with_parent, args=(server, given.parent), daemon=True)
    watch.start()
    server.run(sockets=[listener])


def _end_with_parent(server: "uvicorn.Server", parent: int) -> None:
    """An orphan would hold the port and a journal that nobody exports."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(0.5)
    server.should_exit = True


if __name__ == "__main__":
    main()
