"""Windows in life: what each champion was asked of late, held to what it was made from.

A window is of the rows that the champion itself answered: its reference is of its own rows and
answers, so what another version answered before it, or beside it, says nothing of it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from timonel.errors import ArtifactError, TimonelError
from timonel.monitoring.window import window_of
from timonel.project import Project
from timonel.settings import Settings
from timonel.stores.artifacts import fetch_version
from timonel.stores.checks import Checks
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segment, Segments
from timonel.stores.versions import Version, Versions

if TYPE_CHECKING:
    from timonel.monitoring.drift import Verdict
    from timonel.monitoring.reference import Reference

__all__ = ["Watch"]

_log = logging.getLogger(__name__)

_WHO = "controller"
_LATE = 3_600.0
"""seconds by which a worker's rows may reach the segments after those of others"""
_SKEW = 60.0
"""seconds by which clocks of hosts may differ"""
_AGAIN = 60.0
"""seconds until a look that failed is tried again"""
_SEED = 0


@dataclass
class _Known:
    """What is kept of a champion: its reference, and thresholds by size of window.

    `reference` is None where there is nothing that it could be compared with.
    """

    digest: str
    reference: "Reference | None"
    calibrations: dict[int, bytes] = field(default_factory=dict)


class Watch:
    """Checks each model every `drift.every` seconds; used by the controller that holds the lease.

    A window is the newest `drift.window` rows that came after the last complete window; of fewer
    rows it is what there is, and grows until the next look. One that has all its rows, or in which
    drift was found, is complete: the next begins after it.
    """

    def __init__(self, projects: Sequence[Project], settings: Settings, database: Database) -> None:
        self._projects = projects
        self._folder = settings.serving_folder
        self._database = database
        self._objects = ObjectStore.open(settings.objects_url)
        self._segments, self._versions = Segments(database), Versions(database)
        self._checks = Checks(database)
        self._looked: dict[tuple[str, str], float] = {}
        self._known: dict[tuple[str, str], _Known] = {}

    def tick(self) -> "Sequence[Verdict]":
        """Look at each model that it is time for; the verdicts that were given."""
        given = []
        for project in self._projects:
            for model in project.model_names:
                if not self._due(project, model):
                    continue
                try:
                    verdict = self._look(project, model)
                except TimonelError as error:  # one model's trouble must not stop the others
                    _log.warning("%s/%s was not checked for drift: %s", project.name, model, error)
                    self._looked[project.name, model] += _AGAIN - project.drift.every
                    continue
                if verdict is not None:
                    given.append(verdict)
        return given

    def _due(self, project: Project, model: str) -> bool:
        names, now = (project.name, model), self._database.clock()
        if names not in self._looked:
            newest = self._checks.newest(*names)
            self._looked[names] = newest.at if newest else float("-inf")
        if now - self._looked[names] < project.drift.every:
            return False
        self._looked[names] = now
        return True

    def _look(self, project: Project, model: str) -> "Verdict | None":
        version = self._versions.champion(project.name, model)
        if version is None:
            return None
        known = self._known_of(version, project)
        if known.reference is None:
            return None
        listed = self._new_segments(version)
        rows, shape = project.drift.window, known.reference.shape
        pieces = window_of(listed, self._objects, shape, version.label, rows=rows)
        if not pieces:
            return None
        import numpy as np

        from timonel.monitoring.drift import judge

        verdict = judge(
            known.reference,
            pieces,
            project.drift,
            rng=np.random.default_rng(_SEED),
            calibrations=known.calibrations,
        )
        self._keep(version, verdict, listed, complete=verdict.rows >= rows)
        return verdict

    def _keep(
        self, version: Version, verdict: "Verdict", listed: Sequence[Segment], *, complete: bool
    ) -> None:
        detail: dict[str, Any] = {
            **verdict.to_dict(),
            "version": version.label,
            "complete": complete or verdict.state == "drift",
            "added": max(segment.added for segment in listed),
        }
        now = self._database.clock()
        kept = self._checks.add(
            version.project,
            version.model,
            "drift",
            first_time=now if verdict.since is None else verdict.since,
            last_time=now if verdict.until is None else verdict.until,
            rows=verdict.rows,
            verdict=verdict.state,
            sentence=verdict.sentence(),
            detail=detail,
            who=_WHO,
        )
        if kept:
            _log.info("%s: %s", version.label, verdict.sentence())

    def _new_segments(self, version: Version) -> Sequence[Segment]:
        """The segments that no complete window of this very version has."""
        for check in self._checks.list(version.project, version.model, "drift"):
            if check.detail.get("version") == version.label and check.detail.get("complete"):
                listed = self._segments.list(version.project, since=check.last_time - _LATE)
                # By when they were recorded: rows of one worker may come after those of others.
                return [one for one in listed if one.added > check.detail["added"]]
        return self._segments.list(version.project, since=version.created - _SKEW)

    def _known_of(self, version: Version, project: Project) -> _Known:
        names = (version.project, version.model)
        known = self._known.get(names)
        if known is None or known.digest != version.digest:
            from timonel.monitoring.reference import Reference

            folder = fetch_version(version.digest, self._objects, self._folder)
            reference = None
            try:
                reference = Reference.of_version(folder, project.drift)
            except ArtifactError as error:
                _log.info("%s is not watched for drift: %s", version.label, error)
            known = self._known[names] = _Known(version.digest, reference)
        return known
