"""Runs of the pipeline and their steps: one at a time for each project, and what each gave."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, update

from timonel.errors import Busy, NotFound, RunFailed
from timonel.stores import tables
from timonel.stores.database import Database
from timonel.stores.events import record

__all__ = ["Run", "RunStatus", "Runs", "Step", "StepStatus", "process_lives"]

RunStatus = Literal["running", "succeeded", "refused", "failed", "stopped"]
StepStatus = Literal["running", "succeeded", "cached", "failed"]

_SILENCE = 60.0  # seconds without a beat after which a run's process counts as ended


@dataclass(frozen=True, kw_only=True)
class Run:
    """One pass of the pipeline. `started`, `beat`, `finished`: seconds since 1970, UTC."""

    id: str
    project: str
    status: RunStatus
    who: str
    pid: int
    host: str
    parameters: dict[str, Any]
    reason: str | None
    started: float
    beat: float
    finished: float | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a run, the `position`th to begin.

    `key`: the hash of all that it depends on; `share`: how much is done, 0..1.
    """

    run_id: str
    name: str
    position: int
    status: StepStatus
    key: str | None
    output: dict[str, Any] | None
    note: str | None
    share: float | None
    started: float
    changed: float


def process_lives(pid: int) -> bool:
    """Whether this host has a process `pid`, whoever owns it."""
    try:
        with suppress(PermissionError):  # another user's process lives as well
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Runs:
    """The runs in the database. `lives` tells whether a process of this host is there."""

    def __init__(self, database: Database, *, lives: Callable[[int], bool] = process_lives) -> None:
        self._database = database
        self._lives = lives

    def start(
        self,
        project: str,
        *,
        run_id: str,
        who: str,
        pid: int,
        host: str,
        parameters: Mapping[str, Any],
    ) -> Run:
        """Begin the project's one active run.

        Raises Busy, naming the other run, while another is active. A run whose process is gone
        from this `host`, or that has been silent for a minute, is marked failed and makes way.
        """
        now = self._database.clock()
        with self._database.begin() as connection:
            if (other := _active(connection, project)) is not None:
                if not self.is_over(other, host):
                    raise Busy(
                        f"Expected no active run of {project}, got run {other.id}, started by "
                        f"{other.who} (process {other.pid} on {other.host}).",
                        remedy="Wait for it to end, or stop it.",
                    )
                _finish(connection, other, "failed", "its process ended", who, now)
            run = Run(
                id=run_id,
                project=project,
                status="running",
                who=who,
                pid=pid,
                host=host,
                parameters=dict(parameters),
                reason=None,
                started=now,
                beat=now,
                finished=None,
            )
            connection.execute(insert(tables.runs).values(**vars(run)))
            _record(connection, run, None, "running", who, now, {"parameters": run.parameters})
        return run

    def is_over(self, run: Run, host: str) -> bool:
        """Whether a run that counts as running is not: its process is gone from `host`, or silent.

        Nobody closed its record; the project's next run does.
        """
        gone = run.host == host and not self._lives(run.pid)
        return gone or self._database.clock() - run.beat > _SILENCE

    def beat(self, run_id: str) -> None:
        """Say that the run's process lives. Raises RunFailed when the run has been ended."""
        now = self._database.clock()
        with self._database.begin() as connection:
            _running(connection, run_id)
            connection.execute(
                update(tables.runs).where(tables.runs.c.id == run_id).values(beat=now)
            )

    def step(
        self,
        run_id: str,
        name: str,
        *,
        status: StepStatus,
        key: str | None = None,
        output: Mapping[str, Any] | None = None,
        note: str | None = None,
        share: float | None = None,
    ) -> Step:
        """Record a step or its progress; what is None stays as it was. It is a beat as well.

        Raises RunFailed when the run has been ended.
        """
        now = self._database.clock()
        given = {"key": key, "output": output, "note": note, "share": share}
        values = {name: value for name, value in given.items() if value is not None}
        table = tables.steps
        same = (table.c.run_id == run_id) & (table.c.name == name)
        with self._database.begin() as connection:
            _running(connection, run_id)
            changed = connection.execute(
                update(table).where(same).values(status=status, changed=now, **values)
            )
            if not changed.rowcount:
                before = select(func.count()).where(table.c.run_id == run_id).scalar_subquery()
                connection.execute(
                    insert(table).values(
                        run_id=run_id,
                        name=name,
                        position=before,
                        status=status,
                        started=now,
                        changed=now,
                        **values,
                    )
                )
            connection.execute(
                update(tables.runs).where(tables.runs.c.id == run_id).values(beat=now)
            )
            return Step(**connection.execute(select(table).where(same)).mappings().one())

    def finish(self, run_id: str, *, status: RunStatus, reason: str, who: str | None = None) -> Run:
        """End the run. `who` did it, if not who started it. Raises RunFailed when it has ended."""
        now = self._database.clock()
        with self._database.begin() as connection:
            run = _running(connection, run_id)
            _finish(connection, run, status, reason, who or run.who, now)
            return _get(connection, run_id)

    def output_of(self, key: str) -> dict[str, Any] | None:
        """What the newest finished step with this key gave, in whichever run; None if none did."""
        table = tables.steps.c
        query = (
            select(table.output)
            .where(
                table.key == key,
                table.status.in_(("succeeded", "cached")),
                table.output.is_not(None),
            )
            .order_by(table.changed.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            output: dict[str, Any] | None = connection.execute(query).scalar_one_or_none()
        return output

    def active(self, project: str) -> Run | None:
        """The run that is under way, or None."""
        with self._database.read() as connection:
            return _active(connection, project)

    def get(self, run_id: str) -> Run:
        """One run. Raises NotFound."""
        with self._database.read() as connection:
            return _get(connection, run_id)

    def list(self, project: str | None = None, limit: int = 20) -> Sequence[Run]:
        """The newest runs, newest first."""
        table = tables.runs
        query = select(table).order_by(table.c.started.desc(), table.c.id.desc()).limit(limit)
        if project is not None:
            query = query.where(table.c.project == project)
        with self._database.read() as connection:
            return [Run(**row) for row in connection.execute(query).mappings()]

    def steps(self, run_id: str) -> Sequence[Step]:
        """The run's steps in the order in which they began."""
        table = tables.steps
        query = select(table).where(table.c.run_id == run_id).order_by(table.c.position)
        with self._database.read() as connection:
            return [Step(**row) for row in connection.execute(query).mappings()]


def _active(connection: Connection, project: str) -> Run | None:
    table = tables.runs
    query = select(table).where(table.c.project == project, table.c.status == "running")
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Run(**row)


def _get(connection: Connection, run_id: str) -> Run:
    query = select(tables.runs).where(tables.runs.c.id == run_id)
    if (row := connection.execute(query).mappings().one_or_none()) is None:
        raise NotFound(f"Expected the id of a run, got {run_id}, which there is not.")
    return Run(**row)


def _running(connection: Connection, run_id: str) -> Run:
    run = _get(connection, run_id)
    if run.status != "running":
        raise RunFailed(
            f"Expected run {run_id} of {run.project} to be running, got {run.status}: {run.reason}."
        )
    return run


def _finish(
    connection: Connection, run: Run, status: RunStatus, reason: str, who: str, now: float
) -> None:
    connection.execute(
        update(tables.runs)
        .where(tables.runs.c.id == run.id)
        .values(status=status, reason=reason, finished=now)
    )
    _record(connection, run, run.status, status, who, now, {"reason": reason})


def _record(
    connection: Connection,
    run: Run,
    before: RunStatus | None,
    after: RunStatus,
    who: str,
    now: float,
    evidence: Mapping[str, Any],
) -> None:
    record(
        connection,
        at=now,
        who=who,
        kind="run",
        subject=f"{run.project}/runs/{run.id}",
        before=before,
        after=after,
        evidence=evidence,
    )
