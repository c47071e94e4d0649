"""`timonel.asgi:app`, for any ASGI server: `TIMONEL_PROJECTS=titanic uvicorn timonel.asgi:app`.

The process does for itself what the supervisor does for workers: it follows the database, exports
the journal and runs pipelines. Several such processes may share a home.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

    from timonel.project import Project
    from timonel.serving.channel import RunReply, Serves
    from timonel.settings import Settings

__all__ = ["build"]


def build() -> "FastAPI":
    """The application of the projects that TIMONEL_PROJECTS names; a single one at the root."""
    from timonel.ids import Ids
    from timonel.project import load_project
    from timonel.serving.worker import worker_app
    from timonel.settings import Settings

    settings = Settings()
    names = [name.strip() for name in settings.projects.split(",") if name.strip()]
    projects = [load_project(name) for name in names]
    return worker_app(
        projects,
        settings,
        at_root=len(projects) == 1,
        worker=str(os.getpid()),
        boot=Ids()().hex,
        link=_InProcess(projects, settings),
    )


class _InProcess:
    """What a supervisor is to its workers, in the process that answers."""

    def __init__(self, projects: "Sequence[Project]", settings: "Settings") -> None:
        from timonel.serving.launcher import Launcher
        from timonel.serving.operator import PipelineOperator
        from timonel.serving.upkeep import Upkeep

        self._serves: frozenset[str] = frozenset()
        self._launcher = Launcher(settings, lambda project, line: None)
        self._operator = PipelineOperator(
            settings, projects, self._launcher, lambda labels: labels <= self._serves
        )
        self._upkeep = Upkeep(settings, projects, self._operator.adopt, routed=lambda: self._serves)

    async def open(self) -> None:
        """Begin to follow the database and to export the journal."""
        await asyncio.to_thread(self._upkeep.start)

    async def close(self) -> None:
        """End the runs that go on, and export what the journal still holds."""
        await asyncio.to_thread(self._launcher.stop)
        await asyncio.to_thread(self._upkeep.stop)

    def say_ready(self) -> None:
        """Nobody waits for it."""

    def say_serves(self, serves: "Serves") -> None:
        """Keep which versions answer."""
        self._serves = frozenset(serves.labels)

    async def run(self, project: str, *, wait: bool) -> "RunReply":
        """Run a project's pipeline in a process of its own; see `Operator`."""
        from timonel.serving.channel import AskRun

        loop = asyncio.get_running_loop()
        replied: asyncio.Future[RunReply] = loop.create_future()

        def settle(answer: "RunReply") -> None:
            if not replied.done():  # whoever asked may have gone
                replied.set_result(answer)

        def reply(answer: "RunReply") -> None:
            loop.call_soon_threadsafe(settle, answer)

        self._operator.asked(AskRun(0, project, wait), reply)
        return await replied


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module 'timonel.asgi' has no attribute {name!r}")
    # Built when a server asks for it: importing this module does nothing.
    globals()["app"] = build()
    return globals()["app"]
