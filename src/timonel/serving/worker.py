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
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI

from timonel.errors import NotReady
from timonel.journal.append import Journal
from timonel.project import Project, load_project
from timonel.serving.answer import Answerer
from timonel.serving.app import Application, build_app
from timonel.serving.cache import AnswerCache
from timonel.serving.channel import Link, Supervision
from timonel.serving.door import Door, Rules
from timonel.serving.feedback import FeedbackDesk, classes_of, recorder
from timonel.serving.follow import Follower
from timonel.serving.keyring import Keyring
from timonel.serving.load import Refusals, most_of
from timonel.serving.metrics import Metrics
from timonel.serving.mirror import Mirror
from timonel.serving.predict import Predictor
from timonel.serving.protocols.entrance import Entrance
from timonel.serving.recorder import JournalRecorder
from timonel.serving.routing import Routes
from timonel.serving.rows import RowReader
from timonel.serving.watch import Watch
from timonel.settings import Settings
from timonel.stores.answers import Answers, MemoryAnswers, RedisAnswers

if TYPE_CHECKING:
    import uvicorn

__all__ = ["main", "worker_app"]

_DRAIN_SECONDS = 10
_PATIENCE = 10.0


def worker_app(
    projects: Sequence[Project],
    settings: Settings,
    *,
    at_root: bool,
    worker: str = "0",
    boot: str = "boot",
    link: Supervision | None = None,
    patience: float = _PATIENCE,
    must: frozenset[str] = frozenset(),
    told: str = "",
) -> Application:
    """The application of one worker; `link` connects it with who supervises it.

    It begins to answer when every champion is loaded, or after `patience` seconds with those that
    are; without one of the models in `must`, such as "digits/cnn", it does not begin, nor before
    the server `told` has told what is to be served.
    """
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
    recorded = JournalRecorder(journal, settings.environment)
    watch = Watch(routes, settings.serving_folder, worker)
    mirror = Mirror(recorded)
    metrics = Metrics(watch)
    refusals = Refusals(metrics.refused)
    most_waiting = settings.max_waiting
    answers = _answers(projects, settings)
    caches = {
        project.name: AnswerCache(project.cache, answers[project.name])
        for project in projects
        if project.cache
    }
    ways = [
        (
            Answerer(
                project,
                routes,
                recorded,
                metrics,
                cache=caches.get(project.name),
                mirror=mirror,
            ),
            RowReader(project, settings.max_rows),
        )
        for project in projects
    ]
    predictors = [
        Predictor(
            answerer,
            reader,
            max_body=settings.max_body,
            max_pixels=settings.max_pixels,
            max_table_rows=settings.max_table_rows,
        )
        for answerer, reader in ways
    ]
    desks = [
        FeedbackDesk(
            project,
            partial(classes_of, project, routes),
            recorder(journal),
            metrics,
            max_body=settings.max_body,
            max_rows=settings.max_rows,
            max_table_rows=settings.max_table_rows,
        )
        for project in projects
    ]
    entrances = [
        Entrance(answerer, reader, max_body=settings.max_body, max_rows=settings.max_rows)
        for answerer, reader in ways
    ]

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        await link.open()
        follower = Follower(
            routes,
            settings.serving_folder,
            lambda serves: loop.call_soon_threadsafe(link.say_serves, serves),
        )
        await asyncio.to_thread(follower.first, patience, told)
        lacking = must.intersection(routes.unanswered())
        if lacking:
            raise NotReady(f"Worker {worker} cannot answer for {', '.join(sorted(lacking))}.")
        follower.start()
        link.say_ready()
        for kept in set(answers.values()):
            kept.start()
        counting = asyncio.create_task(_watch(journal, metrics))
        try:
            yield
        finally:
            counting.cancel()
            follower.stop()
            for cache in caches.values():
                await cache.close()
            for kept in set(answers.values()):
                await kept.close()
            await mirror.close()
            journal.close()
            metrics.flush()
            await link.close()

    rules = Rules.of(settings, projects, at_root=at_root)
    app = build_app(
        projects,
        predictors,
        routes,
        metrics,
        at_root=at_root,
        door=partial(
            Door,
            rules=rules,
            keyring=Keyring(lambda: routes.state.keys, workers=settings.workers),
            most=lambda: most_waiting or most_of(routes.slowest()),
            refused=refusals,
        ),
        entrances=entrances,
        desks=desks,
        origins=[origin for origin in settings.origins.split(",") if origin],
        lifespan=lifespan,
        operator=link,
        troubles=lambda: [
            *(kept.trouble for kept in set(answers.values()) if kept.trouble),
            *watch.troubles(),
            *refusals.troubles(),
        ],
        rules=rules,
    )
    app.recorder = recorded
    return app


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGHUP, then finish what is being answered."""
    import uvicorn

    from timonel.serving.direct import Direct, direct_protocol
    from timonel.serving.drain import DrainingServer

    parser = argparse.ArgumentParser(prog="timonel.serving.worker")
    parser.add_argument("projects", nargs="+")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--boot", required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--at-root", action="store_true")
    parser.add_argument("--patience", type=float, default=_PATIENCE)
    parser.add_argument("--must", default="")
    parser.add_argument("--told", default="")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    app = worker_app(
        [load_project(name) for name in given.projects],
        Settings(),
        at_root=given.at_root,
        worker=given.worker,
        boot=given.boot,
        link=Link(socket.socket(fileno=given.channel)),
        patience=given.patience,
        must=frozenset(filter(None, given.must.split(","))),
        told=given.told,
    )
    listener = socket.socket(fileno=given.socket)
    direct = Direct(app.lean.paths, app.front, app.recorder.then)
    server = DrainingServer(
        uvicorn.Config(
            app,
            http=direct_protocol(direct),
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
