"""What a rollout does next, for every plan."""

from dataclasses import replace
from typing import Literal

import pytest

from timonel.control.evidence import Arm, Evidence, Pairs
from timonel.control.plan import Standing, Traffic, decide, traffic
from timonel.rollouts import AllAtOnce, BlueGreen, Canary, Rollout, Shadow

FEW = Evidence()
_ARM = Arm.of([0.001 * (1 + n % 7 / 10) for n in range(5_000)])
GOOD = Evidence(_ARM, _ARM, Pairs(same=5_000, agreed=5_000))
BROKEN = replace(GOOD, challenger=Arm(100, 100, {}))
CANARY = Canary(steps=(0.1, 0.5, 1.0), requests=50, seconds=30, longest=1_000, watch=60)


def standing(
    state: Literal["running", "paused", "watching"] = "running",
    *,
    step: int = 0,
    requests: int = 50,
    since: float = 100.0,
) -> Standing:
    return Standing(state, step, requests, since, started=100.0)


def act(plan: Rollout, stands: Standing, evidence: Evidence, now: float = 140.0) -> str:
    return decide(plan, stands, evidence, now, labels=True).act


def test_a_canary_waits_for_its_least_requests_and_seconds() -> None:
    decision = decide(CANARY, standing(requests=20), GOOD, 110.0, labels=True)
    assert decision.act == "hold"
    assert decision.sentence == (
        "At 10% of the requests, waiting for 30 more requests and 20 more seconds."
    )


def test_a_canary_steps_on_without_a_breach_and_is_promoted_at_the_last_step_alone() -> None:
    assert act(CANARY, standing(), FEW) == "step"
    assert act(CANARY, standing(), GOOD) == "step"
    assert act(CANARY, standing(step=1), FEW) == "hold"
    assert act(CANARY, standing(step=1, requests=3), GOOD) == "hold"
    assert act(CANARY, standing(step=1), GOOD) == "promote"


@pytest.mark.parametrize("state", ["running", "paused", "watching"])
@pytest.mark.parametrize("plan", [CANARY, BlueGreen(), AllAtOnce(watch=60)])
def test_a_breach_rolls_back_at_once_in_every_state(
    plan: Rollout, state: Literal["running", "paused", "watching"]
) -> None:
    decision = decide(plan, standing(state, requests=0), BROKEN, 101.0, labels=True)
    assert decision.act == "roll back"
    assert "100 of 100" in decision.sentence


@pytest.mark.parametrize(("undecided", "end"), [("roll back", "roll back"), ("promote", "promote")])
def test_the_longest_time_ends_in_what_the_plan_says(
    undecided: Literal["roll back", "promote"], end: str
) -> None:
    late = 100.0 + 1_000
    for plan in (
        replace(CANARY, undecided=undecided),
        BlueGreen(undecided=undecided, longest=1_000),
    ):
        decision = decide(plan, standing(step=0), FEW, late, labels=True)
        assert decision.act == end
        assert decision.sentence.startswith("Undecided after 1,000 seconds")


def test_a_paused_rollout_holds() -> None:
    assert act(CANARY, standing("paused", step=1), GOOD) == "hold"


def test_blue_green_switches_once_the_mirrored_requests_passed() -> None:
    plan = BlueGreen(requests=50, seconds=30, longest=1_000)
    assert act(plan, standing(), FEW) == "hold"
    assert act(plan, standing(requests=49), GOOD) == "hold"
    assert act(plan, standing(), GOOD) == "promote"


def test_a_watch_settles_when_its_time_is_over() -> None:
    assert act(CANARY, standing("watching", step=1), GOOD) == "hold"
    assert act(CANARY, standing("watching", step=1), GOOD, now=160.0) == "settle"
    assert act(AllAtOnce(), standing("watching"), FEW) == "settle"


def test_a_shadow_never_rolls_back_and_ends_with_its_comparison() -> None:
    plan = Shadow(requests=50, seconds=30, longest=1_000)
    assert act(plan, standing(), BROKEN, now=101.0) == "hold"
    ended = decide(plan, standing(), BROKEN, 140.0, labels=True)
    assert ended.act == "end"
    assert "Failed requests: 100 of 100" in ended.sentence
    promoting = replace(plan, then="promote")
    assert act(promoting, standing(), GOOD) == "promote"
    assert act(promoting, standing(), FEW) == "hold"
    assert act(promoting, standing(), FEW, now=1_100.0) == "end"
    assert act(promoting, standing(), BROKEN) == "end"


def test_traffic_is_what_the_step_says() -> None:
    assert traffic(CANARY, 0) == Traffic(share=0.1)
    assert traffic(CANARY, 1) == Traffic(share=0.5)
    assert traffic(BlueGreen(share=0.5), 0) == Traffic(mirror=0.5)
    assert traffic(Shadow(share=0.2), 0) == Traffic(mirror=0.2)
    assert traffic(AllAtOnce(), 0) == Traffic(share=1.0)
