"""Metrics and their intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

from timonel.training.evaluate import (
    confusion_figure,
    evaluate,
    metric_of_counts,
    score_of,
    wilson,
)

CLASSES = ("a", "b", "c")


def answers(rows: int, right: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    return y, np.where(rng.random(rows) < right, y, rng.integers(0, 3, rows))


def test_metrics_are_those_of_scikit_learn() -> None:
    y, predicted = answers(300, 0.7)
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(3), 300)
    found = evaluate(y, predicted, probabilities, CLASSES, "f1_weighted")
    assert found.metrics["accuracy"].value == pytest.approx(accuracy_score(y, predicted))
    assert found.metrics["balanced_accuracy"].value == pytest.approx(
        balanced_accuracy_score(y, predicted)
    )
    assert found.value == pytest.approx(f1_score(y, predicted, average="weighted"))
    assert found.metrics["log_loss"].value == pytest.approx(log_loss(y, probabilities), rel=1e-4)
    assert [report.support for report in found.classes] == np.bincount(y).tolist()
    assert np.array(found.confusion).sum() == 300


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1_weighted", "log_loss"])
def test_each_interval_holds_its_estimate_and_narrows_with_rows(metric: str) -> None:
    widths = []
    for rows in (200, 5_000):
        y, predicted = answers(rows, 0.8)
        likely = np.full((rows, 3), 0.15)
        likely[np.arange(rows), predicted] = 0.7
        found = evaluate(y, predicted, likely, CLASSES).metrics[metric]
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1_weighted"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(metric: str) -> None:
    truth = 0.7 + 0.3 / 3
    held = 0
    for seed in range(200):
        y, predicted = answers(150, 0.7, seed)
        found = evaluate(y, predicted, None, CLASSES, seed=seed).metrics[metric]
        held += found.low <= truth <= found.high
    assert held >= 180  # 95 % is 190; fewer than 180 has a chance below 1e-6


def test_a_seed_repeats_itself() -> None:
    y, predicted = answers(100, 0.8)
    assert evaluate(y, predicted, None, CLASSES, seed=3) == evaluate(
        y, predicted, None, CLASSES, seed=3
    )


def test_many_rows_cost_little_and_give_the_same_kind_of_interval() -> None:
    y, predicted = answers(30_000, 0.9)
    likely = np.full((30_000, 3), 0.05)
    likely[np.arange(30_000), predicted] = 0.9
    found = evaluate(y, predicted, likely, CLASSES)
    few = evaluate(y[:15_000], predicted[:15_000], likely[:15_000], CLASSES)
    wide = few.metrics["log_loss"].high - few.metrics["log_loss"].low
    narrow = found.metrics["log_loss"].high - found.metrics["log_loss"].low
    assert narrow == pytest.approx(wide / np.sqrt(2), rel=0.1)


def test_wilson_agrees_with_the_published_example() -> None:
    # Newcombe (1998), table I: 81 of 263.
    assert wilson(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20, 0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0, 0.95) == (0.0, 1.0)


@given(rows=st.integers(1, 10_000), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_stays_within_0_and_1(
    rows: int, share: float, confidence: float
) -> None:
    right = round(rows * share)
    low, high = wilson(right, rows, confidence)
    assert 0.0 <= low <= right / rows <= high <= 1.0


def test_all_right_is_not_certain() -> None:
    y = np.array([0, 1, 2] * 10)
    found = evaluate(y, y, None, CLASSES)
    assert found.metrics["accuracy"].high == 1.0
    assert 0.85 < found.metrics["accuracy"].low < 0.95
    assert found.metrics["balanced_accuracy"].low < 0.95


def test_classes_without_rows_do_not_count() -> None:
    y = np.array([0, 0, 1, 1])
    found = evaluate(y, np.array([0, 0, 1, 2]), None, CLASSES)
    assert found.metrics["balanced_accuracy"].value == 0.75
    assert found.classes[2].recall == 0.0
    assert metric_of_counts("accuracy", np.zeros((3, 3))) == 0.0


def test_no_rows_say_nothing() -> None:
    nothing = np.empty(0, np.int64)
    found = evaluate(nothing, nothing, np.empty((0, 3)), CLASSES)
    assert found.metrics["balanced_accuracy"].low == 0.0
    assert found.metrics["f1_weighted"].high == 1.0
    assert "log_loss" not in found.metrics


def test_equal_losses_have_no_width() -> None:
    y = np.array([0, 1])
    likely = np.full((2, 3), 1 / 3)
    found = evaluate(y, y, likely, CLASSES).metrics["log_loss"]
    assert found.low == found.value == found.high


def test_scores_take_labels() -> None:
    assert score_of("accuracy", np.array(["a", "b"]), np.array(["a", "c"]), CLASSES) == 0.5


def test_it_is_json_and_a_picture() -> None:
    import json

    y, predicted = answers(50, 0.8)
    found = evaluate(y, predicted, None, CLASSES)
    assert json.loads(json.dumps(found.to_dict()))["rows"] == 50
    assert confusion_figure(found).startswith(b"\x89PNG")
