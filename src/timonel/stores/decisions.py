"""What was decided on training a project anew, and why: also when it was decided not to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import insert, select

from timonel.stores import tables
from timonel.stores.database import Database
from timonel.stores.events import record

__all__ = ["Act", "Decided", "Decisions"]

Act = Literal["hold", "retrain", "ended"]


@dataclass(frozen=True, kw_only=True)
class Decided:
    """One evaluation, `at` seconds since 1970: to `hold`, to `retrain`, or how a run `ended`.

    `run_id` is the run that it began or that ended; `evidence` is JSON.
    """

    id: int
    project: str
    at: float
    act: Act
    sentence: str
    evidence: dict[str, Any]
    run_id: str | None


class Decisions:
    """The decisions in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        project: str,
        act: Act,
        sentence: str,
        evidence: Mapping[str, Any],
        *,
        who: str,
        run_id: str | None = None,
    ) -> None:
        """Keep a decision; one that begins a run, or tells of its end, is an event too."""
        now = self._database.clock()
        plain = json.loads(json.dumps(dict(evidence)), parse_constant=lambda word: None)
        with self._database.begin() as connection:
            connection.execute(
                insert(tables.decisions).values(
                    project=project,
                    at=now,
                    act=act,
                    sentence=sentence,
                    evidence=plain,
                    run_id=run_id,
                )
            )
            if act != "hold":
                record(
                    connection,
                    at=now,
                    who=who,
                    kind="retrain",
                    subject=project,
                    before=None,
                    after=act,
                    evidence={"reason": sentence, "run": run_id},
                )

    def newest(self, project: str) -> Decided | None:
        """The last decision on a project."""
        found = self.list(project, limit=1)
        return found[0] if found else None

    def list(
        self, project: str, *, act: Act | None = None, since: float = 0.0, limit: int = 100
    ) -> Sequence[Decided]:
        """The newest decisions since a time, newest first."""
        table = tables.decisions
        query = select(table).where(table.c.project == project, table.c.at >= since)
        if act is not None:
            query = query.where(table.c.act == act)
        query = query.order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [Decided(**row) for row in connection.execute(query).mappings()]
