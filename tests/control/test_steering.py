"""Rollouts steered by traffic: each ends as its traffic deserves, restarted or not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control.live import Live
from timonel.control.steering import Steering
from timonel.rollouts import AllAtOnce, BlueGreen, Canary, Limits, Rollout, Shadow
from timonel.stores.events import Events

LIMITS = Limits(accuracy=0.05, errors=0.02, disagreement=0.2)
CANARY = Canary(steps=(0.2, 0.5, 1.0), requests=40, seconds=3, longest=600, watch=8, limits=LIMITS)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path, challengers=2)
    yield live
    live.database.close()


def begin(live: Live, plan: Rollout, steering: Steering | None = None) -> Steering:
    steering = steering or live.steering()
    (rollout,) = steering.start_waiting({("penguins", "rf"): plan})
    assert rollout.challenger == 3
    return steering


def drive(
    live: Live, steering: Steering, *, restart: bool = False, ticks: int = 40, **given: Any
) -> list[str]:
    """Traffic and ticks until the rollout ends; what was done on the way."""
    done: list[str] = []
    for _ in range(ticks):
        active = live.rollouts.active()
        if not active:
            break
        now = active[0]
        watching = now.state == "watching"
        share = 1.0 if watching else now.share
        live.traffic(share=share, mirror=now.mirror, challenger=3, **given)
        if restart:
            steering = live.steering()
        done += [decision.act for _, decision in steering.tick() if decision.act != "hold"]
    return done


@pytest.mark.parametrize("restart", [False, True])
def test_a_good_canary_is_promoted_step_by_step(live: Live, restart: bool) -> None:
    steering = begin(live, CANARY)
    done = drive(live, steering, restart=restart, labelled=0.5)
    assert done == ["step", "promote", "settle"]
    assert live.state() == {1: "retired", 2: "challenger", 3: "champion"}
    events = [e for e in Events(live.database).list("penguins/rf@3") if e.kind == "rollout"]
    assert len(events) == 4
    newest = events[0]
    assert newest.who == "controller"
    assert {check["name"] for check in newest.evidence["checks"]} == {
        "errors",
        "latency",
        "accuracy",
    }


@pytest.mark.parametrize(
    "trouble",
    [
        {"failing": 0.3},
        {"slower": 3.0},
        {"right": (1.0, 0.5), "labelled": 0.5},
        {"right": (1.0, 0.3)},  # without labels: they disagree too often
    ],
    ids=["fails", "slow", "wrong", "disagrees"],
)
def test_a_bad_canary_is_rolled_back(live: Live, trouble: dict[str, Any]) -> None:
    done = drive(live, begin(live, CANARY), **trouble)
    assert done[-1] == "roll back"
    assert "promote" not in done
    assert live.state() == {1: "champion", 2: "challenger", 3: "rolled_back"}


def test_what_breaks_while_it_is_watched_is_rolled_back(live: Live) -> None:
    steering = begin(live, CANARY)
    while not any(rollout.state == "watching" for rollout in live.rollouts.active()):
        drive(live, steering, ticks=1, labelled=0.5)
    assert drive(live, steering, failing=0.5) == ["roll back"]
    assert live.state() == {1: "champion", 2: "challenger", 3: "rolled_back"}


def test_blue_green_sees_mirrored_requests_alone_until_it_is_switched(live: Live) -> None:
    plan = BlueGreen(requests=100, seconds=3, longest=600, watch=5, limits=LIMITS)
    assert drive(live, begin(live, plan)) == ["promote", "settle"]
    assert live.state()[3] == "champion"


def test_a_shadow_is_compared_and_stays_a_challenger(live: Live) -> None:
    plan = Shadow(share=1.0, requests=100, seconds=3, longest=600, limits=LIMITS)
    assert drive(live, begin(live, plan), right=(1.0, 0.9)) == ["end"]
    assert live.state() == {1: "champion", 2: "challenger", 3: "challenger"}
    ended = live.rollouts.list("penguins")[0]
    assert ended.state == "ended"
    assert "got another answer" in ended.reason


def test_all_at_once_is_watched_against_the_hour_before(live: Live) -> None:
    live.traffic(400)
    steering = begin(live, AllAtOnce(watch=60, limits=LIMITS))
    assert live.state()[3] == "champion"
    assert drive(live, steering, failing=0.3) == ["roll back"]
    assert live.state() == {1: "champion", 2: "challenger", 3: "rolled_back"}


def test_a_challenger_is_rolled_out_once(live: Live) -> None:
    steering = begin(live, Shadow(share=1.0, requests=10, seconds=0, limits=LIMITS))
    assert steering.start_waiting({("penguins", "rf"): CANARY}) == []
    drive(live, steering)
    (second,) = steering.start_waiting({("penguins", "rf"): CANARY})
    assert second.challenger == 2  # the shadow left 3 where it was: it was tried
    assert steering.start_waiting({("penguins", "rf"): CANARY}) == []


def test_a_champion_changed_by_hand_ends_the_rollout(live: Live) -> None:
    steering = begin(live, CANARY)
    live.versions.move("penguins", "rf", 2, "champion", who="ana", reason="by hand")
    steering.tick()
    (ended,) = live.rollouts.list("penguins")
    assert (ended.state, ended.reason) == (
        "aborted",
        "penguins/rf@2 serves by now: it was changed by hand.",
    )
    assert live.state() == {1: "retired", 2: "champion", 3: "retired"}


def test_a_paused_rollout_still_rolls_back(live: Live) -> None:
    steering = begin(live, CANARY)
    live.rollouts.pause(live.rollouts.active()[0].id, who="ana", reason="lunch")
    assert drive(live, steering, ticks=2) == []
    assert drive(live, steering, failing=0.5) == ["roll back"]


def test_a_store_that_is_away_makes_one_rollout_wait(live: Live) -> None:
    steering = begin(live, CANARY)
    live.traffic(share=0.2, challenger=3)
    for segment in live.segments.list("penguins"):
        live.objects.delete(segment.object_key)
    assert steering.tick() == []
    assert live.rollouts.active()[0].state == "running"
