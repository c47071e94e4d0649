"""Live accuracy of each champion, by the labels that came, held to what it was on held-out rows."""

import logging
from collections.abc import Sequence

from timonel.errors import TimonelError
from timonel.monitoring.accuracy import Accuracy, measured
from timonel.monitoring.live import live
from timonel.project import Project
from timonel.settings import Settings
from timonel.stores.checks import OPEN, Checks
from timonel.stores.database import Database
from timonel.stores.labels import Labels
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments
from timonel.stores.versions import Version, Versions

__all__ = ["Grade"]

_log = logging.getLogger(__name__)

_WHO = "controller"
_BACK = 28
"""windows in time that are looked back over for labels, which come late"""


class Grade:
    """Checks each model every `drift.every` seconds, on its newest `drift.window` labelled rows.

    It is `worse` when the interval's upper end lies more than `retrain.drop` below the accuracy on
    held-out rows; where the interval is too wide to tell such a drop there is not enough data.
    """

    def __init__(self, projects: Sequence[Project], settings: Settings, database: Database) -> None:
        self._projects = projects
        self._database = database
        self._objects = ObjectStore.open(settings.objects_url)
        self._segments, self._labels = Segments(database), Labels(database)
        self._versions, self._checks = Versions(database), Checks(database)
        self._looked: dict[tuple[str, str], float] = {}

    def tick(self) -> None:
        """Look at each model that it is time for."""
        now = self._database.clock()
        for project in self._projects:
            for model in project.model_names:
                names = (project.name, model)
                if now - self._looked.get(names, float("-inf")) < project.drift.every:
                    continue
                self._looked[names] = now
                try:
                    version = self._versions.champion(*names)
                    if version is not None:
                        self._look(project, version, now)
                except TimonelError as error:  # one model's trouble must not stop the others
                    _log.warning("%s/%s: its accuracy is not known: %s", *names, error)

    def _look(self, project: Project, version: Version, now: float) -> None:
        held = _held(version)
        if held is None:
            return
        every = project.drift.every
        found = live(
            self._segments,
            self._labels,
            self._objects,
            project.name,
            version.model,
            since=now - _BACK * every,
            until=now,
            every=every,
        )
        right, rows, since = 0, 0, now
        for window in reversed(found.windows):
            if window.version == version.label and window.accuracy is not None:
                rows += window.accuracy.rows
                right += round(window.accuracy.value * window.accuracy.rows)
                since = window.since
            if rows >= project.drift.window:
                break
        accuracy = measured(right, rows)
        if accuracy is not None:
            self._keep(version, accuracy, held, project.retrain.drop, (since, now))

    def _keep(
        self,
        version: Version,
        accuracy: Accuracy,
        held: float,
        drop: float,
        period: tuple[float, float],
    ) -> None:
        names = (version.project, version.model)
        detail = {
            "version": version.label,
            "live": accuracy.value,
            "low": accuracy.low,
            "high": accuracy.high,
            "held": held,
            "rows": accuracy.rows,
            "drop": drop,
        }
        newest = self._checks.newest(*names, "accuracy")
        if newest is not None and newest.detail == detail:
            return
        verdict = "ok"
        if accuracy.high < held - drop:
            verdict = "worse"
        elif (accuracy.high - accuracy.low) / 2 > drop:
            verdict = OPEN
        self._checks.add(
            *names,
            "accuracy",
            first_time=period[0],
            last_time=period[1],
            rows=accuracy.rows,
            verdict=verdict,
            sentence=f"{version.label} is right on {accuracy.value:.1%} of {accuracy.rows:,} "
            f"labelled live rows ({accuracy.low:.1%} to {accuracy.high:.1%}), and was on "
            f"{held:.1%} of held-out rows: {verdict}.",
            detail=detail,
            who=_WHO,
        )


def _held(version: Version) -> float | None:
    """The accuracy on held-out rows that was recorded with a version."""
    metrics = (version.metrics or {}).get("evaluation", {}).get("metrics", {})
    value = metrics.get("accuracy", {}).get("value")
    return None if value is None else float(value)
