"""Runs that somebody asks a server for, answered when their outcome serves."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from timonel.errors import Busy, NotFound, TimonelError
from timonel.project import Project
from timonel.serving.channel import AskRun, RunReply
from timonel.serving.launcher import Launcher, Ran
from timonel.settings import Settings
from timonel.stores.aliases import Wish
from timonel.stores.database import Database
from timonel.stores.versions import Versions

__all__ = ["PipelineOperator"]

_log = logging.getLogger(__name__)

_FOLLOW_SECONDS = 30.0
_POLL_SECONDS = 0.05
_REFUSED = 4  # the exit code of a run whose version the gate refused

Reply = Callable[[RunReply], None]


class PipelineOperator:
    """Carries out the runs and adoptions that are asked for. Safe to use from several threads.

    `all_serve` tells whether every process that answers serves the versions of these labels.
    """

    def __init__(
        self,
        settings: Settings,
        projects: Sequence[Project],
        launcher: Launcher,
        all_serve: Callable[[frozenset[str]], bool],
    ) -> None:
        self._settings = settings
        self._projects = {project.name: project for project in projects}
        self._launcher = launcher
        self._all_serve = all_serve

    def asked(self, ask: AskRun, reply: Reply) -> None:
        """Begin what is asked, on a thread of its own."""
        threading.Thread(
            target=self.carry_out, args=(ask, reply), name="timonel-operator", daemon=True
        ).start()

    def adopt(self, wish: Wish) -> None:
        """Begin to fulfil what somebody asked for in MLflow, on a thread of its own."""

        def act() -> None:
            # What keeps it from beginning now is met again by the next wish.
            with suppress(TimonelError, OSError):
                project = self._projects[wish.project]
                self._launcher.run(project, [wish.model], command=("adopt",))

        threading.Thread(target=act, name="timonel-adopt", daemon=True).start()

    def carry_out(self, ask: AskRun, reply: Reply) -> None:
        """Run the pipeline anew, and reply once: when it began, or when its outcome serves."""
        began = threading.Event()

        def named(run: str | None) -> None:
            if not ask.wait:
                began.set()
                sentence = f"Run {run} of {ask.project} began."
                reply(RunReply(ask.ticket, 202, sentence, run))

        try:
            project = self._projects.get(ask.project)
            if project is None:
                raise NotFound(f"There is no project {ask.project!r} here.")
            ran = self._launcher.run(project, fresh=True, named=named)
            answer = self._reply_to(ask, project, ran)
        except TimonelError as error:
            answer = RunReply(ask.ticket, error.status, str(error))
        except OSError as error:
            answer = RunReply(ask.ticket, 503, f"The run could not be started: {error}.")
        except Exception:  # noqa: BLE001 (without a reply the caller would wait for ever)
            _log.exception("A run of %s was not carried out", ask.project)
            answer = RunReply(ask.ticket, 500, "The run was not carried out; the log says why.")
        if not began.is_set():
            reply(answer)

    def _reply_to(self, ask: AskRun, project: Project, ran: Ran) -> RunReply:
        if ran.code in (_REFUSED, Busy.exit_code):  # busy: another began in the same moment
            return RunReply(ask.ticket, 409, ran.sentence, ran.run)
        if ran.code != 0:
            sentence = f"Run {ran.run or ''} of {project.name} {ran.status}: {ran.sentence}"
            return RunReply(ask.ticket, 500, sentence, ran.run)
        if not ask.wait or self._followed(project):
            return RunReply(ask.ticket, 200, ran.sentence, ran.run)
        sentence = f"{ran.sentence} Not every worker serves it yet."
        return RunReply(ask.ticket, 503, sentence, ran.run)

    def _followed(self, project: Project) -> bool:
        versions = Versions(Database.open(self._settings.database_url))
        deadline = time.monotonic() + _FOLLOW_SECONDS
        while time.monotonic() < deadline:
            # Asked again each time: another run may have made the next champion meanwhile.
            champions = (versions.champion(project.name, name) for name in project.model_names)
            if self._all_serve(frozenset(champion.label for champion in champions if champion)):
                return True
            time.sleep(_POLL_SECONDS)
        return False
