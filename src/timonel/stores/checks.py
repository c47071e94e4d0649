"""What was found of windows of live rows: a verdict each, and an event when the finding changes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, insert, select

from timonel.stores import tables
from timonel.stores.database import Database
from timonel.stores.events import record

__all__ = ["OPEN", "Check", "Checks", "Kind"]

Kind = Literal["drift", "accuracy"]

OPEN = "not enough data"
"""The verdict that leaves what was found before as it is."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One verdict on a model's rows from `first_time` to `last_time`, given `at` (s since 1970).

    `verdict` is `ok`, `not enough data`, or what is wrong: `drift` or `worse`. `detail` is JSON.
    """

    id: int
    project: str
    model: str
    kind: Kind
    at: float
    first_time: float
    last_time: float
    rows: int
    verdict: str
    sentence: str
    detail: dict[str, Any]


class Checks:
    """The checks in the database, one for each last row of a window."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        project: str,
        model: str,
        kind: Kind,
        *,
        first_time: float,
        last_time: float,
        rows: int,
        verdict: str,
        sentence: str,
        detail: Mapping[str, Any],
        who: str,
    ) -> bool:
        """Keep a verdict; False, changing nothing, when there is one up to `last_time` already.

        A verdict that differs from the one before is one event. In `detail`, numbers that JSON
        has no word for become null.
        """
        now, table = self._database.clock(), tables.checks
        same = (table.c.project == project, table.c.model == model, table.c.kind == kind)
        known = select(table.c.id).where(*same, table.c.last_time == last_time)
        plain = json.loads(json.dumps(dict(detail)), parse_constant=lambda word: None)
        with self._database.begin() as connection:
            if connection.execute(known).first() is not None:
                return False
            before = _standing(connection, project, model, kind)
            connection.execute(
                insert(table).values(
                    project=project,
                    model=model,
                    kind=kind,
                    at=now,
                    first_time=first_time,
                    last_time=last_time,
                    rows=rows,
                    verdict=verdict,
                    sentence=sentence,
                    detail=plain,
                )
            )
            if verdict not in (OPEN, before):
                record(
                    connection,
                    at=now,
                    who=who,
                    kind=kind,
                    subject=f"{project}/{model}",
                    before=before,
                    after=verdict,
                    evidence={"reason": sentence, "rows": rows, "until": last_time},
                )
        return True

    def newest(self, project: str, model: str, kind: Kind = "drift") -> Check | None:
        """The last verdict on a model."""
        found = self.list(project, model, kind, limit=1)
        return found[0] if found else None

    def standing(self, project: str, model: str, kind: Kind = "drift") -> str:
        """What was last found where data sufficed; `ok` where nothing was."""
        with self._database.read() as connection:
            return _standing(connection, project, model, kind)

    def list(
        self,
        project: str,
        model: str | None = None,
        kind: Kind | None = None,
        *,
        since: float = 0.0,
        limit: int = 100,
    ) -> Sequence[Check]:
        """The newest verdicts given since a time, newest first."""
        table = tables.checks
        query = select(table).where(table.c.project == project, table.c.at >= since)
        if model is not None:
            query = query.where(table.c.model == model)
        if kind is not None:
            query = query.where(table.c.kind == kind)
        query = query.order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [Check(**row) for row in connection.execute(query).mappings()]


def _standing(connection: Connection, project: str, model: str, kind: Kind) -> str:
    table = tables.checks.c
    query = (
        select(table.verdict)
        .where(table.project == project, table.model == model, table.kind == kind)
        .where(table.verdict != OPEN)
        .order_by(table.at.desc(), table.id.desc())
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none() or "ok"
