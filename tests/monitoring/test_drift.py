"""Verdicts: which column moved, by how much, since when; or that there is too little to tell."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from timonel.errors import DataRefused
from timonel.monitoring.drift import Verdict, judge
from timonel.monitoring.reference import Reference
from timonel.monitoring.sketch import Sketch, sketch_of_frame
from timonel.policies import Drift
from timonel.schema import Column

START = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS = [
    Column("x", "number", nullable=True),
    Column("month", "integer"),
    Column("kind", "category"),
    Column("yes", "boolean"),
]


def rows(count: int, rng: np.random.Generator, first: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "x": rng.normal(10, 2, count),
            "month": rng.integers(1, 13, count),
            "kind": rng.choice(["a", "b", "c"], count, p=[0.6, 0.3, 0.1]),
            "yes": rng.random(count) < 0.3,
            "prediction": rng.choice(["no", "yes"], count),
            "probability": rng.uniform(0.5, 1.0, count),
            "time": [START + timedelta(minutes=first + n) for n in range(count)],
        }
    )


RNG = np.random.default_rng(0)
KNOWN = rows(20_000, RNG)
REFERENCE = Reference.of_frame(KNOWN, COLUMNS, ["no", "yes"], Drift(), answers=KNOWN)


def verdict(*frames: pl.DataFrame, policy: Drift | None = None) -> Verdict:
    sketches = [sketch_of_frame(frame, REFERENCE.shape) for frame in frames]
    return judge(REFERENCE, sketches, policy or Drift(), rng=np.random.default_rng(1))


def names(found: Verdict) -> list[str]:
    return [column.name for column in found.drifted]


def test_the_same_kind_of_rows_is_no_drift() -> None:
    found = verdict(rows(1_000, RNG))
    assert found.state == "ok"
    assert found.sentence() == "No drift in 1,000 rows."
    assert found.false_alarms_a_week == pytest.approx(0.28)


@pytest.mark.parametrize(("size", "shift"), [(50, 1.0), (200, 0.5), (1_000, 0.3)])
def test_a_shift_that_a_window_can_show_is_found_in_nearly_all_of_them(
    size: int, shift: float
) -> None:
    kept: dict[int, bytes] = {}
    found = 0
    for _ in range(60):
        frame = rows(size, RNG).with_columns(pl.col("x") + 2 * shift)
        window = sketch_of_frame(frame, REFERENCE.shape)
        said = judge(REFERENCE, window, Drift(), rng=RNG, calibrations=kept)
        found += "x" in names(said)
    assert found >= 57
    finding = next(c for c in said.columns if c.name == "x").findings[0]
    assert finding.detectable <= shift


def test_a_shift_that_does_not_matter_is_no_drift_however_certain() -> None:
    frame = rows(100_000, RNG).with_columns(pl.col("x") + 0.06 * 2)
    found = verdict(frame)
    assert found.state == "ok"
    assert next(c for c in found.columns if c.name == "x").findings[0].p < 1e-6
    small = verdict(frame, policy=Drift(matters={"wasserstein": 0.0}))
    assert names(small) == ["x"]


def test_it_says_how_much_and_shows_both_sides_and_examples() -> None:
    found = verdict(rows(500, RNG).with_columns(pl.col("x") + 20))
    (column,) = found.drifted
    assert column.distances["wasserstein"] == pytest.approx(10, rel=0.02)
    assert column.means == pytest.approx((10, 30), rel=0.02)
    assert column.histogram.window[-1] == pytest.approx(1, abs=0.1)
    assert sum(column.histogram.reference) == pytest.approx(1, abs=1e-3)
    assert column.examples[0].value.startswith("17")
    assert found.severity > 1
    assert "x (wasserstein 10 against" in found.sentence()
    assert json.loads(json.dumps(found.to_dict()))["state"] == "drift"


def test_unseen_values_are_drift_and_are_named() -> None:
    frame = rows(500, RNG).with_columns(
        kind=pl.when(pl.int_range(500) % 5 == 0).then(pl.lit("brand new")).otherwise("kind")
    )
    (column,) = verdict(frame).drifted
    assert column.name == "kind"
    assert column.unseen == pytest.approx((0.0, 0.2))
    assert column.examples[0].value == "brand new"
    assert {finding.aspect for finding in column.findings if finding.drifted} >= {"unseen"}


def test_values_that_go_missing_are_drift() -> None:
    frame = rows(500, RNG).with_columns(x=pl.when(pl.int_range(500) % 4 > 0).then("x"))
    (column,) = verdict(frame).drifted
    assert column.missing == pytest.approx((0.0, 0.25))
    assert [finding.aspect for finding in column.findings if finding.drifted] == ["missing"]


def test_answers_drift_too_and_are_told_from_inputs() -> None:
    frame = rows(500, RNG).with_columns(prediction=pl.lit("yes"), probability=pl.lit(0.51))
    found = verdict(frame)
    assert set(names(found)) == {"output.prediction", "output.confidence"}
    assert all(column.output for column in found.drifted)


def test_excluded_columns_are_shown_and_never_alarm() -> None:
    frame = rows(500, RNG).with_columns(month=pl.lit(1))
    assert names(verdict(frame)) == ["month"]
    found = verdict(frame, policy=Drift(exclude=("month",)))
    assert found.state == "ok"
    month = next(column for column in found.columns if column.name == "month")
    assert month.excluded
    assert month.distances["wasserstein"] > 1


def test_in_few_rows_only_what_is_plain_is_drift_and_otherwise_it_says_so() -> None:
    few = rows(8, RNG)
    found = verdict(few)
    assert found.state == "not enough data"
    assert "would not be told from chance" in found.sentence()
    assert verdict(few.with_columns(pl.col("x") + 40)).state == "drift"
    assert verdict(rows(0, RNG)).state == "not enough data"
    with pytest.raises(DataRefused, match="at least one window"):
        verdict()


def test_it_says_since_when_as_far_as_the_pieces_tell() -> None:
    pieces = [rows(200, RNG, first=200 * n) for n in range(6)]
    pieces[4:] = [piece.with_columns(pl.col("x") + 6) for piece in pieces[4:]]
    (column,) = verdict(*pieces).drifted
    assert column.since == (START + timedelta(minutes=800)).timestamp()
    everywhere = [piece.with_columns(pl.col("x") + 6) for piece in pieces[:4]]
    (column,) = verdict(*everywhere).drifted
    assert column.since == START.timestamp()


def test_a_window_without_answers_is_judged_by_its_inputs() -> None:
    found = verdict(rows(500, RNG).drop("prediction", "probability"))
    assert {column.name for column in found.columns} == {"x", "month", "kind", "yes"}


def test_columns_are_compared_with_their_season() -> None:
    rng = np.random.default_rng(3)
    days = [START + timedelta(hours=6 * n) for n in range(4 * 366)]
    year = pl.DataFrame({"day": days}).with_columns(
        x=10 * pl.col("day").dt.month().cast(pl.Float64) + pl.Series(rng.normal(size=len(days)))
    )
    column = [Column("x", "number")]
    july = year.filter(pl.col("day").dt.month() == 7)

    def state(policy: Drift, frame: pl.DataFrame) -> str:
        made = Reference.of_frame(year, column, [], policy)
        return judge(made, sketch_of_frame(frame, made.shape), policy, rng=rng).state

    plain, season = Drift(), Drift(season={"x": "month"}, dated="day")
    assert state(plain, july) == "drift"
    assert state(season, july) != "drift"
    assert state(season, july.with_columns(pl.col("x") + 20)) == "drift"


def test_a_constant_column_that_moves_is_drift() -> None:
    frame = pl.DataFrame({"x": [5.0] * 1_000})
    made = Reference.of_frame(frame, [Column("x", "number")], [], Drift())
    moved = sketch_of_frame(pl.DataFrame({"x": [5.001] * 100}), made.shape)
    assert judge(made, moved, Drift(), rng=RNG).state == "drift"
    same: Sketch = sketch_of_frame(frame, made.shape)
    assert judge(made, same, Drift(), rng=RNG).state == "ok"
