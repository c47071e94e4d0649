"""Who serves, in MLflow's words: its marks mirror our champions, and a changed mark is a wish.

Three numbers are compared for each model: the one that a mark is on now, the champion's, and the
one that the marks were last put on. Only MLflow's differs: a person asks for that version. Only
ours does: the marks follow. Both do: the database wins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import and_, delete, insert, select

from timonel.stores import tables
from timonel.stores.database import Database
from timonel.stores.events import record
from timonel.stores.marks import Marks, watch
from timonel.stores.runs import Runs
from timonel.stores.versions import EMBEDDED, Version, Versions

if TYPE_CHECKING:
    from timonel.project import Project
    from timonel.stores.registry import Registry

__all__ = ["Aliases", "Promotions", "Wish", "wish_of"]

_SETTLING = 5.0  # seconds that a new champion's own process has to put the marks itself
_SILENCE = 60.0  # seconds after which a run that says nothing counts as dead
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 600.0


@dataclass(frozen=True)
class Wish:
    """What is to be done so that MLflow and the database agree about a model.

    `adopt`: version `number` is asked for in MLflow. `put`: the marks belong on `number` (None:
    nowhere); `asked` is the version that was asked for at the same time, and does not get them.
    """

    project: str
    model: str
    act: Literal["adopt", "put"]
    number: int | None
    asked: int | None = None


def wish_of(
    project: str, model: str, marks: Marks, champion: int | None, mirrored: int | None
) -> Wish | None:
    """Compare three ways; None when there is nothing to do. What ships counts as no champion."""
    asked = next((n for n in marks if n is not None and n not in (mirrored, champion)), None)
    if asked is not None and champion == mirrored:
        return Wish(project, model, "adopt", asked)
    if asked is not None or not marks.champion == champion == mirrored:
        return Wish(project, model, "put", champion, asked)
    return None


class Aliases:
    """The number that the marks of each model were last put on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def wish(self, project: "Project", model: str, marks: Marks) -> Wish | None:
        """What is to be done about a model, given its marks."""
        # The marks were read before: who makes a champion tells the database first, so that its
        # own mark never looks like a person's.
        found = Versions(self._database).champion(project.name, model)
        champion = found.number if found and found.number != EMBEDDED else None
        known = self.mirrored()
        # A home from before marks were mirrored put them on each champion.
        mirrored = known.get((project.name, model), champion)
        return wish_of(project.name, model, marks, champion, mirrored)

    def mirrored(self) -> Mapping[tuple[str, str], int | None]:
        """The number by project and model."""
        with self._database.read() as connection:
            rows = connection.execute(select(tables.aliases)).mappings()
            return {(row["project"], row["model"]): row["number"] for row in rows}

    def settle(self, registry_url: str, project: str, model: str, champion: Version | None) -> None:
        """Remember that the marks are on the champion, where nothing is remembered yet.

        To be done before another becomes champion: the marks of a home from before they were
        mirrored would otherwise look like a person's wish to undo that.
        """
        if (project, model) in self.mirrored() or _is_yet_to_be_made(registry_url):
            return
        number = champion.number if champion and champion.number != EMBEDDED else None
        values = {"project": project, "model": model, "number": number}
        with self._database.begin() as connection:
            connection.execute(insert(tables.aliases).values(**values, at=self._database.clock()))

    def put(
        self,
        registry: "Registry",
        project: "Project",
        model: str,
        number: int | None,
        *,
        who: str,
        reason: str = "the champion changed",
        asked: int | None = None,
    ) -> None:
        """Put MLflow's marks on a version, or nowhere, and remember that; with one event."""
        registry.mark(project.registered(model), number)
        table, now = tables.aliases, self._database.clock()
        same = and_(table.c.project == project.name, table.c.model == model)
        with self._database.begin() as connection:
            former = connection.execute(select(table.c.number).where(same)).scalar_one_or_none()
            connection.execute(delete(table).where(same))
            connection.execute(
                insert(table).values(project=project.name, model=model, number=number, at=now)
            )
            if former != number or asked is not None:
                record(
                    connection,
                    at=now,
                    who=who,
                    kind="alias",
                    subject=f"{project.name}/{model}",
                    before=_text(former),
                    after=_text(number),
                    evidence={"reason": reason, "asked": asked},
                )


class Promotions:
    """Notices what people ask for in MLflow; to be asked every second.

    It only reads, and without MLflow: `timonel adopt PROJECT/MODEL`, a process of its own, acts.
    `check` names each wish when it appears, and again after a pause that doubles from 30 s to ten
    minutes if it is still there then.
    """

    def __init__(
        self, database: Database, registry_url: str, projects: "Sequence[Project]"
    ) -> None:
        self._database = database
        self._url = registry_url
        self._models = [
            (project, model.name, project.registered(model.name))
            for project in projects
            for model in project.models
        ]
        self._next: dict[Wish, tuple[float, float]] = {}  # when it is named again, and the pause

    def check(self) -> list[Wish]:
        """The wishes to act on now.

        Raises:
            StoreError: MLflow or the database does not answer; what serves is not affected.
        """
        aliases = Aliases(self._database)
        if _is_yet_to_be_made(self._url) and not aliases.mirrored():
            return []
        marks = watch(self._url, sorted({name for *_, name in self._models}))
        wishes = []
        for project, model, name in self._models:
            if wish := aliases.wish(project, model, marks[name]):
                wishes.append(wish)
        busy = {wish.project for wish in wishes if self._is_running(wish.project)}
        return self._due(wishes, busy)

    def _due(self, wishes: Sequence[Wish], busy: set[str]) -> list[Wish]:
        now = self._database.clock()
        self._next = {wish: at for wish, at in self._next.items() if wish in wishes}
        due = []
        for wish in wishes:
            if wish not in self._next:
                wait = 0.0 if wish.act == "adopt" else _SETTLING
                self._next[wish] = (now + wait, _FIRST_PAUSE)
            at, pause = self._next[wish]
            if at <= now and wish.project not in busy:
                self._next[wish] = (now + pause, min(2 * pause, _LONGEST_PAUSE))
                due.append(wish)
        return due

    def _is_running(self, project: str) -> bool:
        """Whether a run of the project, which adopting is too, would be in the way."""
        run = Runs(self._database).active(project)
        return run is not None and self._database.clock() - run.beat <= _SILENCE


def _is_yet_to_be_made(url: str) -> bool:
    scheme, _, path = url.partition("sqlite:///")
    return not scheme and not Path(path.partition("?")[0]).exists()


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
