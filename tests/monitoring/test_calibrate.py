"""Calibration: the rate of alarms without drift is the stated one, at any size of window."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from timonel.errors import ArtifactError
from timonel.monitoring.calibrate import Calibration, bucket, calibrate
from timonel.monitoring.drift import judge
from timonel.monitoring.reference import Reference
from timonel.monitoring.sketch import sketch_of_frame
from timonel.policies import Drift
from timonel.schema import Column

COLUMNS = [
    *(Column(f"x{n}", "number") for n in range(6)),
    Column("n", "integer", nullable=True),
    Column("yes", "boolean"),
    Column("c", "category"),
]


def rows(count: int, rng: np.random.Generator) -> pl.DataFrame:
    weights = 1 / np.arange(1, 81)
    texts = np.array([f"value {n}" for n in range(80)])
    return pl.DataFrame(
        {
            **{f"x{n}": rng.normal(size=count) for n in range(5)},
            "x5": rng.exponential(size=count),
            "n": pl.Series(rng.poisson(3, count)).set(pl.Series(rng.random(count) < 0.05), None),
            "yes": rng.random(count) < 0.2,
            "c": texts[rng.choice(80, count, p=weights / weights.sum())],
        }
    )


def blocks(count: int, rng: np.random.Generator, length: int = 100) -> pl.DataFrame:
    """Rows that come in order of time: each stretch of them has ways of its own."""
    frame = rows(count, rng)
    stretches = -(-count // length)
    ways = np.repeat(rng.normal(size=(stretches, 2)), length, axis=0)[:count]
    likely = np.repeat(rng.beta(2, 8, stretches), length)[:count]
    return frame.with_columns(
        x0=pl.Series(frame["x0"].to_numpy() + ways[:, 0]),
        x1=pl.Series(frame["x1"].to_numpy() + ways[:, 1]),
        yes=pl.Series(rng.random(count) < likely),
    )


def alarms(reference: Reference, windows: Sequence[pl.DataFrame], policy: Drift) -> float:
    kept: dict[int, bytes] = {}
    rng = np.random.default_rng(9)
    states = [
        judge(
            reference, sketch_of_frame(w, reference.shape), policy, rng=rng, calibrations=kept
        ).state
        for w in windows
    ]
    return states.count("drift") / len(states)


@pytest.mark.parametrize("size", [50, 200, 1_000])
def test_windows_without_drift_alarm_at_the_stated_rate(size: int) -> None:
    rng = np.random.default_rng(size)
    policy = Drift(alarm=0.05)
    reference = Reference.of_frame(rows(20_000, rng), COLUMNS, [], policy)
    rate = alarms(reference, [rows(size, rng) for _ in range(100)], policy)
    assert rate <= 0.11  # 0.05 and three standard errors; bench/drift has finer figures


def test_of_rows_in_order_of_time_blocks_alarm_at_the_rate_and_shuffled_thresholds_far_above() -> (
    None
):
    rng = np.random.default_rng(1)
    frame = blocks(60_000, rng)
    fresh = blocks(60_000, rng)
    windows = [fresh[n * 600 : n * 600 + 200] for n in range(100)]
    ordered, shuffled = Drift(alarm=0.05, ordered=True), Drift(alarm=0.05)
    assert alarms(Reference.of_frame(frame, COLUMNS, [], ordered), windows, ordered) <= 0.11
    assert alarms(Reference.of_frame(frame, COLUMNS, [], shuffled), windows, shuffled) >= 0.5


def test_a_small_reference_is_a_sample_too_and_widens_the_thresholds() -> None:
    rng = np.random.default_rng(2)
    made = {
        size: calibrate(
            Reference.of_frame(rows(size, rng), COLUMNS, [], Drift()), 200, Drift(), rng=rng
        )
        .nulls["x0 values"]
        .square
        for size in (200, 20_000)
    }
    assert made[200] == pytest.approx(2 * made[20_000], rel=0.2)


def test_the_same_seed_gives_the_same_calibration_and_bytes_bring_it_back() -> None:
    reference = Reference.of_frame(rows(5_000, np.random.default_rng(3)), COLUMNS, [], Drift())
    one, two = (
        calibrate(reference, 100, Drift(), rng=np.random.default_rng(4), draws=200) for _ in "ab"
    )
    assert one == two == Calibration.from_bytes(one.to_bytes())
    with pytest.raises(ArtifactError, match="Expected a calibration"):
        Calibration.from_bytes(b"nothing")


def test_few_blocks_give_a_cautious_threshold() -> None:
    worst = tuple(np.linspace(0, 10, 1_000).tolist())
    drawn, few, fewest = (Calibration(1, 100, n, {}, worst) for n in (0, 500, 20))
    assert drawn.threshold(0.01) < few.threshold(0.01) < fewest.threshold(0.01) == 10
    assert drawn.chance(11) == pytest.approx(1 / 1_001)


def test_a_calibration_is_good_for_sizes_a_little_above_its_own() -> None:
    sizes = [bucket(n) for n in range(1, 3_000)]
    assert all(size <= n for n, size in enumerate(sizes, 1))
    assert all(size >= 0.88 * n for n, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 90
    assert all(bucket(size) == size for size in sizes)
