"""The calibration says how often a stated confidence is right."""

import numpy as np

from timonel.training.calibration import Calibration, calibrate


def overconfident(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences whose answers are right less often than they say: by their square."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1.0, rows)
    return confidence, rng.random(rows) < confidence**2


def test_an_overconfident_version_is_seen_through() -> None:
    found = calibrate(*overconfident(20_000))
    assert found is not None
    asked = np.array([0.6, 0.75, 0.9])
    assert np.allclose(found(asked), asked**2, atol=0.03)
    assert found.rows == 20_000


def test_the_curve_rises_and_is_short() -> None:
    found = calibrate(*overconfident(5_000))
    assert found is not None
    assert len(found.confidence) == len(found.accuracy) <= 64
    assert list(found.confidence) == sorted(found.confidence)
    assert list(found.accuracy) == sorted(found.accuracy)
    assert 0 <= found.accuracy[0] <= found.accuracy[-1] <= 1


def test_few_rows_give_no_curve() -> None:
    assert calibrate(*overconfident(29)) is None


def test_it_is_kept_as_json_values() -> None:
    found = calibrate(*overconfident(100))
    assert found is not None
    assert Calibration.from_dict(found.to_dict()) == found
