"""The timeline tells each thing that happened once, in the words of those who watch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stores.conftest import Clock
from timonel.rollouts import Canary
from timonel.simulate.timeline import ENDS, Timeline, moment_of
from timonel.stores.checks import Checks
from timonel.stores.database import Database
from timonel.stores.decisions import Decisions
from timonel.stores.events import Event
from timonel.stores.rollouts import Rollouts
from timonel.stores.versions import Versions

BEGAN = 1_795_000_000.0


@pytest.fixture
def clock() -> Clock:
    return Clock(BEGAN)


@pytest.fixture
def database(tmp_path: Path, clock: Clock) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path / 'a.db'}", clock=clock)
    versions = Versions(database)
    for number in (1, 2):
        names = ("penguins", "rf", number)
        versions.add(*names, digest=str(number), who="run 7", reason="made")
        versions.move(*names, "challenger", who="run 7", reason="passed")
    versions.move("penguins", "rf", 1, "champion", who="ana", reason="by hand")
    yield database
    database.close()


def check(database: Database, verdict: str, at: float) -> None:
    Checks(database).add(
        "penguins",
        "rf",
        "drift",
        first_time=at,
        last_time=at,
        rows=100,
        verdict=verdict,
        sentence=f"It is {verdict}.",
        detail={},
        who="controller",
    )


def said(timeline: Timeline) -> list[tuple[float, str, str]]:
    return [(moment.at, moment.stage, moment.sentence) for moment in timeline.news()]


def test_a_life_from_the_alarm_to_the_promotion(database: Database, clock: Clock) -> None:
    timeline = Timeline(database, "penguins", began=BEGAN)
    assert said(timeline) == []  # what was before is not told
    clock.now += 5
    check(database, "drift", 1.0)
    Decisions(database).add("penguins", "retrain", "Trained anew.", {}, who="c", run_id="r8")
    clock.now += 10
    assert said(timeline) == [(5, "alarm", "It is drift."), (5, "retraining", "Trained anew.")]
    versions = Versions(database)
    for number, to in ((3, "challenger"), (4, "refused")):
        versions.add("penguins", "rf", number, digest="x", who="run 8", reason="made")
        state: Any = to
        versions.move("penguins", "rf", number, state, who="run 8", reason=f"{to} it is")
    check(database, "ok", 2.0)
    assert said(timeline) == [
        (15, "gate", "challenger it is"),
        (15, "refused", "refused it is"),
        (15, "quiet", "It is ok."),
    ]
    rollouts = Rollouts(database)
    plan = Canary(steps=(0.1, 0.5, 1.0), watch=5)
    told = {"who": "controller", "reason": "because"}
    rollouts.start("penguins", "rf", 3, plan, id="a", share=0.1, mirror=0, **told)
    rollouts.step("a", 1, share=0.5, mirror=0, evidence={}, **told)
    rollouts.promote("a", evidence={}, **told)
    rollouts.settle("a", evidence={}, **told)
    assert said(timeline) == [
        (15, "rollout", "because"),
        (15, "step", "50% of the requests. because"),
        (15, "promoted", "because"),
        (15, "settled", "because"),
    ]
    assert said(timeline) == []


@pytest.mark.parametrize(
    ("act", "stage"), [("roll_back", "rolled back"), ("abort", "aborted"), ("end", "compared")]
)
def test_each_end_of_a_rollout_is_an_end(
    database: Database, clock: Clock, act: str, stage: str
) -> None:
    rollouts = Rollouts(database)
    rollouts.start("penguins", "rf", 2, Canary(), id="a", share=0.1, mirror=0, who="c", reason="x")
    timeline = Timeline(database, "penguins", began=BEGAN)
    evidence: dict[str, Any] = {} if act == "abort" else {"evidence": {}}
    getattr(rollouts, act)("a", who="c", reason="y", **evidence)
    assert [stage for _, stage, _ in said(timeline)] == [stage]
    assert stage in ENDS


def test_what_another_event_tells_is_not_told_twice() -> None:
    event = Event(
        id=1,
        at=1.0,
        who="controller",
        kind="version",
        subject="penguins/rf@2",
        before="challenger",
        after="champion",
        evidence={"rollout": "a"},
    )
    assert moment_of(event, 0.0) is None
