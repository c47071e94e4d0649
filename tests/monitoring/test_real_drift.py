"""Real drift: crimes of 2016 and 2017 against those that came later, in order of time."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from timonel.data.portal import read_file
from timonel.data.quality import examine
from timonel.monitoring.drift import Verdict, judge
from timonel.monitoring.reference import Reference
from timonel.monitoring.sketch import sketch_of_frame
from timonel.project import load_project

CRIMES = load_project("crimes")
REWORDED = {"description", "location_description"}

pytestmark = pytest.mark.soak


def rows(folder: Path, *names: str) -> pl.DataFrame:
    """Records of the portal's files as the project's runs clean and check them."""
    raw = [read_file(folder / "chicago_crimes" / name)[0] for name in names]
    prepared, _ = CRIMES.prepared(pl.concat(raw, how="diagonal_relaxed"))
    return examine(prepared, CRIMES).frame


@pytest.fixture(scope="module")
def reference(test_data: Path) -> Reference:
    frame = rows(test_data, "crimes_2016.parquet", "crimes_2017.parquet")
    return Reference.of_frame(frame, CRIMES.columns, CRIMES.labels or (), CRIMES.drift)


def verdicts(reference: Reference, frame: pl.DataFrame, size: int) -> list[Verdict]:
    rng, kept = np.random.default_rng(0), dict[int, bytes]()
    return [
        judge(
            reference,
            sketch_of_frame(frame[start : start + size], reference.shape),
            CRIMES.drift,
            rng=rng,
            calibrations=kept,
        )
        for start in range(0, frame.height - size + 1, size)
    ]


@pytest.mark.parametrize("size", [500, 1_000, 2_000])
def test_quiet_months_alarm_within_the_stated_rate(
    reference: Reference, test_data: Path, size: int
) -> None:
    found = verdicts(reference, rows(test_data, "crimes_2018_jan_jun.parquet"), size)
    alarms = [verdict for verdict in found if verdict.state == "drift"]
    assert len(alarms) / len(found) <= 0.015
    # A year's first night has records that were dated to it for want of a better date.
    assert Counter(verdict.state for verdict in found)["ok"] >= 0.98 * len(found)


@pytest.mark.parametrize("size", [500, 1_000])
def test_the_reworded_columns_are_named_within_the_first_rows_and_in_every_window(
    reference: Reference, test_data: Path, size: int
) -> None:
    found = verdicts(reference, rows(test_data, "crimes_2024_sample_10k.csv.gz"), size)
    for verdict in found:
        assert {column.name for column in verdict.drifted} >= REWORDED
    first = {column.name: column for column in found[0].drifted}
    assert first["description"].unseen[1] > 0.1  # type: ignore[index]


def test_a_threshold_from_shuffled_rows_would_alarm_in_most_quiet_weeks(test_data: Path) -> None:
    shuffled = replace(CRIMES.drift, ordered=False)
    frame = rows(test_data, "crimes_2016.parquet", "crimes_2017.parquet")
    made = Reference.of_frame(frame, CRIMES.columns, CRIMES.labels or (), shuffled)
    quiet, rng = rows(test_data, "crimes_2018_jan_jun.parquet"), np.random.default_rng(0)
    kept: dict[int, bytes] = {}
    states = [
        judge(
            made,
            sketch_of_frame(quiet[n : n + 1_000], made.shape),
            shuffled,
            rng=rng,
            calibrations=kept,
        ).state
        for n in range(0, 60_000, 1_000)
    ]
    assert states.count("drift") > 30
