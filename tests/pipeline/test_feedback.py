"""A run with feedback trains and judges on labelled live rows too, each on one side for ever."""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.pipeline.conftest import Home, flowers
from timonel.data import datasets
from timonel.errors import DataRefused, DefinitionError
from timonel.ids import Ids
from timonel.journal.records import (
    FORMAT,
    MAGIC,
    Answered,
    Feedback,
    Header,
    Meta,
    Record,
    encode,
    frame,
    kinds_of,
)
from timonel.journal.segments import export
from timonel.monitoring.reference import Reference
from timonel.pipeline.feedback import LIVE
from timonel.pipeline.run import Outcome
from timonel.policies import Drift, Gate, Quality, Retrain
from timonel.project import Project
from timonel.stores.segments import Segments

Train = Callable[..., Outcome]

COUNT = 800
CENTRES = np.array([[8.0, 1.0], [11.0, 2.0], [14.0, 3.0]])  # where live flowers are by now


def ask(
    home: Home, project: Project, count: int = COUNT, *, labelled: bool = True, known: int = 3
) -> None:
    """Live rows of a flower that grew, each with its true kind, in the journal's segments."""
    rng = np.random.default_rng(count)
    kinds = rng.integers(0, known, count)
    rows = (CENTRES[kinds] * rng.normal(1.0, 0.05, (count, 2))).round(2)
    ids, now = Ids(), time.time_ns()
    items: list[Meta | Record | Feedback] = [
        Meta("flowers", kinds_of(project.columns), "lr", "flowers/lr@1", (0, 1, 2))
    ]
    for row, kind in zip(rows.tolist(), kinds.tolist(), strict=True):
        identifier = ids().bytes
        answer = Answered("lr", "flowers/lr@1", [2], bytes(12))
        items.append(Record(identifier, now, "flowers", [tuple(row)], [answer], "json", "dev"))
        if labelled:
            items.append(Feedback(identifier, 0, "flowers", str(kind), now))
    folder = home.settings.journal_folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"made-{count}.closed"
    header = Header(FORMAT, "boot", "0", now)
    path.write_bytes(MAGIC + b"".join(frame(encode(item)) for item in (header, *items)))
    export(path, home.objects, Segments(home.database), home.database)


def steps(home: Home, outcome: Outcome) -> dict[str, Any]:
    return {step.name: step.output for step in home.runs.steps(outcome.run)}


def garden(**changes: Any) -> Project:
    """The project as it is when its flowers may have grown."""
    return flowers(**{"gate": Gate(margin=0.3), "quality": Quality(duplicates="keep")} | changes)


def test_what_live_rows_taught_is_judged_on_recent_rows_first(home: Home, trained: Train) -> None:
    project = garden()
    trained(project)
    ask(home, project)
    outcome = trained(project, with_feedback=True)
    (version,) = outcome.versions
    assert version.state == "champion"
    assert "recent rows: the candidate passed" in version.reason
    assert "rows of the reference, over all of them only" in version.reason
    output = steps(home, outcome)["feedback"]
    assert output["live"] == COUNT
    assert output["recent"] == pytest.approx(COUNT * project.split.test, abs=40)
    rows = datasets.load(output["key"], home.objects)
    assert rows.height == 150 + COUNT
    assert rows[LIVE].sum() == COUNT
    assert output["counts"]["test"] == (rows["split"] == "test").sum()


def test_windows_are_compared_with_what_is_expected_from_now_on(home: Home, trained: Train) -> None:
    project = garden()
    trained(project)
    ask(home, project)
    (version,) = trained(project, with_feedback=True).versions
    folder = home.settings.serving_folder / version.digest
    reference = Reference.of_version(folder, Drift())
    assert reference.sketch.rows == COUNT
    metrics = json.loads((folder / "metrics.json").read_bytes())
    assert metrics["evaluation"]["rows"] == pytest.approx(COUNT * project.split.test, abs=40)
    assert metrics["evaluation"]["metrics"]["accuracy"]["value"] > 0.9
    assert reference.sketch.tallies["petal_length"].low == pytest.approx(7.0, abs=0.8)


def test_a_row_falls_on_the_same_side_in_every_run(home: Home, trained: Train) -> None:
    project = garden()
    trained(project)
    sides = []
    for count in (300, 301):
        ask(home, project, count)
        output = steps(home, trained(project, with_feedback=True))["feedback"]
        rows = datasets.load(output["key"], home.objects)
        sides.append({row[:3]: row[3] for row in rows.select(
            "petal_length", "petal_width", "kind", "split").iter_rows()})  # fmt: skip
    first, second = sides
    assert len(second) > len(first)
    assert all(second[row] == side for row, side in first.items())


def test_a_window_alone_still_answers_to_the_past(home: Home, trained: Train) -> None:
    project = garden(retrain=Retrain(data="window"))
    trained(project)
    ask(home, project)
    outcome = trained(project, with_feedback=True)
    rows = datasets.load(steps(home, outcome)["feedback"]["key"], home.objects)
    assert rows.filter(rows["split"] != "test")[LIVE].all()
    assert not rows.filter(rows["split"] == "test")[LIVE].all()


def test_a_version_that_lost_a_class_is_held_to_the_one_that_had_it(
    home: Home, trained: Train
) -> None:
    project = garden(retrain=Retrain(data="window"))
    trained(project)
    ask(home, project, known=2)
    (version,) = trained(project, with_feedback=True).versions
    assert "flowers/lr@1" in version.reason
    assert version.state == "refused"  # it has forgotten a third of the past


def test_a_source_read_anew_is_trained_on_alone_and_judged_on_live_rows(
    home: Home, trained: Train
) -> None:
    project = garden(retrain=Retrain(data="reference"), gate=Gate(margin=0.3, recent=50))
    trained(project)
    ask(home, project)
    outcome = trained(project, with_feedback=True, fresh=True)
    rows = datasets.load(steps(home, outcome)["feedback"]["key"], home.objects)
    assert not rows.filter(rows["split"] != "test")[LIVE].any()
    assert rows.filter(rows["split"] == "test")[LIVE].sum() > 50
    assert steps(home, outcome)["feedback"]["expects_live"] is False


def test_a_source_read_anew_needs_no_live_rows(home: Home, trained: Train) -> None:
    project = garden(retrain=Retrain(data="reference"))
    outcome = trained(project, with_feedback=True)
    assert outcome.versions[0].state == "champion"
    assert steps(home, outcome)["feedback"]["live"] == 0


def test_rows_from_before_a_time_can_be_left_out(home: Home, trained: Train) -> None:
    project = garden()
    ask(home, project)
    with pytest.raises(DataRefused, match="live rows of flowers with a label"):
        trained(project, with_feedback=True, feedback_since=time.time() + 3_600, until="train")


def test_without_labels_it_says_where_to_send_them(home: Home, trained: Train) -> None:
    project = garden()
    ask(home, project, labelled=False)
    with pytest.raises(DataRefused) as refused:
        trained(project, with_feedback=True)
    assert "Send labels to /flowers/feedback" in str(refused.value.remedy)


def test_older_rows_weigh_less_by_being_fewer() -> None:
    from datetime import datetime, timedelta

    import polars as pl

    from timonel.pipeline.feedback import _thinned

    project = garden(drift=Drift(dated="seen"), retrain=Retrain(half_life=86_400.0))
    days = np.repeat([0, 1, 2], 2_000)
    start = datetime(2026, 1, 1)  # noqa: DTZ001 (as sources give them)
    rows = pl.DataFrame(
        {
            "seen": [start - timedelta(days=int(day)) for day in days],
            "day": days,
            "split": np.where(np.arange(6_000) % 4 == 0, "test", "train"),
        }
    )
    kept = _thinned(rows, project)
    counts = kept.group_by("split", "day").len().sort("split", "day")["len"].to_list()
    assert counts[:3] == [500, 500, 500]
    assert counts[3:] == pytest.approx([1_500, 750, 375], abs=80)
    with pytest.raises(DefinitionError, match="half_life"):
        garden(retrain=Retrain(half_life=1.0))
