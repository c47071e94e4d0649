"""Windows of live rows are checked when it is time, each row in one, and told when they change."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.control.live import Live
from timonel.control.watch import Watch
from timonel.policies import Drift
from timonel.stores.checks import Check, Checks
from timonel.stores.events import Events

LATER = 10.0**9  # seconds: made-up traffic begins after the versions were made


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path)
    live.clock.now += LATER
    live.project = replace(live.project, drift=Drift(every=60, window=400))
    yield live
    live.database.close()


def watch(live: Live) -> Watch:
    return Watch([live.project], live.settings, live.database)


def found(live: Live) -> list[Check]:
    """All checks, oldest first."""
    return list(reversed(Checks(live.database).list("penguins", "rf")))


def test_a_window_without_drift_is_ok_and_no_event(live: Live) -> None:
    live.traffic(500)
    assert [verdict.state for verdict in watch(live).tick()] == ["ok"]
    (check,) = found(live)
    assert (check.verdict, check.rows, check.detail["version"]) == ("ok", 400, "penguins/rf@1")
    assert Events(live.database).list("penguins/rf")[0].kind != "drift"


def test_drift_is_told_once_by_an_event_and_its_end_too(live: Live) -> None:
    part = watch(live)
    for moved in (1.0, 1.3, 1.3, 1.0):
        live.traffic(400, seconds=70.0, moved=moved)
        part.tick()
    assert [check.verdict for check in found(live)] == ["ok", "drift", "drift", "ok"]
    assert "bill_length_mm" in found(live)[1].sentence
    events = [event for event in Events(live.database).list("penguins/rf") if event.kind == "drift"]
    assert [(e.before, e.after) for e in reversed(events)] == [("ok", "drift"), ("drift", "ok")]


def test_nothing_is_checked_before_its_time(live: Live) -> None:
    part = watch(live)
    live.traffic(400)
    assert part.tick()
    live.traffic(400, seconds=50.0)
    assert not part.tick()
    live.clock.now += 11.0
    assert part.tick()


def test_a_restart_neither_repeats_a_window_nor_skips_one(live: Live) -> None:
    live.traffic(400)
    watch(live).tick()
    live.clock.now += 61.0
    assert not watch(live).tick()  # there is nothing new
    live.traffic(400, seconds=70.0)
    watch(live).tick()
    first, second = found(live)
    assert first.last_time < second.first_time
    assert [check.rows for check in (first, second)] == [400, 400]


def test_few_rows_are_judged_for_what_they_are_and_grow_into_a_window(live: Live) -> None:
    part = watch(live)
    for _ in range(4):
        live.traffic(12, seconds=61.0)
        part.tick()
    assert [check.rows for check in found(live)] == [12, 24, 36, 48]
    assert found(live)[0].verdict == "not enough data"
    assert "would not be told from chance" in found(live)[0].sentence
    live.traffic(600, seconds=61.0)
    part.tick()
    assert found(live)[-1].rows == 400


def test_rows_that_reach_the_segments_late_are_in_the_next_window(live: Live) -> None:
    part = watch(live)
    late = live.clock.now
    live.clock.now += 30.0
    live.traffic(400)
    part.tick()
    after, live.clock.now = live.clock.now + 61.0, late
    live.traffic(30)
    live.clock.now = after
    with live.database.begin() as connection:  # recorded now, as a late worker's file is
        connection.exec_driver_sql(
            "UPDATE segments SET added = ? WHERE first_time < ?", (after, late + 10)
        )
    part.tick()
    assert [check.rows for check in found(live)] == [400, 30]


def test_only_what_the_champion_itself_answered_counts(live: Live) -> None:
    live.traffic(300, share=0.5, mirror=1.0)
    (verdict,) = watch(live).tick()
    assert 100 < verdict.rows < 200


def test_a_version_without_a_reference_is_left_alone(live: Live, tmp_path: Path) -> None:
    from tests.homes import deploy_digits
    from timonel.project import load_project

    deploy_digits(live.settings)
    live.traffic(400)
    part = Watch([load_project("digits"), live.project], live.settings, live.database)
    assert len(part.tick()) == 1
    assert Checks(live.database).list("digits") == []
