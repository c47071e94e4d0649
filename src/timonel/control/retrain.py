"""Projects trained anew by themselves: the rule is asked, its answers are kept, runs are begun.

A run is decided in the database first, under an id that it is then begun with. Whoever finds such a
decision without its run begins it again: there is only one run of an id, whatever was killed.
"""

import logging
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import takewhile
from typing import Protocol

from timonel.control.rule import Decision, Signals, Situation, decide
from timonel.errors import NotFound, TimonelError
from timonel.ids import Ids, span
from timonel.project import Project
from timonel.settings import Settings
from timonel.stores.checks import OPEN, Check, Checks
from timonel.stores.database import Database
from timonel.stores.decisions import Decided, Decisions
from timonel.stores.labels import Labels
from timonel.stores.rollouts import Rollouts
from timonel.stores.runs import Run, Runs
from timonel.stores.versions import Version, Versions

__all__ = ["Begin", "Process", "Retraining", "begin_process"]

_log = logging.getLogger(__name__)

_WHO = "controller"
_EVERY = 5.0  # seconds between two evaluations
_KEPT_EVERY = 3_600.0  # seconds after which one that changed nothing is kept as well
_WEEK = 7 * 86_400.0


class Process(Protocol):
    """A run's process, as far as it is asked."""

    def poll(self) -> int | None:
        """Its exit code once it ended."""
        ...


Begin = Callable[[Project, str, Sequence[str], float | None], Process]
"""Begins a run, given its id, the models, and from when on live rows are wanted."""


def begin_process(settings: Settings) -> Begin:
    """Runs as processes of their own, which go on when the controller ends."""

    def begin(project: Project, run_id: str, models: Sequence[str], since: float | None) -> Process:
        command = [sys.executable, "-m", "timonel", "run", project.reference, "--json"]
        command += ["--with-feedback", "--run-id", run_id, "--who", _WHO]
        command += [part for model in models for part in ("--model", model)]
        if since is not None:
            command += ["--feedback-since", datetime.fromtimestamp(since, UTC).isoformat()]
        settings.logs_folder.mkdir(parents=True, exist_ok=True)
        with (settings.logs_folder / f"run-{project.name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | settings.environment_variables(),
                start_new_session=True,
            )

    return begin


class Retraining:
    """Asks the rule for each project whose `Retrain` names what calls for it."""

    def __init__(
        self,
        projects: Sequence[Project],
        database: Database,
        begin: Begin,
        *,
        ids: Callable[[], uuid.UUID] | None = None,
    ) -> None:
        self._projects = [project for project in projects if project.retrain.on]
        self._database = database
        self._begin = begin
        self._ids = ids or Ids()
        self._versions, self._rollouts = Versions(database), Rollouts(database)
        self._checks, self._decisions = Checks(database), Decisions(database)
        self._labels, self._runs = Labels(database), Runs(database)
        self._begun: dict[str, Process] = {}
        self._asked: dict[str, float] = {}

    def tick(self) -> Sequence[Decision]:
        """Evaluate each project that it is time for; what was decided, whether or not it is new."""
        decided = []
        now = self._database.clock()
        for project in self._projects:
            if now - self._asked.get(project.name, float("-inf")) < _EVERY:
                continue
            self._asked[project.name] = now
            try:
                decided.append(self._evaluate(project, now))
            except TimonelError as error:  # one project's trouble must not stop the others
                _log.warning("Whether to train %s anew is not known: %s", project.name, error)
        return decided

    def _evaluate(self, project: Project, now: float) -> Decision:
        starting = self._settle(project)
        decision = decide(self._situation(project, now, starting), project.retrain)
        if decision.act == "retrain":
            run_id = str(self._ids())
            self._keep(project, decision, run_id)
            self._start(project, run_id, decision.models, decision.since)
        elif self._is_news(project, decision, now):
            self._keep(project, decision, None)
        return decision

    def _is_news(self, project: Project, decision: Decision, now: float) -> bool:
        for former in self._decisions.list(project.name, limit=20):
            if former.act != "ended":
                same = former.evidence.get("key") == list(decision.key)
                return not same or now - former.at >= _KEPT_EVERY
        return True

    def _keep(self, project: Project, decision: Decision, run_id: str | None) -> None:
        evidence = {
            **dict(decision.evidence),
            "key": list(decision.key),
            "called": list(decision.called),
            "train": list(decision.models),
            "since": decision.since,
        }
        self._decisions.add(
            project.name, decision.act, decision.sentence, evidence, who=_WHO, run_id=run_id
        )
        _log.info("%s: %s. %s", project.name, decision.act, decision.sentence)

    def _start(
        self, project: Project, run_id: str, models: Sequence[str], since: float | None
    ) -> None:
        try:
            self._begun[run_id] = self._begin(project, run_id, models, since)
        except OSError as error:
            self._end(project, run_id, f"Run {run_id} could not begin: {error}.", {})

    def _settle(self, project: Project) -> str | None:
        """See to the last run that was decided; its id while it is about to begin."""
        newest = next(iter(self._decisions.list(project.name, act="retrain", limit=1)), None)
        if newest is None or newest.run_id is None or self._told(project, newest.run_id):
            return None
        run_id, process = newest.run_id, self._begun.get(newest.run_id)
        run = self._run(run_id)
        if run is not None:
            if process is not None:
                process.poll()  # lets the system forget it
            self._tell_end(project, run)
            return None
        code = None if process is None else process.poll()
        if code is not None:
            told = (
                f"Run {run_id} ended with code {code} before it began; see run-{project.name}.log."
            )
            self._end(project, run_id, told, {"code": code})
            return None
        if process is None:  # whoever decided it was ended before, or just after, it began it
            self._start(project, run_id, newest.evidence["train"], newest.evidence["since"])
        return run_id

    def _told(self, project: Project, run_id: str) -> bool:
        ended = self._decisions.list(project.name, act="ended", limit=1)
        return bool(ended) and ended[0].run_id == run_id

    def _tell_end(self, project: Project, run: Run) -> None:
        gone = run.status == "running" and self._runs.is_over(run, socket.gethostname())
        if run.finished is None and not gone:
            return
        minutes = ((run.finished or run.beat) - run.started) / 60
        status = "was ended from outside" if gone else run.status
        sentence = f"Run {run.id} {status} after {minutes:.1f} minutes: {run.reason or 'no reason'}"
        evidence = {"status": "failed" if gone else run.status, "minutes": minutes}
        self._end(project, run.id, sentence, evidence)

    def _end(
        self, project: Project, run_id: str, sentence: str, evidence: Mapping[str, object]
    ) -> None:
        self._begun.pop(run_id, None)
        self._decisions.add(project.name, "ended", sentence, evidence, who=_WHO, run_id=run_id)
        _log.info("%s: %s", project.name, sentence)

    def _situation(self, project: Project, now: float, starting: str | None) -> Situation:
        name, policy = project.name, project.retrain
        champions = [
            champion
            for model in project.models
            if callable(model.recipe)
            and (champion := self._versions.champion(name, model.name)) is not None
        ]
        models = tuple(self._signals(champion, policy.windows) for champion in champions)
        runs = self._runs.list(name, limit=1)
        active = self._runs.active(name)
        going = active is not None and not self._runs.is_over(active, socket.gethostname())
        trained = max(
            [*(one.created for one in champions), *(run.started for run in runs)] or [now]
        )
        began = min((one.since for one in models if one.since is not None), default=None)
        week = self._decisions.list(name, act="retrain", since=now - _WEEK, limit=10_000)
        return Situation(
            now=now,
            models=models,
            trained=trained,
            labelled=self._labelled(name, trained, now),
            drifting=0 if began is None else self._labelled(name, began, now),
            recent=self._labelled(name, now - policy.back, now),
            starting=starting,
            running=active.id if active is not None and going else None,
            rollout=self._moving(name),
            ended=self._last_end(name, runs),
            runs=len(week),
            minutes=sum(self._minutes(decided) for decided in week),
        )

    def _signals(self, champion: Version, asked: int) -> Signals:
        names = (champion.project, champion.model)
        found = self._in_a_row(champion, max(20, 3 * asked))
        accuracy = self._checks.newest(*names, "accuracy")
        known = {}
        if accuracy is not None and accuracy.detail.get("version") == champion.label:
            known = {key: accuracy.detail[key] for key in ("live", "low", "high", "held")}
        return Signals(
            model=champion.model,
            windows=len(found),
            severity=min((check.detail["severity"] for check in found[:asked]), default=0.0),
            since=_began(found[-1]) if found else None,
            **known,
        )

    def _in_a_row(self, champion: Version, looked: int) -> list[Check]:
        """Its newest windows in which drift was found, up to one without; newest first."""
        while True:
            listed = self._checks.list(champion.project, champion.model, "drift", limit=looked)
            found = list(
                takewhile(
                    lambda one: one.detail.get("version") == champion.label and one.verdict != "ok",
                    listed,
                )
            )
            if len(found) < looked:
                return [check for check in found if check.verdict != OPEN]
            looked *= 4  # drift that began longer ago than that began then all the same

    def _labelled(self, project: str, since: float, until: float) -> int:
        return self._labels.count_between(project, *span(since, until))

    def _moving(self, project: str) -> str | None:
        for rollout in self._rollouts.active():
            if rollout.project == project:
                return f"{rollout.project}/{rollout.model}@{rollout.challenger}"
        return None

    def _last_end(self, project: str, runs: Sequence[Run]) -> float | None:
        ends = [decided.at for decided in self._decisions.list(project, act="ended", limit=1)]
        ends += [run.finished for run in runs if run.finished is not None]
        return max(ends, default=None)

    def _minutes(self, decided: Decided) -> float:
        run = None if decided.run_id is None else self._run(decided.run_id)
        return 0.0 if run is None else ((run.finished or run.beat) - run.started) / 60

    def _run(self, run_id: str) -> Run | None:
        with suppress(NotFound):
            return self._runs.get(run_id)
        return None


def _began(check: Check) -> float:
    """When the drift of a window began, as far as its columns tell."""
    told = [
        column["since"]
        for column in check.detail.get("columns", ())
        if column["drifted"] and column["since"] is not None
    ]
    return min(told, default=check.first_time)
