"""How right each version is on live traffic: by the labels that came, and expected until they do.

Rows are joined to labels by prediction id and row, over the segments that hold those ids: a label
counts in the window in which the prediction was made, however late it is said.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from timonel.errors import ArtifactError, NotFound, StoreError
from timonel.ids import span
from timonel.monitoring.accuracy import Accuracy, Expected, measured
from timonel.monitoring.joined import joined
from timonel.stores.artifacts import fetch_version
from timonel.stores.labels import Labels
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments
from timonel.stores.versions import Versions
from timonel.training.calibration import Calibration

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Check", "Live", "Window", "calibrations", "live"]

_READ = frozenset(("id", "model", "version", "prediction", "probability", "via"))

Calibrations = Callable[[str], Calibration | None]
"""Gives the calibration of a version, such as `digits/cnn@3`, if it has one."""


@dataclass(frozen=True)
class Check:
    """What was expected of the labelled rows alone, and what was true of them."""

    estimate: Accuracy
    truth: Accuracy

    @property
    def held(self) -> bool:
        """Whether the truth lay within the estimate's interval."""
        return self.estimate.low <= self.truth.value <= self.estimate.high


@dataclass(frozen=True, kw_only=True)
class Window:
    """One version's answers to predictions made at `since` <= time < `until`.

    `accuracy` and the `recalls`, by class, stand on the `labelled` rows; `estimate` on what the
    version's own confidence leads one to expect of all `rows`. `check` compares the two ways on the
    labelled rows. Each is None where there is nothing that it could stand on.
    """

    version: str
    since: float
    until: float
    rows: int
    labelled: int
    accuracy: Accuracy | None
    recalls: Mapping[str, Accuracy]
    estimate: Accuracy | None
    check: Check | None


@dataclass(frozen=True, kw_only=True)
class Live:
    """The windows of a model, by time and version.

    Of the project's `labels` on predictions of that time, `unknown` name none in the journal: it is
    not exported yet, was deleted, or never was.
    """

    windows: tuple[Window, ...]
    labels: int
    unknown: int


@dataclass
class _Tally:
    rows: int = 0
    labelled: int = 0
    right: int = 0
    classes: dict[str, tuple[int, int]] = field(default_factory=dict)  # rows, right
    expected: Expected = field(default_factory=Expected)
    checked: Expected = field(default_factory=Expected)
    checked_right: int = 0

    def add(self, rows: "pl.DataFrame", calibration: Calibration | None) -> None:
        """Count rows with `right` (null without a label), `label` and `probability`."""
        import polars as pl

        known = rows.filter(pl.col("label").is_not_null())
        self.rows += len(rows)
        self.labelled += len(known)
        self.right += int(known["right"].sum())
        per_class = known.group_by("label").agg(pl.len(), pl.col("right").sum())
        for label, count, right in per_class.iter_rows():
            before = self.classes.get(label, (0, 0))
            self.classes[label] = before[0] + count, before[1] + right
        if calibration is None:
            return
        scored = rows.filter(pl.col("probability").is_not_null())
        known = known.filter(pl.col("probability").is_not_null())
        self.expected += Expected.of(scored["probability"].to_numpy(), calibration)
        self.checked += Expected.of(known["probability"].to_numpy(), calibration)
        self.checked_right += int(known["right"].sum())


def live(
    segments: Segments,
    labels: Labels,
    objects: ObjectStore,
    project: str,
    model: str,
    *,
    since: float,
    until: float,
    every: float | None = None,
    calibration: Calibrations = lambda version: None,
    confidence: float = 0.95,
) -> Live:
    """What is known of a model's answers to predictions made at `since` <= time < `until`.

    Times are seconds since 1970, UTC. `every` is a window's length in seconds, in steps from 1970;
    None is one window for all. One segment is in memory at a time. What a challenger was only shown
    is not counted, nor are rows that a version failed to answer.

    Raises:
        StoreError: a store does not answer.
    """
    import polars as pl

    ids, found = span(since, until), 0
    tallies: dict[tuple[float, str], _Tally] = {}
    for frame in joined(segments, labels, objects, project, ids, _READ.__contains__):
        found += frame.filter(pl.col("label").is_not_null()).select("request", "row").n_unique()
        answered = frame.filter(pl.col("model") == model, pl.col("prediction").is_not_null())
        rows = answered.with_columns(
            right=pl.col("prediction") == pl.col("label"), window=_window(since, every)
        )
        for (window, version), part in rows.partition_by(
            "window", "version", as_dict=True, maintain_order=False
        ).items():
            tally = tallies.setdefault((window, version), _Tally())
            tally.add(part, calibration(version))
    said = labels.count_between(project, *ids)
    windows = [
        _result(
            tallies[start, version],
            version,
            (max(start, since), min(start + every if every else math.inf, until)),
            calibration(version),
            confidence,
        )
        for start, version in sorted(tallies)
    ]
    # A label may come between the reading of its segment and the counting of all.
    return Live(windows=tuple(windows), labels=said, unknown=max(said - found, 0))


def calibrations(versions: Versions, objects: ObjectStore, folder: Path) -> Calibrations:
    """The calibrations in the versions' files, which are fetched to `folder` where they lack.

    A version of which nothing can be had has none: an estimate is missed less than the rest.
    """

    @cache
    def of(label: str) -> Calibration | None:
        project, _, rest = label.partition("/")
        model, _, number = rest.rpartition("@")
        try:
            version = versions.get(project, model, int(number))
            file = fetch_version(version.digest, objects, folder) / "metrics.json"
            given = json.loads(file.read_bytes()).get("calibration")
            return None if given is None else Calibration.from_dict(given)
        except (ArtifactError, NotFound, StoreError, OSError, ValueError, KeyError):
            return None

    return of


def _window(since: float, every: float | None) -> "pl.Expr":
    """When the window of each row begins, by the time in its prediction's id."""
    import polars as pl

    if every is None:
        return pl.lit(since)
    hexadecimal = pl.col("request").str.head(8) + pl.col("request").str.slice(9, 4)
    made = hexadecimal.str.to_integer(base=16) / 1_000
    return (made / every).floor() * every


def _result(
    tally: _Tally,
    version: str,
    edges: tuple[float, float],
    calibration: Calibration | None,
    confidence: float,
) -> Window:
    estimate, check = None, None
    if calibration is not None:
        estimate = tally.expected.accuracy(calibration, confidence=confidence)
        expected = tally.checked.accuracy(calibration, confidence=confidence)
        truth = measured(tally.checked_right, tally.checked.rows, confidence=confidence)
        check = Check(expected, truth) if expected and truth else None
    recalls = {
        label: recall
        for label, (rows, right) in sorted(tally.classes.items())
        if (recall := measured(right, rows, confidence=confidence))
    }
    return Window(
        version=version,
        since=edges[0],
        until=edges[1],
        rows=tally.rows,
        labelled=tally.labelled,
        accuracy=measured(tally.right, tally.labelled, confidence=confidence),
        recalls=recalls,
        estimate=estimate,
        check=check,
    )
