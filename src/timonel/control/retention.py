"""How long the journal is kept: what is older than a project's policy goes, once an hour.

What a version that serves or stands by was trained on stays, and what an active rollout looks at.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import delete, func, select

from timonel.data.collections import Collection, forget_collection, noted_collections
from timonel.errors import Busy, TimonelError
from timonel.ids import span
from timonel.policies import Retention
from timonel.project import Project
from timonel.settings import Settings
from timonel.stores import tables
from timonel.stores.database import Database
from timonel.stores.disposal import Disposal, disposing
from timonel.stores.labels import forgotten_before
from timonel.stores.objects import ObjectStore
from timonel.stores.rollouts import Rollouts
from timonel.stores.runs import Runs
from timonel.stores.segments import Segment, Segments
from timonel.stores.versions import Versions

__all__ = ["Keeping", "Pruned", "prune"]

_log = logging.getLogger(__name__)

_EVERY, _AGAIN = 3_600.0, 60.0
_LOOK_BACK = 3_600.0
"""seconds before its start from which a rollout takes what is usual"""
_MANY = 5_000  # segments a transaction


@dataclass(frozen=True)
class Pruned:
    """What was too old, in segments, their rows, labels and datasets; `objects` were deleted."""

    segments: int = 0
    rows: int = 0
    labels: int = 0
    datasets: int = 0
    objects: int = 0


def prune(
    settings: Settings,
    database: Database,
    objects: ObjectStore,
    project: str,
    policy: Retention,
    *,
    who: str,
    dry_run: bool = False,
    wait: bool = True,
) -> Pruned:
    """Delete what is older than the policy says; killed anywhere, the next time ends it.

    With `dry_run` it only counts.

    Raises:
        Busy: a backup is being made, and `wait` is False.
        StoreError: a store does not answer.
    """
    with disposing(settings.root, database, objects, project, who, wait=wait) as disposal:
        segments = _old_segments(database, project, policy)
        labels = _labels_before(database, project, policy)
        noted = noted_collections(objects, project)
        datasets = _old_datasets(database, project, policy, noted)
        old = _count(database, project, labels) if labels else 0
        found = Pruned(len(segments), sum(one.rows for one in segments), old, len(datasets))
        if dry_run:
            return found
        for start in range(0, len(segments), _MANY):
            _drop_segments(disposal, segments[start : start + _MANY])
        if labels and old:
            with database.begin() as connection:
                gone = forgotten_before(connection, project, labels)
                disposal.record(connection, "labels older than the policy", labels=gone)
        if datasets:
            with database.begin() as connection:
                keys = [one.key for one in datasets]
                disposal.record(connection, "datasets older than the policy", gone=keys)
        kept = {one.key for one in noted} - {one.key for one in datasets}
        why = "older than the project's retention"
        gone = disposal.finish(why, asdict(found), kept=kept)
        for one in datasets:
            forget_collection(objects, project, one.key)
        return Pruned(found.segments, found.rows, found.labels, found.datasets, gone)


class Keeping:
    """The controller's part: the projects that have a policy are pruned once an hour."""

    def __init__(self, projects: Sequence[Project], settings: Settings, database: Database) -> None:
        self._projects = [one for one in projects if one.retention != Retention()]
        self._settings = settings
        self._database = database
        self._next: dict[str, float] = {}

    def tick(self) -> None:
        """Prune those for which an hour has gone by; at first, all."""
        now = self._database.clock()
        for project in self._projects:
            if now < self._next.get(project.name, now):
                continue
            self._next[project.name] = now + _EVERY
            try:
                done = prune(
                    self._settings,
                    self._database,
                    ObjectStore.open(self._settings.objects_url),
                    project.name,
                    project.retention,
                    who="controller",
                    wait=False,  # rollouts must not wait for a backup
                )
            except Busy:
                self._next[project.name] = now + _AGAIN
            except TimonelError as error:  # one project's trouble must not stop the others
                _log.warning("%s was not pruned: %s", project.name, error)
            else:
                if done != Pruned():
                    _log.info("%s: %s were too old", project.name, done)


def _old_segments(database: Database, project: str, policy: Retention) -> Sequence[Segment]:
    if policy.segments is None:
        return ()
    before = database.clock() - policy.segments
    started = [rollout.started for rollout in Rollouts(database).active(project)]
    before = min([before, *(start - _LOOK_BACK for start in started)])
    listed = Segments(database).list(project, until=before)
    return [segment for segment in listed if segment.last_time < before]


def _drop_segments(disposal: Disposal, segments: Sequence[Segment]) -> None:
    table = tables.segments
    with disposal.database.begin() as connection:
        for one in segments:
            same = (table.c.source == one.source) & (table.c.project == one.project)
            connection.execute(delete(table).where(same, table.c.object_key == one.object_key))
        disposal.record(
            connection,
            "segments older than the policy",
            gone=[one.object_key for one in segments],
            segments=len(segments),
            rows=sum(one.rows for one in segments),
        )


def _labels_before(database: Database, project: str, policy: Retention) -> str | None:
    """The lowest id whose label is kept; None to keep all."""
    if policy.labels is None:
        return None
    before = database.clock() - policy.labels
    started = [rollout.started for rollout in Rollouts(database).active(project)]
    return span(min([before, *(start - _LOOK_BACK for start in started)]), 0.0)[0]


def _count(database: Database, project: str, before: str) -> int:
    table = tables.labels.c
    query = select(func.count()).where(table.project == project, table.prediction < before)
    with database.read() as connection:
        return int(connection.execute(query).scalar_one())


def _old_datasets(
    database: Database, project: str, policy: Retention, noted: Sequence[Collection]
) -> Sequence[Collection]:
    if policy.datasets is None:
        return ()
    before = span(database.clock() - policy.datasets, 0.0)[0]
    versions = Versions(database).list(project)
    states = ("candidate", "challenger", "champion")
    beside = {v.label for v in Versions(database).beside()}
    needed = {v.run_id for v in versions if v.state in states or v.label in beside}
    if (active := Runs(database).active(project)) is not None:
        needed.add(active.id)
    kept = {one.key for one in noted if one.run in needed or one.last >= before}
    return [
        one for one in noted if one.key not in kept and not (one.run is None and active is not None)
    ]
