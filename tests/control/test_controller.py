"""One controller acts at a time, and none ends because something it talks to is away."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.live import Live
from timonel.control.controller import LEASE, Controller, parts_of, run
from timonel.errors import StoreError
from timonel.rollouts import BlueGreen
from timonel.stores.leases import Leases


class Part:
    """Counts its ticks, and fails when told."""

    def __init__(self) -> None:
        self.ticks = 0
        self.trouble: Exception | None = None

    def tick(self) -> None:
        self.ticks += 1
        if self.trouble:
            raise self.trouble


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path)
    yield live
    live.database.close()


def test_of_two_controllers_one_acts_until_it_falls_silent(live: Live) -> None:
    parts = Part(), Part()
    first, second = (
        Controller(live.database, [part], holder=name)
        for part, name in zip(parts, "ab", strict=True)
    )
    assert first.tick()
    assert not second.tick()
    live.clock.now += 11
    assert second.tick()
    assert not first.tick()
    assert [part.ticks for part in parts] == [1, 1]
    second.stop()
    assert first.tick()
    assert Leases(live.database).holder(LEASE) == "a"


def test_one_parts_trouble_does_not_stop_the_others(live: Live) -> None:
    bad, good = Part(), Part()
    bad.trouble = StoreError("The objects are away.")
    controller = Controller(live.database, [bad, good], holder="a")
    assert controller.tick()
    assert (bad.ticks, good.ticks) == (1, 1)


def test_it_goes_on_after_any_error_and_gives_the_lease_up_at_the_end(live: Live) -> None:
    part = Part()
    part.trouble = ZeroDivisionError()
    controller = Controller(live.database, [part], holder="a")
    run(controller, threading.Event(), lambda: part.ticks < 3, seconds=0)
    assert part.ticks == 3
    assert Leases(live.database).holder(LEASE) is None


def test_a_projects_challenger_is_rolled_out_by_its_plan(live: Live) -> None:
    from dataclasses import replace

    planned = replace(live.project, rollout=BlueGreen(requests=10, seconds=1, longest=100))
    for project, expected in ((live.project, 0), (planned, 1)):
        controller = Controller(
            live.database, parts_of([project], live.settings, live.database), holder="a"
        )
        assert controller.tick()
        assert len(live.rollouts.active()) == expected
