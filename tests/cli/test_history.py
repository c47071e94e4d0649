"""The audit log and what served when, as commands."""

from pathlib import Path

import pytest

from tests.cli.conftest import Timonel
from tests.stores.conftest import Clock
from timonel.rollouts import Canary
from timonel.stores.database import Database
from timonel.stores.rollouts import Rollouts
from timonel.stores.versions import Versions

START = 1_795_000_000.0  # 2026-11-18T11:06:40Z


@pytest.fixture
def moved(home: Path) -> Path:
    """penguins/rf: champion 1; a minute later a canary of 2 at 10 %; a minute later champion."""
    clock = Clock(START)
    database = Database.open(f"sqlite:///{home / 'timonel.db'}", clock=clock)
    versions, rollouts = Versions(database), Rollouts(database)
    for number in (1, 2):
        versions.add("penguins", "rf", number, digest="d", who="ana", reason="made")
        versions.move("penguins", "rf", number, "challenger", who="gate", reason="not worse")
        if number == 1:
            versions.move("penguins", "rf", 1, "champion", who="ana", reason="the first one")
    clock.now += 60
    said = {"who": "ben", "reason": "looks better"}
    rollouts.start("penguins", "rf", 2, Canary(watch=0), id="r", share=0.1, mirror=0, **said)
    clock.now += 60
    rollouts.promote("r", evidence={"rows": 9}, who="controller", reason="fails no more often")
    database.close()
    return home


@pytest.mark.usefixtures("moved")
def test_events_are_listed_with_who_what_and_why_the_newest_last(timonel: Timonel) -> None:
    lines = [line.split("\t") for line in timonel("events", "penguins/rf").out.splitlines()]
    assert lines[0] == ["when (UTC)", "who", "kind", "subject", "change", "reason"]
    assert lines[-2][1:] == [
        "controller", "version", "penguins/rf@2", "challenger → champion", "fails no more often",
    ]  # fmt: skip
    assert [
        "2026-11-18T11:07:40Z", "ben", "rollout", "penguins/rf@2", "– → running at 10 %",
        "looks better",
    ] in lines  # fmt: skip
    times = [line[0] for line in lines[1:]]
    assert times == sorted(times)


@pytest.mark.usefixtures("moved")
def test_events_are_chosen_by_kind_time_and_number(timonel: Timonel) -> None:
    found = timonel("events", "--kind", "rollout", "--json").json()
    assert [event["after"] for event in found] == ["running", "promoted"]
    assert found[-1]["evidence"]["rows"] == 9
    assert len(timonel("events", "--limit", 2, "--json").json()) == 2
    late = timonel("events", "penguins", "--since", "2026-11-18T11:08:00Z", "--json").json()
    assert {event["at"] for event in late} == {"2026-11-18T11:08:40Z"}
    assert timonel("events", "penguins", "--since", "2126-01-01", "--json").json() == []


@pytest.mark.usefixtures("moved")
def test_history_is_a_line_a_change(timonel: Timonel) -> None:
    lines = [line.split("\t") for line in timonel("history", "penguins").out.splitlines()]
    assert lines[1:] == [
        ["2026-11-18T11:06:40Z", "penguins/rf", "penguins/rf@1", "", "ana", "the first one"],
        ["2026-11-18T11:07:40Z", "penguins/rf", "penguins/rf@1",
         "penguins/rf@2 10 % of requests", "ben", "looks better"],
        ["2026-11-18T11:08:40Z", "penguins/rf", "penguins/rf@2", "", "controller",
         "fails no more often"],
    ]  # fmt: skip


@pytest.mark.usefixtures("moved")
def test_what_served_at_a_time_is_a_sentence_with_its_events(timonel: Timonel) -> None:
    said = timonel("history", "penguins/rf", "--at", "2026-11-18T11:08:00Z").out.splitlines()
    assert said == [
        (
            "At 2026-11-18T11:08:00Z penguins/rf@1 answered 90 % of the requests, champion since "
            "2026-11-18T11:06:40Z by ana: the first one, and its challenger penguins/rf@2 10 %, "
            "since 2026-11-18T11:07:40Z by ben: looks better."
        ),
        "  event 3: penguins/rf@1 challenger → champion at 2026-11-18T11:06:40Z by ana",
        "  event 6: penguins/rf@2 – → running at 2026-11-18T11:07:40Z by ben",
    ]
    [found] = timonel("history", "penguins", "--at", "2026-11-18T12:00Z", "--json").json()
    assert found["served"]["champion"]["version"] == "penguins/rf@2"
    assert found["served"]["shift"] is None
    assert found["events"][0]["evidence"]["former"] == "penguins/rf@1"
    assert found["sentence"].startswith("At 2026-11-18T12:00:00Z penguins/rf@2 answered every")


@pytest.mark.usefixtures("moved")
def test_a_wrong_name_is_told_with_those_there_are(timonel: Timonel) -> None:
    ended = timonel("history", "penguin")
    assert (ended.code, "penguins/rf" in ended.err) == (2, True)
    ended = timonel("events", "penguin")
    assert (ended.code, "events of: penguins" in ended.err) == (2, True)


def test_a_home_without_anything_has_no_events(timonel: Timonel, home: Path) -> None:
    assert timonel("events", "--json").json() == []
    assert timonel("history", "penguins").code == 2
    assert not home.exists()
