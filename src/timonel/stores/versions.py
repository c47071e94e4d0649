"""Versions of models: which exist, which state each is in, and which one serves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    and_,
    cast,
    func,
    insert,
    or_,
    select,
    update,
)

from timonel.errors import BadRequest, Busy, NotFound
from timonel.stores import tables
from timonel.stores.database import Database, raise_generation
from timonel.stores.events import record

__all__ = ["ANY", "ARROWS", "EMBEDDED", "State", "Version", "Versions", "moved", "rolled_back"]

State = Literal["candidate", "challenger", "champion", "retired", "refused", "rolled_back"]
"""Where a version is in its life; `refused` and `rolled_back` are ends."""

ARROWS: Mapping[State, tuple[State, ...]] = {
    "candidate": ("challenger", "refused"),
    "challenger": ("champion", "retired", "rolled_back"),
    "champion": ("retired", "rolled_back"),
    "retired": ("challenger", "champion"),
    "refused": (),
    "rolled_back": (),
}
"""The states that each state may move to."""

EMBEDDED = 0
"""The number of the version that ships in the package; the registry gives all others."""

ANY = -1
"""Stands for whichever champion there is."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One immutable trained model. `digest` seals its files, `reason` says why it is in `state`.

    `created`: seconds since 1970, UTC.
    """

    project: str
    model: str
    number: int
    state: State
    digest: str
    run_id: str | None
    reason: str
    metrics: dict[str, Any]
    created: float

    @property
    def label(self) -> str:
        """The name that everything is keyed by, such as "digits/cnn@4"."""
        return f"{self.project}/{self.model}@{self.number}"


def _beside() -> Select[Any]:
    """Of each model, the retired version and the challenger that became what they were last."""
    versions, events = tables.versions.c, tables.events.c
    label = versions.project + "/" + versions.model + "@" + cast(versions.number, String)
    entered = or_(
        and_(versions.state == "retired", events.after == "champion"),
        and_(versions.state == "challenger", events.after == "challenger"),
    )
    names = (versions.project, versions.model, versions.state)
    newest = (
        select(func.max(events.id).label("id"))
        .join_from(
            tables.versions,
            tables.events,
            and_(events.subject == label, events.kind == "version", entered),
        )
        .group_by(*names)
        .subquery()
    )
    return (
        select(tables.versions)
        .join(tables.events, events.subject == label)
        .join(newest, newest.c.id == events.id)
        .order_by(*names)
    )


_BESIDE = _beside()  # asked ten times a second


class Versions:
    """The versions in the database; each change is one transaction with one event."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        project: str,
        model: str,
        number: int,
        *,
        digest: str,
        who: str,
        reason: str,
        run_id: str | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> Version:
        """Record a new version as a candidate. Raises BadRequest when its number is taken."""
        now = self._database.clock()
        version = Version(
            project=project,
            model=model,
            number=number,
            state="candidate",
            digest=digest,
            run_id=run_id,
            reason=reason,
            metrics=dict(metrics or {}),
            created=now,
        )
        with self._database.begin() as connection:
            if (taken := _find(connection, project, model, number)) is not None:
                raise BadRequest(
                    f"Expected a new version, got {version.label}, which exists with digest "
                    f"{taken.digest[:12]}.",
                    remedy="A version never changes: give this one another number.",
                )
            connection.execute(insert(tables.versions).values(**vars(version)))
            record(
                connection,
                at=now,
                who=who,
                kind="version",
                subject=version.label,
                before=None,
                after=version.state,
                evidence={"reason": reason, "digest": digest, "run_id": run_id},
            )
        return version

    def move(
        self,
        project: str,
        model: str,
        number: int,
        to: State,
        *,
        who: str,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
        over: int | None = ANY,
    ) -> Version:
        """Take a version along one of ARROWS; a new champion retires the former one.

        The event's evidence is `evidence` with the reason and, where there is one, the former
        champion. `over` is the number of the champion that a new one was compared with, None for
        none. Raises NotFound for an unknown version, BadRequest for an arrow there is not, Busy
        when another than `over` is champion.
        """
        with self._database.begin() as connection:
            return moved(
                connection,
                (project, model, number),
                to,
                at=self._database.clock(),
                who=who,
                reason=reason,
                evidence=evidence,
                over=over,
            )

    def roll_back(
        self,
        project: str,
        model: str,
        number: int,
        to: int,
        *,
        who: str,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
    ) -> tuple[Version, Version]:
        """Put champion `number` out of service for good and `to` in its place: both, in that order.

        One transaction with an event for each of the two. Raises NotFound for an unknown version,
        BadRequest when `to` cannot become champion, Busy when `number` is not the champion.
        """
        with self._database.begin() as connection:
            return rolled_back(
                connection,
                (project, model, number),
                to,
                at=self._database.clock(),
                who=who,
                reason=reason,
                evidence=evidence,
            )

    def beside(self) -> Sequence[Version]:
        """What is worth being kept ready beside the champions, by project and model.

        Of each model the newest challenger, and the retired version that was champion last: the
        one that a rollback goes to.
        """
        with self._database.read() as connection:
            return [Version(**row) for row in connection.execute(_BESIDE).mappings()]

    def former(self, project: str, model: str) -> Version | None:
        """The version that a rollback goes to, or None."""
        names = (project, model, "retired")
        found = (v for v in self.beside() if (v.project, v.model, v.state) == names)
        return next(found, None)

    def get(self, project: str, model: str, number: int) -> Version:
        """One version. Raises NotFound."""
        with self._database.read() as connection:
            return _get(connection, project, model, number)

    def champion(self, project: str, model: str) -> Version | None:
        """The version that serves, or None."""
        with self._database.read() as connection:
            return _champion(connection, project, model)

    def champions(self, project: str | None = None) -> Sequence[Version]:
        """The version that serves of each model, by project and model."""
        return self._list(tables.versions.c.state == "champion", project, None)

    def list(self, project: str | None = None, model: str | None = None) -> Sequence[Version]:
        """Every version, by project, model and number."""
        return self._list(None, project, model)

    def _list(
        self, condition: ColumnElement[bool] | None, project: str | None, model: str | None
    ) -> Sequence[Version]:
        table = tables.versions.c
        query = select(tables.versions).order_by(table.project, table.model, table.number)
        if condition is not None:
            query = query.where(condition)
        if project is not None:
            query = query.where(table.project == project)
        if model is not None:
            query = query.where(table.model == model)
        with self._database.read() as connection:
            return [Version(**row) for row in connection.execute(query).mappings()]


def moved(
    connection: Connection,
    names: tuple[str, str, int],
    to: State,
    *,
    at: float,
    who: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    over: int | None = ANY,
) -> Version:
    """`Versions.move` inside a transaction that changes more than the version."""
    version = _get(connection, *names)
    if to not in ARROWS[version.state]:
        allowed = ", ".join(ARROWS[version.state]) or "none: this state is an end"
        raise BadRequest(
            f"Expected a state that a {version.state} version may move to ({allowed}), "
            f"got {to!r} for {version.label}."
        )
    proof = {**(evidence or {}), "reason": reason}
    if to == "champion":
        former = _champion(connection, *names[:2])
        _expect(former, over, f"{names[0]}/{names[1]}")
        if former is not None:
            _set(connection, former, "retired", f"{version.label} took its place")
            proof["former"] = former.label
    _set(connection, version, to, reason)
    if "champion" in (version.state, to):
        raise_generation(connection)
    record(
        connection,
        at=at,
        who=who,
        kind="version",
        subject=version.label,
        before=version.state,
        after=to,
        evidence=proof,
    )
    return _get(connection, *names)


def rolled_back(
    connection: Connection,
    names: tuple[str, str, int],
    to: int,
    *,
    at: float,
    who: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
) -> tuple[Version, Version]:
    """`Versions.roll_back` inside a transaction that changes more than the versions."""
    bad = _champion(connection, *names[:2])
    _expect(bad, names[2], f"{names[0]}/{names[1]}")
    good = _get(connection, *names[:2], to)
    if bad is None or "champion" not in ARROWS[good.state]:
        raise BadRequest(
            f"Expected a retired version or a challenger to go back to, got {good.label}, "
            f"which is {good.state}.",
            remedy="See those there are with: timonel models list",
        )
    moves: tuple[tuple[Version, State, dict[str, Any]], ...] = (
        (bad, "rolled_back", {"successor": good.label}),
        (good, "champion", {"former": bad.label}),
    )
    for version, state, other in moves:
        _set(connection, version, state, reason)
        record(
            connection,
            at=at,
            who=who,
            kind="version",
            subject=version.label,
            before=version.state,
            after=state,
            evidence={**(evidence or {}), "reason": reason, **other},
        )
    raise_generation(connection)
    return _get(connection, *names), _get(connection, *names[:2], to)


def _is(project: str, model: str, number: int) -> ColumnElement[bool]:
    table = tables.versions.c
    return and_(table.project == project, table.model == model, table.number == number)


def _find(connection: Connection, project: str, model: str, number: int) -> Version | None:
    query = select(tables.versions).where(_is(project, model, number))
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Version(**row)


def _get(connection: Connection, project: str, model: str, number: int) -> Version:
    if (version := _find(connection, project, model, number)) is None:
        raise NotFound(
            f"Expected a version, got {project}/{model}@{number}, which there is not.",
            remedy="See those there are with: timonel models list",
        )
    return version


def _champion(connection: Connection, project: str, model: str) -> Version | None:
    table = tables.versions.c
    query = select(tables.versions).where(
        table.project == project, table.model == model, table.state == "champion"
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Version(**row)


def _expect(champion: Version | None, number: int | None, name: str) -> None:
    """Raise Busy when another version is champion than the one that was looked at."""
    found = champion.number if champion else None
    if number not in (ANY, found):
        expected = "no champion" if number is None else f"@{number} to be champion"
        raise Busy(
            f"Expected {expected} of {name}, got {'none' if found is None else f'@{found}'}: "
            "it changed meanwhile.",
            remedy="Look at what serves now, and try again.",
        )


def _set(connection: Connection, version: Version, to: State, reason: str) -> None:
    same = _is(version.project, version.model, version.number)
    connection.execute(update(tables.versions).where(same).values(state=to, reason=reason))
