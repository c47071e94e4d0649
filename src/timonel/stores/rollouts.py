"""The rollouts: which version is on its way to being champion, how far it is, and how it ended.

Each change is one transaction: the rollout's, the versions' that it moves, and their events.
"""

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update

from timonel.errors import BadRequest, Busy, NotFound
from timonel.rollouts import AllAtOnce, Rollout, Shadow, plan_from_dict, plan_to_dict
from timonel.stores import tables
from timonel.stores.database import Database, raise_generation
from timonel.stores.events import record
from timonel.stores.versions import moved, rolled_back

__all__ = ["ACTIVE", "Rollouts", "Standing", "State"]

State = Literal["running", "paused", "watching", "promoted", "rolled_back", "aborted", "ended"]
"""`watching`: promoted, and may still be rolled back. The last four are ends."""

ACTIVE: tuple[State, ...] = ("running", "paused", "watching")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One rollout. `share` of the live requests goes to the challenger, `mirror` is shown to it.

    `champion` is the number of the version that it started against, and goes back to. `since` is
    when the present step or watch began; times are seconds since 1970, UTC.
    """

    id: str
    project: str
    model: str
    challenger: int
    champion: int
    plan: Rollout
    state: State
    step: int
    share: float
    mirror: float
    who: str
    reason: str
    evidence: dict[str, Any]
    started: float
    since: float
    finished: float | None

    @property
    def is_active(self) -> bool:
        """Whether it may still change what serves."""
        return self.state in ACTIVE

    @property
    def label(self) -> str:
        """The version on its way, such as `digits/cnn@4`."""
        return f"{self.project}/{self.model}@{self.challenger}"


class Rollouts:
    """The rollouts in the database.

    Methods that change one raise NotFound for an unknown id, and Busy when it is no longer in a
    state that the change starts from: somebody else was first.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(
        self,
        project: str,
        model: str,
        challenger: int,
        plan: Rollout,
        *,
        id: str,
        share: float,
        mirror: float,
        who: str,
        reason: str,
    ) -> Standing:
        """Begin to move traffic to a challenger; all at once makes it champion right away.

        Raises:
            Busy: another rollout of the model is going on.
            BadRequest: the version is no challenger, or there is no champion to compare it with.
        """
        now = self._database.clock()
        with self._database.begin() as connection:
            other = _active(connection, project, model)
            if other is not None:
                raise Busy(
                    f"Expected no rollout of {project}/{model}, got that of {other.label} "
                    f"({other.state}).",
                    remedy=f"Wait for it, or end it: timonel rollout abort {project}/{model}",
                )
            champion = _number_of_champion(connection, project, model)
            state = _state_of(connection, project, model, challenger)
            if champion is None:
                raise BadRequest(
                    f"Expected a champion of {project}/{model} to compare with, got none.",
                    remedy=f"Promote it: timonel promote {project}/{model}@{challenger}",
                )
            if state != "challenger":
                raise BadRequest(
                    f"Expected a challenger, got {project}/{model}@{challenger}, which is {state}.",
                    remedy="See those there are with: timonel models list",
                )
            connection.execute(
                insert(tables.rollouts).values(
                    id=id,
                    project=project,
                    model=model,
                    challenger=challenger,
                    champion=champion,
                    plan=plan_to_dict(plan),
                    state="running",
                    step=0,
                    share=share,
                    mirror=mirror,
                    who=who,
                    reason=reason,
                    evidence={},
                    started=now,
                    since=now,
                )
            )
            standing = _get(connection, id)
            first = {"step": 0, "share": share, "mirror": mirror}
            _record(connection, standing, None, "running", now, who, reason, first)
            raise_generation(connection)
            if isinstance(plan, AllAtOnce):
                return _promote(connection, standing, now, who, reason, {})
            return standing

    def step(
        self,
        id: str,
        step: int,
        *,
        share: float,
        mirror: float,
        who: str,
        reason: str,
        evidence: Mapping[str, Any],
    ) -> Standing:
        """Go on to step `step`, the one after the present one."""
        now = self._database.clock()
        with self._database.begin() as connection:
            standing = _expect(connection, id, ("running",))
            if standing.step != step - 1:
                raise Busy(f"Expected {standing.label} at step {step - 1}, got {standing.step}.")
            _set(
                connection,
                id,
                step=step,
                share=share,
                mirror=mirror,
                since=now,
                reason=reason,
                evidence=dict(evidence),
            )
            proof = {**evidence, "step": step, "share": share, "mirror": mirror}
            _record(connection, standing, "running", "running", now, who, reason, proof)
            raise_generation(connection)
            return _get(connection, id)

    def pause(self, id: str, *, who: str, reason: str) -> Standing:
        """Stay at the present share until `resume`; a breach still rolls back."""
        return self._turn(id, "running", "paused", who, reason)

    def resume(self, id: str, *, who: str, reason: str) -> Standing:
        """Go on; the present step's time begins anew."""
        return self._turn(id, "paused", "running", who, reason)

    def note(self, id: str, *, reason: str, evidence: Mapping[str, Any]) -> None:
        """Keep what is known so far, for those who watch; no event, nothing changes."""
        with self._database.begin() as connection:
            if _get(connection, id).is_active:
                _set(connection, id, reason=reason, evidence=dict(evidence))

    def promote(
        self,
        id: str,
        *,
        who: str,
        reason: str,
        evidence: Mapping[str, Any],
    ) -> Standing:
        """Make the challenger champion; with a watch in the plan it may still be rolled back."""
        now = self._database.clock()
        with self._database.begin() as connection:
            standing = _expect(connection, id, ("running", "paused"))
            return _promote(connection, standing, now, who, reason, evidence)

    def roll_back(
        self,
        id: str,
        *,
        who: str,
        reason: str,
        evidence: Mapping[str, Any],
    ) -> Standing:
        """Put the challenger out of service for good; the champion of the start answers all."""
        now = self._database.clock()
        with self._database.begin() as connection:
            standing = _expect(connection, id, ACTIVE)
            names = (standing.project, standing.model, standing.challenger)
            if standing.state == "watching":
                rolled_back(
                    connection,
                    names,
                    standing.champion,
                    at=now,
                    who=who,
                    reason=reason,
                    evidence={"rollout": id},
                )
            else:
                moved(
                    connection,
                    names,
                    "rolled_back",
                    at=now,
                    who=who,
                    reason=reason,
                    evidence={"rollout": id},
                )
            return _finish(connection, standing, "rolled_back", now, who, reason, evidence)

    def settle(
        self,
        id: str,
        *,
        who: str,
        reason: str,
        evidence: Mapping[str, Any],
    ) -> Standing:
        """End the watch after a promotion: the version stays champion."""
        now = self._database.clock()
        with self._database.begin() as connection:
            standing = _expect(connection, id, ("watching",))
            return _finish(connection, standing, "promoted", now, who, reason, evidence)

    def end(
        self,
        id: str,
        *,
        who: str,
        reason: str,
        evidence: Mapping[str, Any],
    ) -> Standing:
        """End a comparison that promotes nothing: the version stays challenger."""
        now = self._database.clock()
        with self._database.begin() as connection:
            standing = _expect(connection, id, ("running", "paused"))
            return _finish(connection, standing, "ended", now, who, reason, evidence)

    def abort(self, id: str, *, who: str, reason: str) -> Standing:
        """Stop by hand: before a promotion the challenger is retired, and may be tried again.

        A watch just ends; what serves stays.
        """
        now = self._database.clock()
        with self._database.begin() as connection:
            standing = _expect(connection, id, ACTIVE)
            names = (standing.project, standing.model, standing.challenger)
            if _state_of(connection, *names) == "challenger":
                proof = {"rollout": id}
                moved(connection, names, "retired", at=now, who=who, reason=reason, evidence=proof)
            return _finish(connection, standing, "aborted", now, who, reason, standing.evidence)

    def get(self, id: str) -> Standing:
        """One rollout. Raises NotFound."""
        with self._database.read() as connection:
            return _get(connection, id)

    def active(self, project: str | None = None) -> Sequence[Standing]:
        """Those going on, by project and model."""
        table = tables.rollouts.c
        query = (
            select(tables.rollouts)
            .where(table.state.in_(ACTIVE))
            .order_by(table.project, table.model)
        )
        if project is not None:
            query = query.where(table.project == project)
        with self._database.read() as connection:
            return [_standing(row) for row in connection.execute(query).mappings()]

    def list(
        self, project: str | None = None, model: str | None = None, limit: int = 20
    ) -> Sequence[Standing]:
        """The newest `limit`, newest first."""
        table = tables.rollouts.c
        query = select(tables.rollouts).order_by(table.started.desc(), table.id.desc()).limit(limit)
        if project is not None:
            query = query.where(table.project == project)
        if model is not None:
            query = query.where(table.model == model)
        with self._database.read() as connection:
            return [_standing(row) for row in connection.execute(query).mappings()]

    def _turn(self, id: str, before: State, after: State, who: str, reason: str) -> Standing:
        now = self._database.clock()
        with self._database.begin() as connection:
            standing = _expect(connection, id, (before,))
            _set(connection, id, state=after, since=now, reason=reason)
            _record(connection, standing, before, after, now, who, reason, {})
            return _get(connection, id)


def _promote(
    connection: Connection,
    standing: Standing,
    now: float,
    who: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> Standing:
    moved(
        connection,
        (standing.project, standing.model, standing.challenger),
        "champion",
        at=now,
        who=who,
        reason=reason,
        evidence={"rollout": standing.id},
        over=standing.champion,
    )
    plan = standing.plan
    if isinstance(plan, Shadow) or not plan.watch:
        return _finish(connection, standing, "promoted", now, who, reason, evidence)
    _set(
        connection,
        standing.id,
        state="watching",
        share=0.0,
        mirror=0.0,
        since=now,
        reason=reason,
        evidence=dict(evidence),
    )
    _record(connection, standing, standing.state, "watching", now, who, reason, evidence)
    return _get(connection, standing.id)


def _finish(
    connection: Connection,
    standing: Standing,
    state: State,
    now: float,
    who: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> Standing:
    _set(
        connection,
        standing.id,
        state=state,
        share=0.0,
        mirror=0.0,
        finished=now,
        reason=reason,
        evidence=dict(evidence),
    )
    _record(connection, standing, standing.state, state, now, who, reason, evidence)
    raise_generation(connection)
    return _get(connection, standing.id)


def _record(
    connection: Connection,
    standing: Standing,
    before: State | None,
    after: State,
    now: float,
    who: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> None:
    record(
        connection,
        at=now,
        who=who,
        kind="rollout",
        subject=standing.label,
        before=before,
        after=after,
        evidence={**evidence, "reason": reason, "rollout": standing.id},
    )


def _set(connection: Connection, id: str, **values: Any) -> None:
    table = tables.rollouts
    connection.execute(update(table).where(table.c.id == id).values(**values))


def _expect(connection: Connection, id: str, states: builtins.tuple[State, ...]) -> Standing:
    standing = _get(connection, id)
    if standing.state not in states:
        raise Busy(
            f"Expected the rollout of {standing.label} to be {' or '.join(states)}, got "
            f"{standing.state}.",
            remedy=f"See it with: timonel rollout status {standing.project}/{standing.model}",
        )
    return standing


def _get(connection: Connection, id: str) -> Standing:
    query = select(tables.rollouts).where(tables.rollouts.c.id == id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"Expected a rollout, got {id!r}, which there is not.")
    return _standing(row)


def _active(connection: Connection, project: str, model: str) -> Standing | None:
    table = tables.rollouts.c
    query = select(tables.rollouts).where(
        table.project == project, table.model == model, table.state.in_(ACTIVE)
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _standing(row)


def _standing(row: Mapping[Any, Any]) -> Standing:
    return Standing(**{**row, "plan": plan_from_dict(row["plan"])})


def _number_of_champion(connection: Connection, project: str, model: str) -> int | None:
    table = tables.versions.c
    return connection.execute(
        select(table.number).where(
            table.project == project, table.model == model, table.state == "champion"
        )
    ).scalar_one_or_none()


def _state_of(connection: Connection, project: str, model: str, number: int) -> str:
    table = tables.versions.c
    query = select(table.state).where(
        table.project == project, table.model == model, table.number == number
    )
    found = connection.execute(query).scalar_one_or_none()
    if found is None:
        raise NotFound(
            f"Expected a version, got {project}/{model}@{number}, which there is not.",
            remedy="See those there are with: timonel models list",
        )
    return str(found)
