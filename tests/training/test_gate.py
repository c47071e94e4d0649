"""The gate, calibrated by simulation."""

from typing import Literal

import numpy as np
import pytest

from timonel.policies import Gate
from timonel.training.gate import Decision, Held, judge, paired_bounds

CLASSES = ("a", "b", "c", "d")


def pair(
    rows: int, champion: float, candidate: float, *, seed: int, shared: float = 0.8
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, and two answers right as often as given, that err together on `shared` of the rows."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(CLASSES), rows)
    luck = rng.random(rows)
    own = np.where(rng.random(rows) < shared, luck, rng.random(rows))
    wrong = (y + 1) % len(CLASSES)
    return y, np.where(luck < champion, y, wrong), np.where(own < candidate, y, wrong)


def decide(
    gate: Gate,
    y: np.ndarray,
    champion: np.ndarray | None,
    candidate: np.ndarray,
    metric: str = "accuracy",
    spread: float | None = None,
    champion_spread: float | None = None,
) -> Decision:
    return judge(
        gate,
        candidate=Held("penguins/rf@2", candidate),
        champion=None if champion is None else Held("penguins/rf@1", champion),
        metric=metric,
        y=y,
        classes=CLASSES,
        spread=spread,
        champion_spread=champion_spread,
    )


def test_a_first_version_needs_only_the_floor_and_the_sentence_says_so() -> None:
    y = np.array([0, 1, 2, 3])
    assert decide(Gate(), y, None, y).passed
    passed = decide(Gate(floor=0.7), y, None, np.array([0, 1, 2, 0]))
    assert passed.passed
    assert passed.verdict == "first"
    assert "first version" in passed.sentence
    assert "floor of 0.7" in passed.sentence
    refused = decide(Gate(floor=0.8), y, None, np.array([0, 1, 2, 0]))
    assert not refused.passed
    assert refused.verdict == "below floor"


def test_the_floor_holds_for_later_versions_too() -> None:
    y = np.zeros(10, np.int64)
    assert decide(Gate(floor=0.5), y, y + 1, y + 1).verdict == "below floor"


@pytest.mark.parametrize("rows", [1, 5, 40, 2_000])
def test_identical_answers_pass_on_any_number_of_rows(rows: int) -> None:
    y, champion, _ = pair(rows, 0.8, 0.8, seed=rows)
    found = decide(Gate(margin=0.0, class_margin=0.0), y, champion, champion)
    assert found.passed
    assert f"all {rows:,} held-out rows" in found.sentence


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1_weighted"])
def test_an_equal_candidate_passes_most_times_at_1000_rows(metric: str) -> None:
    trials = 60
    passed = 0
    for seed in range(trials):
        y, champion, candidate = pair(1_000, 0.95, 0.95, seed=seed)
        passed += decide(Gate(), y, champion, candidate, metric).passed
    assert passed >= 0.8 * trials


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1_weighted"])
def test_a_candidate_five_points_worse_is_refused_at_2000_rows(metric: str) -> None:
    trials = 400 if metric != "f1_weighted" else 100
    passed = 0
    for seed in range(trials):
        y, champion, candidate = pair(2_000, 0.95, 0.90, seed=seed)
        passed += decide(Gate(), y, champion, candidate, metric).passed
    assert passed <= trials // 100


def test_a_candidate_worse_by_exactly_the_margin_passes_no_oftener_than_said() -> None:
    gate = Gate(class_rows=10**6)
    passed = 0
    for seed in range(1_000):
        y, champion, candidate = pair(1_500, 0.92, 0.90, seed=seed)
        passed += decide(gate, y, champion, candidate).passed
    assert passed <= 75  # 5 % is 50; more than 75 has a chance below 1e-3


def test_too_few_rows_is_its_own_sentence() -> None:
    y = np.zeros(40, np.int64)
    champion, candidate = y.copy(), y.copy()
    champion[:2], candidate[2:4] = 1, 1
    found = decide(Gate(), y, champion, candidate)
    assert not found.passed
    assert found.verdict == "too few rows"
    assert "not enough held-out rows to tell" in found.sentence


def test_worse_is_said_even_of_few_rows_when_it_shows() -> None:
    y = np.zeros(40, np.int64)
    candidate = y.copy()
    candidate[:15] = 1
    assert decide(Gate(), y, y, candidate).verdict == "worse"


def test_one_class_that_got_worse_refuses_what_all_rows_would_let_pass() -> None:
    y = np.repeat(np.arange(4), [4_000, 4_000, 4_000, 300])
    champion, candidate = y.copy(), y.copy()
    candidate[-60:] = 0  # a fifth of the rare class
    found = decide(Gate(), y, champion, candidate)
    assert not found.passed
    assert found.verdict == "worse in a class"
    assert "d (300 rows)" in found.sentence
    assert decide(Gate(class_rows=301), y, champion, candidate).passed


def test_many_classes_too_small_to_tell_do_not_add_up_to_a_no() -> None:
    passed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = np.repeat(np.arange(20), 150)
        champion, candidate = (np.where(rng.random(3_000) < 0.93, y, (y + 1) % 20) for _ in "ab")
        passed += judge(
            Gate(margin=0.03),
            candidate=Held("a", candidate),
            champion=Held("b", champion),
            metric="accuracy",
            y=y,
            classes=tuple(range(20)),
        ).passed
    assert passed >= 48


def test_a_spread_that_widens_refuses_unless_it_is_tiny() -> None:
    y, champion, candidate = pair(1_000, 0.95, 0.96, seed=1)
    gate = Gate(stability=3)
    wide = decide(gate, y, champion, candidate, spread=0.04, champion_spread=0.01)
    assert wide.verdict == "unstable"
    assert "varies over folds" in wide.sentence
    assert decide(gate, y, champion, candidate, spread=0.009, champion_spread=0.0).passed
    assert decide(gate, y, champion, candidate, spread=0.029, champion_spread=0.01).passed


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1_weighted"])
def test_superiority_asks_for_better(
    metric: Literal["accuracy", "balanced_accuracy", "f1_weighted"],
) -> None:
    gate = Gate(superiority=True)
    y, champion, candidate = pair(2_000, 0.90, 0.95, seed=2)
    assert "better than" in decide(gate, y, champion, candidate, metric).sentence
    assert decide(gate, y, champion, champion, metric).verdict == "not better"
    assert decide(gate, y, candidate, champion, metric).verdict == "worse"


def test_a_possible_loss_beyond_the_margin_refuses() -> None:
    y = np.zeros(1_000, np.int64)
    champion, candidate = y.copy(), y.copy()
    champion[:10], candidate[10:34] = 1, 1
    found = decide(Gate(), y, champion, candidate)
    assert found.verdict == "worse"


def test_evidence_is_json() -> None:
    import json

    y, champion, candidate = pair(1_000, 0.95, 0.95, seed=5)
    json.dumps(decide(Gate(), y, champion, candidate).evidence)


def test_at_its_bounds_tangos_score_test_is_just_not_significant() -> None:
    from scipy.optimize import minimize_scalar

    won, lost, rows, z = 7, 12, 90, 1.6448536269514722
    found = paired_bounds(won, lost, rows, 0.95)
    for bound, sign in ((found.low, 1), (found.high, -1)):

        def unlikely(share: float, bound: float = bound) -> float:
            more = share + bound
            same = 1 - share - more
            return -float(
                won * np.log(more) + lost * np.log(share) + (rows - won - lost) * np.log(same)
            )

        edge = max(0.0, -bound)
        best = minimize_scalar(
            unlikely, bounds=(edge + 1e-9, (1 - bound) / 2 - 1e-9), options={"xatol": 1e-12}
        ).x
        variance = rows * (2 * best + bound * (1 - bound))
        assert (won - lost - rows * bound) / np.sqrt(variance) == pytest.approx(sign * z, abs=1e-4)


def test_bounds_mirror_each_other_and_know_their_ends() -> None:
    there, back = paired_bounds(12, 5, 80, 0.95), paired_bounds(5, 12, 80, 0.95)
    assert there.low == pytest.approx(-back.high)
    assert paired_bounds(0, 0, 0, 0.95).low == -1.0
    assert paired_bounds(0, 10, 10, 0.95).low == -1.0
