"""Rollouts: every change is one transaction, and no two go on at once."""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.stores.conftest import Clock
from timonel.errors import BadRequest, Busy, NotFound, TimonelError
from timonel.rollouts import AllAtOnce, BlueGreen, Canary, Rollout, Shadow
from timonel.stores.database import Database
from timonel.stores.events import Events
from timonel.stores.rollouts import ACTIVE, Rollouts, Standing
from timonel.stores.versions import Versions

WHO: dict[str, Any] = {"who": "ana", "reason": "because"}
SAID: dict[str, Any] = {**WHO, "evidence": {"rows": 3}}


@pytest.fixture
def database_maker(tmp_path: Path, migrated: Path, clock: Clock) -> Callable[[], Database]:
    """Makes one empty database after the other."""
    numbers = count()

    def make() -> Database:
        path = tmp_path / f"machine-{next(numbers)}.db"
        shutil.copy(migrated, path)
        return Database.open(f"sqlite:///{path}", clock=clock)

    return make


def with_versions(database: Database, challengers: int = 1) -> Versions:
    """Champion 1 of boat/m, and challengers from 2 on."""
    versions = Versions(database)
    for number in range(1, challengers + 2):
        versions.add("boat", "m", number, digest="d", who="ana", reason="made")
        versions.move("boat", "m", number, "challenger", **WHO)
    versions.move("boat", "m", 1, "champion", **WHO)
    return versions


def start(database: Database, plan: Rollout | None = None, **given: Any) -> Standing:
    values = {"id": "r1", "share": 0.1, "mirror": 0.0, **WHO, **given}
    challenger = values.pop("challenger", 2)
    return Rollouts(database).start("boat", "m", challenger, plan or Canary(), **values)


def states(versions: Versions) -> dict[int, str]:
    return {version.number: version.state for version in versions.list("boat")}


def test_a_canary_goes_from_step_to_step_to_promotion_and_out_of_its_watch(
    database: Database, clock: Clock
) -> None:
    versions, rollouts = with_versions(database), Rollouts(database)
    before = database.generation()
    standing = start(database)
    assert (standing.state, standing.step, standing.share) == ("running", 0, 0.1)
    assert database.generation() > before
    clock.now += 5
    standing = rollouts.step("r1", 1, share=1.0, mirror=0.0, **SAID)
    assert (standing.step, standing.share, standing.since) == (1, 1.0, clock.now)
    assert states(versions) == {1: "champion", 2: "challenger"}
    assert rollouts.promote("r1", **SAID).state == "watching"
    assert states(versions) == {1: "retired", 2: "champion"}
    done = rollouts.settle("r1", **SAID)
    assert (done.state, done.finished, done.evidence) == ("promoted", clock.now, {"rows": 3})
    assert not rollouts.active()
    assert rollouts.list("boat", "m") == [done]
    kinds = [
        (event.before, event.after)
        for event in reversed(Events(database).list("boat/m"))
        if event.kind == "rollout"
    ]
    assert kinds == [
        (None, "running"),
        ("running", "running"),
        ("running", "watching"),
        ("watching", "promoted"),
    ]


@pytest.mark.parametrize("promoted", [False, True])
def test_a_rollback_brings_the_first_champion_back(database: Database, promoted: bool) -> None:
    versions, rollouts = with_versions(database), Rollouts(database)
    start(database)
    if promoted:
        rollouts.promote("r1", **SAID)
    assert rollouts.roll_back("r1", **SAID).state == "rolled_back"
    assert states(versions) == {1: "champion", 2: "rolled_back"}


def test_all_at_once_is_champion_in_the_same_moment(database: Database) -> None:
    versions = with_versions(database, 2)
    assert start(database, AllAtOnce()).state == "promoted"
    assert states(versions) == {1: "retired", 2: "champion", 3: "challenger"}
    watched = start(database, AllAtOnce(watch=60), id="r2", challenger=3)
    assert watched.state == "watching"
    assert Rollouts(database).roll_back("r2", **SAID).state == "rolled_back"
    assert states(versions) == {1: "retired", 2: "champion", 3: "rolled_back"}


def test_a_pause_holds_and_an_abort_leaves_the_version_to_be_tried_again(
    database: Database,
) -> None:
    versions, rollouts = with_versions(database), Rollouts(database)
    start(database)
    assert rollouts.pause("r1", **WHO).state == "paused"
    with pytest.raises(Busy, match="to be running, got paused"):
        rollouts.step("r1", 1, share=0.5, mirror=0.0, **SAID)
    assert rollouts.resume("r1", **WHO).state == "running"
    assert rollouts.abort("r1", **WHO).state == "aborted"
    assert states(versions) == {1: "champion", 2: "retired"}
    versions.move("boat", "m", 2, "champion", **WHO)


def test_a_shadow_ends_without_promotion(database: Database) -> None:
    versions = with_versions(database)
    start(database, Shadow(), share=0.0, mirror=0.1)
    ended = Rollouts(database).end("r1", **SAID)
    assert (ended.state, ended.mirror) == ("ended", 0.0)
    assert states(versions) == {1: "champion", 2: "challenger"}


def test_one_rollout_of_a_model_at_a_time(database: Database) -> None:
    with_versions(database, 2)
    start(database)
    with pytest.raises(Busy, match=r"got that of boat/m@2 \(running\)"):
        start(database, id="r2", challenger=3)


@pytest.mark.parametrize(
    ("challenger", "error"), [(1, "which is champion"), (9, "which there is not")]
)
def test_what_is_no_challenger_is_not_rolled_out(
    database: Database, challenger: int, error: str
) -> None:
    with_versions(database)
    with pytest.raises((BadRequest, NotFound), match=error):
        start(database, challenger=challenger)


def test_without_a_champion_there_is_nothing_to_compare_with(database: Database) -> None:
    versions = Versions(database)
    versions.add("boat", "m", 2, digest="d", who="ana", reason="made")
    versions.move("boat", "m", 2, "challenger", **WHO)
    with pytest.raises(BadRequest, match="got none"):
        start(database)


def test_a_champion_made_meanwhile_stops_the_promotion(database: Database) -> None:
    versions, rollouts = with_versions(database, 2), Rollouts(database)
    start(database)
    versions.move("boat", "m", 3, "champion", **WHO)
    with pytest.raises(Busy, match="it changed meanwhile"):
        rollouts.promote("r1", **SAID)
    assert rollouts.get("r1").state == "running"
    assert rollouts.abort("r1", **WHO).state == "aborted"


def test_notes_change_nothing_but_what_is_known(database: Database) -> None:
    with_versions(database)
    start(database)
    events = len(Events(database).list("boat/m"))
    Rollouts(database).note("r1", reason="Waiting.", evidence={"rows": 9})
    assert Rollouts(database).get("r1").evidence == {"rows": 9}
    assert len(Events(database).list("boat/m")) == events


def test_plans_come_back_as_they_were(database: Database) -> None:
    plan = BlueGreen(share=0.5, requests=7)
    with_versions(database)
    assert start(database, plan).plan == plan


def test_an_unknown_rollout_is_said(database: Database) -> None:
    with pytest.raises(NotFound, match="which there is not"):
        Rollouts(database).get("r9")


class Machine(RuleBasedStateMachine):
    """Calls changes in any order; each does all of its work or none."""

    make: Callable[[], Database]

    @initialize()
    def prepare(self) -> None:
        self.database = type(self).make()
        self.versions = with_versions(self.database, 6)
        self.rollouts = Rollouts(self.database)
        self.begun = 0

    def attempt(self, change: Callable[[], object]) -> None:
        before = (states(self.versions), len(Events(self.database).list(limit=10_000)))
        try:
            change()
        except TimonelError:
            assert before == (
                states(self.versions),
                len(Events(self.database).list(limit=10_000)),
            )
        champions = [n for n, state in states(self.versions).items() if state == "champion"]
        assert len(champions) == 1
        assert len(self.rollouts.active()) <= 1

    @precondition(lambda self: self.begun < 6)
    @rule()
    def begin(self) -> None:
        self.begun += 1
        number = self.begun + 1
        self.attempt(lambda: start(self.database, id=f"r{self.begun}", challenger=number))

    def current(self) -> str:
        return f"r{self.begun}"

    @rule()
    def step(self) -> None:
        step = next((s.step + 1 for s in self.rollouts.active()), 1)
        self.attempt(
            lambda: self.rollouts.step(self.current(), step, share=0.5, mirror=0.0, **SAID)
        )

    @rule()
    def promote(self) -> None:
        self.attempt(lambda: self.rollouts.promote(self.current(), **SAID))

    @rule()
    def roll_back(self) -> None:
        self.attempt(lambda: self.rollouts.roll_back(self.current(), **SAID))

    @rule()
    def pause(self) -> None:
        self.attempt(lambda: self.rollouts.pause(self.current(), **WHO))

    @rule()
    def resume(self) -> None:
        self.attempt(lambda: self.rollouts.resume(self.current(), **WHO))

    @rule()
    def abort(self) -> None:
        self.attempt(lambda: self.rollouts.abort(self.current(), **WHO))

    @rule()
    def settle(self) -> None:
        self.attempt(lambda: self.rollouts.settle(self.current(), **SAID))

    def teardown(self) -> None:
        for standing in self.rollouts.list(limit=100):
            assert (standing.finished is None) == (standing.state in ACTIVE)
        self.database.close()


def test_any_order_of_changes_leaves_one_champion_and_one_active_rollout_at_most(
    database_maker: Callable[[], Database],
) -> None:
    Machine.make = staticmethod(database_maker)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
