"""Labelled live rows among those that a run trains and judges on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from timonel.data import datasets, split
from timonel.data.collections import Collection, note_collection
from timonel.errors import DataRefused
from timonel.ids import span
from timonel.monitoring.collect import collected
from timonel.pipeline.context import Context
from timonel.pipeline.runner import Report, Runner
from timonel.project import Project
from timonel.stores.labels import Labels
from timonel.stores.segments import Segments

if TYPE_CHECKING:
    import polars as pl

__all__ = ["LIVE", "add_feedback", "expected"]

LIVE = "  live"
"""The column that says of a row whether it came from the journal; no source can have it."""

_SEED = 0


def add_feedback(
    runner: Runner, context: Context, divided: Mapping[str, Any], since: float | None
) -> dict[str, Any]:
    """The split with labelled live rows in it: `key`, `counts`, and how many of them are live.

    `since` (s since 1970; None: as long ago as the project's policy says) is that of the oldest
    prediction. Each live row is on the side that the hash of its key gives, as the source's are, so
    that none is judged on that was trained on by any version.

    Raises:
        DataRefused: there is no labelled live row, and the policy trains on them.
    """
    project, policy = context.project, context.project.retrain
    now = context.clock()
    begin = now - policy.back if since is None else since

    def act(report: Report) -> Mapping[str, Any]:
        source = datasets.load(divided["key"], context.objects)
        report("collecting labelled live rows", None)
        classes = sorted(source[project.target].unique().to_list(), key=str)
        found = collected(
            project,
            Segments(context.database),
            Labels(context.database),
            context.objects,
            since=begin,
            until=now,
            classes=classes,
        )
        if not found.rows and policy.data != "reference":
            raise DataRefused(
                f"Expected live rows of {project.name} with a label, got none that are fit of "
                f"{found.labels:,} labels: {found.report.sentence()}",
                remedy=f"Send labels to /{project.name}/feedback, or run without --with-feedback.",
            )
        live = split.assign(found.frame, project.split, project.columns, project.target)
        frame = _together(source, live, project)
        counts = {
            side: int((frame[split.COLUMN] == side).sum()) for side in split.SIDES
        }  # fmt: skip
        key = datasets.save(frame, context.objects)
        note_collection(
            context.objects,
            project.name,
            Collection(key, *span(begin, now), context.run_id),
        )
        recent = int(((frame[split.COLUMN] == "test") & frame[LIVE]).sum())
        return {
            "key": key,
            "counts": counts,
            "live": found.rows,
            "recent": recent,
            "expects_live": policy.data != "reference" and recent >= project.gate.recent,
            "note": f"{found.rows:,} labelled live rows, {recent:,} of them to judge on; trained "
            f"on {policy.data}: {counts['train']:,} rows",
        }

    return runner.step("feedback", act)


def _together(source: "pl.DataFrame", live: "pl.DataFrame", project: Project) -> "pl.DataFrame":
    """The rows that the policy trains on, and all that it judges on."""
    import polars as pl

    known = [name for name in live.columns if name in source.columns]
    live = live.select(pl.col(name).cast(source.schema[name]) for name in known)
    held = pl.col(split.COLUMN) == "test"
    if project.retrain.data == "window":
        source = source.filter(held)
    elif project.retrain.data == "reference":
        live = live.filter(held)
    marked = (
        source.with_columns(pl.lit(value=False).alias(LIVE)),
        live.with_columns(pl.lit(value=True).alias(LIVE)),
    )
    return _thinned(pl.concat(marked, how="diagonal"), project)


def _thinned(frame: "pl.DataFrame", project: Project) -> "pl.DataFrame":
    """Training rows left out by age: a weight that every estimator takes, and no row twice.

    Rows drawn again and again would be on both sides of a fold, and flatter the search.
    """
    import numpy as np
    import polars as pl

    half, dated = project.retrain.half_life, project.drift.dated
    if half is None or dated is None:
        return frame
    moment = frame[dated].cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    newest: Any = moment.max()
    age = (float(newest or 0.0) - moment).fill_null(0.0).to_numpy()
    kept = np.random.default_rng(_SEED).random(frame.height) < 0.5 ** (age / half)
    return frame.filter((pl.col(split.COLUMN) != "train") | pl.Series(kept))


def expected(frame: "pl.DataFrame", divided: Mapping[str, Any]) -> "pl.DataFrame":
    """The rows that a version's windows are compared with.

    After a change these are the live ones, or the change would be told of again and again.
    """
    return frame.filter(frame[LIVE]) if divided.get("expects_live") else frame
