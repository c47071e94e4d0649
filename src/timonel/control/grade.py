"""Live accuracy of each champion, by the labels that came, held to what it was on held-out rows."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from timonel.errors import TimonelError
from timonel.ids import span
from timonel.monitoring.accuracy import Accuracy
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
"""times `drift.every` that are looked back over for labels, which come late"""


class Grade:
    """Checks each model every `drift.every` seconds, on its newest labelled rows.

    They are `drift.window` of the project, or up to twice as many, or fewer where there are none.
    It is `worse` when the interval's upper end lies more than `retrain.drop` below the accuracy on
    held-out rows. Where it lies there and may not, or the interval is too wide to tell such a drop,
    there is not enough data: what was found last stands, and does not come and go.
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
        said = [self._labels.count(project.name), self._labels.latest(project.name)]
        newest = self._checks.newest(version.project, version.model, "accuracy")
        if held is None or (
            newest is not None
            and (newest.detail.get("version"), newest.detail.get("labels")) == (version.label, said)
        ):
            return  # nothing was said since
        since = now - self._seconds(project, now)
        found = live(
            self._segments,
            self._labels,
            self._objects,
            project.name,
            version.model,
            since=since,
            until=now,
        )
        for window in found.windows:
            if window.version == version.label and window.accuracy is not None:
                told = {"held": held, "drop": project.retrain.drop, "labels": said}
                self._keep(version, window.accuracy, told, (since, now))

    def _seconds(self, project: Project, now: float) -> float:
        """How far back there are enough labelled rows; what is read depends on labels alone."""
        longest, asked = _BACK * project.drift.every, project.drift.window
        seconds = longest / 2**10
        while seconds < longest:
            if self._labels.count_between(project.name, *span(now - seconds, now)) >= asked:
                break
            seconds *= 2
        return seconds

    def _keep(
        self,
        version: Version,
        accuracy: Accuracy,
        told: Mapping[str, Any],
        period: tuple[float, float],
    ) -> None:
        held, drop = told["held"], told["drop"]
        verdict = "ok"
        if accuracy.high < held - drop:
            verdict = "worse"
        elif accuracy.value < held - drop or (accuracy.high - accuracy.low) / 2 > drop:
            verdict = OPEN
        self._checks.add(
            version.project,
            version.model,
            "accuracy",
            first_time=period[0],
            last_time=period[1],
            rows=accuracy.rows,
            verdict=verdict,
            sentence=f"{version.label} is right on {accuracy.value:.1%} of {accuracy.rows:,} "
            f"labelled live rows ({accuracy.low:.1%} to {accuracy.high:.1%}), and was on "
            f"{held:.1%} of held-out rows: {verdict}.",
            detail={
                **told,
                "version": version.label,
                "live": accuracy.value,
                "low": accuracy.low,
                "high": accuracy.high,
            },
            who=_WHO,
        )


def _held(version: Version) -> float | None:
    """The accuracy on held-out rows that was recorded with a version."""
    metrics = (version.metrics or {}).get("evaluation", {}).get("metrics", {})
    value = metrics.get("accuracy", {}).get("value")
    return None if value is None else float(value)
