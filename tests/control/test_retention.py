"""What is too old goes, and nothing that a version or a rollout needs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.monitoring.answered import START, Home, id_of
from timonel.control.retention import Keeping, Pruned, prune
from timonel.data.collections import Collection, note_collection, noted_collections
from timonel.policies import Retention
from timonel.project import load_project
from timonel.rollouts import Canary
from timonel.settings import Settings
from timonel.stores.events import Events
from timonel.stores.keeping import keeping
from timonel.stores.rollouts import Rollouts
from timonel.stores.runs import Runs
from timonel.stores.versions import Versions

DAY = 86_400.0
WEEK = Retention(segments=7 * DAY, labels=7 * DAY, datasets=7 * DAY)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Ten days, each with a segment of two rows, a label, and a dataset collected of it."""
    home = Home(tmp_path)
    for day in range(10):
        home.clock.now = START + day * DAY
        answered = home.answer("a", "b")
        home.export(answered, home.said(answered, "a"))
        key = home.objects.put(f"dataset {day}".encode())
        note_collection(
            home.objects, "boat", Collection(key, id_of(answered), id_of(answered), f"run-{day}")
        )
    home.clock.now = START + 10 * DAY
    return home


def act(home: Home, policy: Retention = WEEK, *, dry_run: bool = False) -> Pruned:
    return prune(
        Settings(home=home.folder),
        home.database,
        home.objects,
        "boat",
        policy,
        who="test",
        dry_run=dry_run,
    )


def days(home: Home) -> tuple[int, int, int, int]:
    """How many segments, labels, datasets and hashed objects there are."""
    return (
        len(home.segments.list("boat")),
        home.labels.count("boat"),
        len(noted_collections(home.objects, "boat")),
        len(home.objects.list("sha256")),
    )


def test_what_is_older_goes_with_its_objects_and_an_event_says_how_much(home: Home) -> None:
    assert days(home) == (10, 10, 10, 20)
    assert act(home) == Pruned(segments=3, rows=6, labels=3, datasets=3, objects=6)
    assert days(home) == (7, 7, 7, 14)
    assert all(home.objects.exists(one.object_key) for one in home.segments.list("boat"))
    done, *steps = Events(home.database).list("boat/journal")
    assert (done.who, done.after, done.evidence["rows"]) == ("test", "deleted", 6)
    assert {step.after for step in steps} == {"deleting"}


def test_a_second_time_there_is_nothing_to_do_and_no_event(home: Home) -> None:
    act(home)
    events = len(Events(home.database).list())
    assert act(home) == Pruned()
    assert len(Events(home.database).list()) == events


def test_a_dry_run_only_counts(home: Home) -> None:
    assert act(home, dry_run=True) == Pruned(segments=3, rows=6, labels=3, datasets=3)
    assert days(home) == (10, 10, 10, 20)
    assert Events(home.database).list("boat/journal") == []


def test_what_has_no_limit_is_kept_for_ever(home: Home) -> None:
    assert act(home, Retention()) == Pruned()
    assert act(home, Retention(labels=7 * DAY)) == Pruned(labels=3)
    assert days(home) == (10, 7, 10, 20)


def test_an_object_that_another_segment_has_as_well_stays(home: Home) -> None:
    first = home.segments.list("boat")[0]
    last = home.segments.list("boat")[-1]
    facts = {**vars(last), "source": "twin", "object_key": first.object_key}
    facts.pop("added")
    home.segments.add(**facts)
    assert act(home, Retention(segments=7 * DAY)).objects == 2
    assert home.objects.exists(first.object_key)


def _version(home: Home, number: int, state: str, run: int) -> None:
    versions = Versions(home.database)
    versions.add("boat", "m", number, digest="d", run_id=f"run-{run}", who="t", reason="r")
    for to in ("challenger", "champion")[: 1 + (state == "champion")]:
        versions.move("boat", "m", number, to, who="t", reason="r")  # type: ignore[arg-type]


def test_what_serves_or_stands_by_keeps_what_it_was_trained_on(home: Home) -> None:
    _version(home, 1, "champion", 0)
    _version(home, 2, "champion", 1)
    _version(home, 3, "challenger", 2)
    assert act(home).datasets == 0  # 1 is where a rollback goes to
    _version(home, 4, "champion", 9)
    assert act(home).datasets == 1


def test_an_active_rollout_keeps_what_it_looks_at(home: Home) -> None:
    _version(home, 1, "champion", 8)
    _version(home, 2, "challenger", 9)
    home.clock.now = START + DAY + 60
    said = {"who": "t", "reason": "r"}
    rollouts = Rollouts(home.database)
    rollouts.start("boat", "m", 2, Canary(), id="r", share=0.1, mirror=0, **said)
    home.clock.now = START + 10 * DAY
    assert (act(home).segments, home.labels.count("boat")) == (1, 9)
    rollouts.abort("r", **said)
    assert (act(home).segments, home.labels.count("boat")) == (2, 7)


def test_a_run_that_goes_on_keeps_its_dataset(home: Home) -> None:
    Runs(home.database).start(
        "boat", run_id="run-0", who="t", pid=1, host="elsewhere", parameters={}
    )
    assert act(home).datasets == 2


@pytest.mark.parametrize("stop", range(8))
def test_killed_anywhere_the_next_time_ends_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    _kill_after(home, monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        act(home)
    monkeypatch.undo()
    act(home)
    assert days(home) == (7, 7, 7, 14)
    assert Events(home.database).list("boat/journal")[0].after == "deleted"


def _kill_after(home: Home, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Let the process end at one of the changes that it makes to the stores."""
    left = [calls]

    def killing(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return function(*arguments, **named)

        return call

    monkeypatch.setattr(home.objects, "delete", killing(home.objects.delete))
    monkeypatch.setattr(home.database, "begin", killing(home.database.begin))


def test_the_controller_prunes_once_an_hour_and_never_waits_for_a_backup(home: Home) -> None:
    project = replace(load_project("penguins"), name="boat", retention=WEEK)
    keeper = Keeping([project, load_project("digits")], Settings(home=home.folder), home.database)
    with keeping(home.folder):
        keeper.tick()
    assert days(home)[0] == 10
    home.clock.now += 59
    keeper.tick()
    assert days(home)[0] == 10
    home.clock.now += 1  # that of the fourth day is seven days old by now
    keeper.tick()
    assert days(home)[0] == 6
    home.clock.now += DAY
    keeper.tick()
    assert days(home)[0] == 5
