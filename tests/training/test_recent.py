"""After a change recent rows decide first, and the past has its say after them."""

from dataclasses import replace

import numpy as np
import pytest

from timonel.policies import Gate
from timonel.training.gate import Held
from timonel.training.recent import Rivals, judge_recent_first

ROWS, RECENT = 2_000, 500
LIVE = np.arange(ROWS) < RECENT
RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 2, ROWS)


def answers(recent: float, past: float, seed: int) -> np.ndarray:
    """Right with one share on recent rows and another on those of the past."""
    rng = np.random.default_rng(seed)
    right = rng.random(ROWS) < np.where(LIVE, recent, past)
    return np.where(right, TRUTH, 1 - TRUTH)


def rivals(candidate: tuple[float, float], champion: tuple[float, float]) -> Rivals:
    return Rivals(
        candidate=Held("the candidate", answers(*candidate, seed=1)),
        champion=Held("p/m@1", answers(*champion, seed=2)),
        metric="accuracy",
        y=TRUTH,
        classes=(0, 1),
    )


def test_worse_on_recent_rows_is_refused_however_good_it_is_on_the_others() -> None:
    decision = judge_recent_first(Gate(), rivals((0.8, 1.0), (0.9, 0.8)), LIVE)
    assert (decision.passed, decision.verdict) == (False, "worse")
    assert decision.sentence.startswith("On 500 recent rows: the candidate was refused")
    assert (decision.evidence["judged"], decision.evidence["rows"]) == ("recent", 500)


def test_better_on_recent_rows_may_be_a_little_worse_on_the_others() -> None:
    decision = judge_recent_first(Gate(margin=0.05), rivals((0.95, 0.88), (0.6, 0.9)), LIVE)
    assert decision.passed
    assert "On 500 recent rows: the candidate passed" in decision.sentence
    assert "On 1,500 rows of the reference, over all of them only" in decision.sentence
    assert decision.evidence["better_on_recent"] is True
    assert decision.evidence["recent"]["low"] > 0.2


def test_better_on_recent_rows_may_not_be_much_worse_on_the_others() -> None:
    decision = judge_recent_first(Gate(margin=0.05), rivals((0.95, 0.7), (0.6, 0.9)), LIVE)
    assert (decision.passed, decision.verdict) == (False, "worse")
    assert decision.evidence["judged"] == "recent, then reference"
    forgiving = Gate(margin=0.05, past=0.4)
    assert judge_recent_first(forgiving, rivals((0.95, 0.7), (0.6, 0.9)), LIVE).passed
    equal = judge_recent_first(forgiving, rivals((0.95, 0.7), (0.95, 0.9)), LIVE)
    assert not equal.passed


def test_a_class_that_changed_its_meaning_does_not_refuse_what_is_better_now() -> None:
    found = rivals((0.95, 0.9), (0.6, 0.9))
    of_class = ~LIVE & (TRUTH == 1)
    lost = found.candidate.predicted.copy()
    lost[np.flatnonzero(of_class)[:60]] = 0
    found = replace(found, candidate=Held("the candidate", lost))
    gate = Gate(margin=0.2, class_margin=0.05)
    assert judge_recent_first(gate, found, LIVE).passed
    equal = replace(found, champion=Held("p/m@1", np.where(LIVE, lost, found.champion.predicted)))  # type: ignore[union-attr]
    decision = judge_recent_first(gate, equal, LIVE)
    assert (decision.passed, decision.verdict) == (False, "worse in a class")


def test_an_unstable_candidate_passes_only_where_it_is_better_now() -> None:
    better = replace(rivals((0.95, 0.9), (0.6, 0.9)), spread=0.2, champion_spread=0.01)
    gate = Gate(margin=0.05)
    assert judge_recent_first(gate, better, LIVE).passed
    equal = replace(better, champion=better.candidate, candidate=better.candidate)
    other = equal.candidate.predicted.copy()
    other[RECENT] = 1 - other[RECENT]  # one row of the past differs
    equal = replace(equal, champion=Held("p/m@1", other))
    assert judge_recent_first(gate, equal, LIVE).verdict == "unstable"


def test_too_few_recent_rows_to_tell_leave_it_to_the_others() -> None:
    few = np.arange(ROWS) < 120
    found = rivals((0.7, 0.9), (0.7, 0.9))
    decision = judge_recent_first(Gate(margin=0.06), found, few)
    assert decision.passed
    assert decision.evidence["recent"]["verdict"] == "too few rows"


@pytest.mark.parametrize("count", [0, 99, ROWS])
def test_without_enough_of_each_all_rows_are_judged_together(count: int) -> None:
    decision = judge_recent_first(Gate(), rivals((0.9, 0.9), (0.9, 0.9)), np.arange(ROWS) < count)
    assert decision.evidence["rows"] == ROWS
    assert "recent" not in decision.sentence


def test_the_floor_is_asked_of_recent_rows() -> None:
    found = rivals((0.9, 0.6), (0.6, 0.6))
    assert judge_recent_first(Gate(floor=0.8, margin=0.1), found, LIVE).passed
    low = judge_recent_first(Gate(floor=0.95), found, LIVE)
    assert (low.verdict, low.evidence["judged"]) == ("below floor", "recent")
