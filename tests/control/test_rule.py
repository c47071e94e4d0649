"""The rule that says when to train anew, by table: each reason to, and each reason not to yet."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timonel.control.rule import Signals, Situation, decide
from timonel.errors import DefinitionError
from timonel.policies import Retrain

DAY = 86_400.0
POLICY = Retrain(on=("drift", "accuracy", "labels", "schedule"), every=30 * DAY)
QUIET = Signals(model="rf", live=0.95, low=0.93, high=0.97, held=0.96)
DRIFT = replace(QUIET, windows=2, severity=3.0, since=99 * DAY)
WORSE = replace(QUIET, live=0.85, low=0.82, high=0.88)
CALM = Situation(
    now=100 * DAY, models=(QUIET,), trained=90 * DAY, labelled=500, drifting=300, recent=600
)


@pytest.mark.parametrize(
    ("changes", "called", "said"),
    [
        ({"models": (DRIFT,)}, "drift", "drift of rf in 2 windows in a row, severity 3"),
        ({"models": (WORSE,)}, "accuracy", "accuracy of rf on live rows 0.850, at most 0.880"),
        ({"labelled": 1_000}, "labels", "1,000 more labelled rows since the last training"),
        ({"trained": 70 * DAY}, "schedule", "trained 30 days ago, where it is due every 30 days"),
    ],
)
def test_each_trigger_calls_for_training(changes: Any, called: str, said: str) -> None:
    decision = decide(replace(CALM, **changes), POLICY)
    assert (decision.act, decision.called, decision.models) == ("retrain", (called,), ("rf",))
    assert said in decision.sentence
    only = replace(POLICY, on=tuple(name for name in POLICY.on if name != called))
    assert decide(replace(CALM, **changes), only).act == "hold"


@pytest.mark.parametrize(
    ("signals", "why"),
    [
        ({"windows": 1}, "one window may be chance"),
        ({"severity": 0.9}, "it is milder than asked for"),
        ({"windows": 0}, "it went away"),
    ],
)
def test_drift_must_hold_and_be_severe(signals: Any, why: str) -> None:
    decision = decide(replace(CALM, models=(replace(DRIFT, **signals),)), POLICY)
    assert (decision.act, decision.why) == ("hold", "quiet"), why


def test_an_accuracy_that_may_be_as_before_calls_for_nothing() -> None:
    unsure = replace(WORSE, high=0.92)
    assert decide(replace(CALM, models=(unsure,)), POLICY).act == "hold"
    unknown = replace(WORSE, live=None)
    assert decide(replace(CALM, models=(unknown,)), POLICY).act == "hold"


@pytest.mark.parametrize(
    ("changes", "why", "said"),
    [
        ({"starting": "r1"}, "starting", "run r1 is about to begin"),
        ({"running": "r1"}, "running", "run r1 goes on"),
        ({"rollout": "p/rf@4"}, "rollout", "p/rf@4 is on its way already"),
        ({"drifting": 199}, "rows", "only 199 live rows since drift began have a label, of 200"),
        ({"ended": 99.5 * DAY}, "cool-down", "12 hours are left to wait"),
        ({"runs": 3}, "runs", "the budget of 3 runs a week is used up"),
        ({"minutes": 601.0}, "minutes", "the budget of 600 minutes a week is used up"),
    ],
)
def test_each_obstacle_holds_what_is_called_for(changes: Any, why: str, said: str) -> None:
    decision = decide(replace(CALM, models=(DRIFT,), **changes), POLICY)
    assert (decision.act, decision.why, decision.called) == ("hold", why, ("drift",))
    assert "Training is called for (drift of rf" in decision.sentence
    assert said in decision.sentence


def test_rows_from_before_the_drift_do_not_represent_it() -> None:
    decision = decide(replace(CALM, models=(DRIFT,)), POLICY)
    assert decision.since == 99 * DAY
    assert "300 labelled live ones" in decision.sentence
    assert decide(replace(CALM, trained=0.0), POLICY).since is None


def test_a_source_that_is_read_anew_needs_no_labels() -> None:
    bare = replace(CALM, models=(DRIFT,), drifting=0, recent=0)
    assert decide(bare, POLICY).why == "rows"
    assert decide(bare, replace(POLICY, data="reference")).act == "retrain"


def test_only_the_models_that_drifted_are_trained() -> None:
    other = replace(QUIET, model="lr")
    assert decide(replace(CALM, models=(DRIFT, other)), POLICY).models == ("rf",)
    both = replace(CALM, models=(DRIFT, other), trained=0.0)
    assert decide(both, POLICY).models == ("rf", "lr")


def test_it_says_why_not_by_trigger() -> None:
    decision = decide(CALM, POLICY)
    assert decision.sentence == (
        "Nothing calls for training: drift in 0 windows in a row of 2; accuracy on live rows "
        "0.950; 500 more labelled rows of 1,000; due in 20 days."
    )
    assert dict(decision.evidence)["labelled"] == 500


@given(
    labelled=st.integers(0, 2_000),
    recent=st.integers(0, 2_000),
    windows=st.integers(0, 4),
    age=st.floats(0, 60),
    ended=st.none() | st.floats(90, 100),
    runs=st.integers(0, 5),
    minutes=st.floats(0, 1_200),
    running=st.none() | st.just("r1"),
)
def test_nothing_is_begun_beyond_the_budget_or_beside_another_run(
    labelled: int,
    recent: int,
    windows: int,
    age: float,
    ended: float | None,
    runs: int,
    minutes: float,
    running: str | None,
) -> None:
    situation = replace(
        CALM,
        models=(replace(DRIFT, windows=windows),),
        trained=CALM.now - age * DAY,
        labelled=labelled,
        drifting=recent,
        recent=recent,
        ended=None if ended is None else ended * DAY,
        runs=runs,
        minutes=minutes,
        running=running,
    )
    decision = decide(situation, POLICY)
    if decision.act == "retrain":
        assert running is None
        assert runs < POLICY.runs
        assert minutes < POLICY.minutes
        assert recent >= POLICY.rows
        assert decision.called
    assert decide(situation, Retrain()).act == "hold"


@pytest.mark.parametrize(
    "wrong",
    [
        {"on": "drift"},
        {"on": ("moon",)},
        {"data": "all"},
        {"windows": 0},
        {"drop": 2.0},
        {"half_life": 0.0},
        {"runs": -1},
    ],
)
def test_a_wrong_policy_fails_where_it_is_written(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match="Retrain"):
        Retrain(**wrong)
