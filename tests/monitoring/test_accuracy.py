"""Accuracy from labels, and its estimate while labels are late."""

import numpy as np
import pytest

from timonel.monitoring.accuracy import Expected, estimated, measured
from timonel.training.calibration import Calibration, calibrate


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.beta(5, 2, rows) / 2 + 0.5
    return confidence, rng.random(rows) < confidence**2


def test_without_rows_nothing_is_said() -> None:
    assert measured(0, 0) is None
    assert estimated(np.array([]), Calibration((0.5, 1.0), (0.5, 1.0), 100)) is None


def test_labels_give_the_share_with_wilsons_interval() -> None:
    found = measured(90, 100)
    assert found is not None
    assert (found.rows, found.value, found.is_estimate) == (100, 0.9, False)
    assert (found.low, found.high) == pytest.approx((0.8256, 0.9448), abs=1e-4)


def test_the_estimates_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held, windows = 0, 100
    for seed in range(windows):
        calibration = calibrate(*drawn(2_000, 10_000 + seed))
        assert calibration is not None
        confidence, right = drawn(500, seed)
        found = estimated(confidence, calibration)
        assert found is not None
        assert found.is_estimate
        held += found.low <= right.mean() <= found.high
    assert held / windows >= 0.9


def test_unsure_answers_lower_the_estimate() -> None:
    calibration = calibrate(*drawn(5_000, 1))
    assert calibration is not None
    sure, unsure = (estimated(np.full(100, level), calibration) for level in (0.95, 0.55))
    assert sure is not None
    assert unsure is not None
    assert unsure.high < sure.low


def test_held_out_rows_that_were_all_right_promise_nothing_for_certain() -> None:
    held, windows = 0, 200
    for seed in range(windows):
        rng = np.random.default_rng(seed)
        sure, right = rng.uniform(0.9, 1.0, 115), rng.random(115) < 0.98
        calibration = calibrate(sure[:65], right[:65])
        assert calibration is not None
        found = estimated(sure[65:], calibration)
        assert found is not None
        assert found.high - found.low > 0.03
        held += found.low <= right[65:].mean() <= found.high
    assert held / windows >= 0.9


def test_what_is_expected_of_parts_adds_up() -> None:
    calibration = Calibration((0.5, 1.0), (0.6, 0.9), 200)
    sure = np.linspace(0.4, 1.0, 50)
    parts = Expected.of(sure[:20], calibration) + Expected.of(sure[20:], calibration)
    assert parts.rows == 50
    found, whole = parts.accuracy(calibration), estimated(sure, calibration)
    assert found is not None
    assert whole is not None
    assert (found.value, found.low) == pytest.approx((whole.value, whole.low))
