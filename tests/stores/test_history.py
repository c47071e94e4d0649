"""What served when is worked out from events as the database knew it at the time."""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stores.conftest import Clock
from timonel.errors import TimonelError
from timonel.rollouts import AllAtOnce, Canary
from timonel.stores.database import Database
from timonel.stores.events import Event, Events
from timonel.stores.history import KINDS, Moment, histories, sentence, serving_at
from timonel.stores.rollouts import Rollouts
from timonel.stores.versions import Versions

WHO: dict[str, Any] = {"who": "ana", "reason": "Because."}
Known = tuple[int | None, int | None, float]
"""The numbers of the champion and of the challenger, and the latter's share."""

_names = itertools.count()


class World:
    """A model of its own in a database, moved by hand."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.clock = clock
        self.model = f"m{next(_names)}"
        self.versions, self.rollouts = Versions(database), Rollouts(database)
        self.events = Events(database)
        for number in (1, 2, 3, 4):
            self.versions.add("p", self.model, number, digest="d", **WHO)

    def act(self, move: str, number: int) -> None:
        """One move; one that is not allowed changes nothing."""
        names = ("p", self.model, number)
        with suppress(TimonelError):
            going = next((r for r in self.rollouts.active("p") if r.model == self.model), None)
            if move in ("challenger", "champion", "retired"):
                self.versions.move(*names, move, **WHO)  # type: ignore[arg-type]
            elif move == "roll back":
                champion = self.versions.champion("p", self.model)
                self.versions.roll_back(
                    "p", self.model, champion.number if champion else 9, number, **WHO
                )
            elif move in ("start", "at once"):
                plan = Canary() if move == "start" else AllAtOnce()
                id = f"{self.model}-{next(_names)}"
                self.rollouts.start(*names, plan, id=id, share=0.1, mirror=0.0, **WHO)
            elif going is None:
                return
            elif move in ("pause", "resume", "abort"):
                getattr(self.rollouts, move)(going.id, **WHO)
            elif move == "step":
                self.rollouts.step(
                    going.id, going.step + 1, share=0.1 * number, mirror=0, evidence={}, **WHO
                )
            else:
                getattr(self.rollouts, move)(going.id, evidence={}, **WHO)

    def known(self) -> Known:
        """What the database says serves now."""
        champion = self.versions.champion("p", self.model)
        going = [r for r in self.rollouts.active("p") if r.model == self.model]
        moving = [r for r in going if r.state != "watching"]
        return (
            champion.number if champion else None,
            moving[0].challenger if moving else None,
            moving[0].share if moving else 0.0,
        )

    def history(self) -> Sequence[Moment]:
        name = f"p/{self.model}"
        return histories(self.events.list(name, limit=None, kinds=KINDS)).get(name, ())


def told(moment: Moment | None) -> Known:
    """A moment in the words of `World.known`."""
    if moment is None:
        return None, None, 0.0
    champion, shift = moment.champion, moment.shift
    return (
        int(champion.version.split("@")[1]) if champion else None,
        int(shift.version.split("@")[1]) if shift else None,
        shift.share if shift else 0.0,
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("history") / "state.db"
    shutil.copy(migrated, path)
    database = Database.open(f"sqlite:///{path}", clock=Clock())
    yield database
    database.close()


@pytest.fixture
def world(database: Database) -> World:
    assert isinstance(database.clock, Clock)
    return World(database, database.clock)


MOVES = (
    "challenger", "champion", "retired", "roll back", "start", "at once",
    "step", "pause", "resume", "promote", "roll_back", "settle", "end", "abort",
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(MOVES), st.integers(1, 4), st.sampled_from([0.0, 1.0, 60.0])),
        max_size=20,
    )
)
def test_history_says_of_every_moment_what_the_database_said_then(
    database: Database, moves: list[tuple[str, int, float]]
) -> None:
    assert isinstance(database.clock, Clock)
    world = World(database, database.clock)
    world.act("challenger", 1)
    world.act("champion", 1)
    world.act("challenger", 2)
    known: dict[float, Known] = {}
    for move, number, seconds in moves:
        world.clock.now += seconds
        world.act(move, number)
        known[world.clock.now] = world.known()
    moments = world.history()
    for at, expected in known.items():
        assert told(serving_at(moments, at)) == expected
    times = [moment.at for moment in moments]
    assert times == sorted(set(times))


def test_a_rollout_is_told_with_its_share_and_the_reasons_of_both(world: World) -> None:
    world.clock.now = 1_795_000_000.0
    for number in (1, 2):
        world.act("challenger", number)
    world.act("champion", 1)
    world.clock.now += 60
    world.act("start", 2)
    name = f"p/{world.model}"
    assert sentence(name, world.history(), world.clock.now + 5) == (
        f"At 2026-11-18T11:07:45Z {name}@1 answered 90 % of the requests, champion since "
        f"2026-11-18T11:06:40Z by ana: Because, and its challenger {name}@2 10 %, since "
        f"2026-11-18T11:07:40Z by ana: Because."
    )
    world.act("pause", 2)
    assert "10 %, paused, since" in sentence(name, world.history(), world.clock.now)


def test_before_the_first_champion_the_sentence_names_when_it_came(world: World) -> None:
    world.clock.now = 1_795_000_000.0
    world.act("challenger", 1)
    world.act("champion", 1)
    name = f"p/{world.model}"
    assert sentence(name, world.history(), 0.0) == (
        f"At 1970-01-01T00:00:00Z nothing served {name} yet; its first champion was {name}@1, "
        "from 2026-11-18T11:06:40Z."
    )


def test_a_rollback_is_one_moment_with_both_events(world: World) -> None:
    for number in (1, 2):
        world.act("challenger", number)
        world.clock.now += 1
        world.act("champion", number)
    world.clock.now += 1
    world.act("roll back", 1)
    last = world.history()[-1]
    assert told(last) == (1, None, 0.0)
    assert len(last.events) == 2


def _event(id: int, at: float, after: str, before: str = "challenger") -> Event:
    return Event(
        id=id,
        at=at,
        who="ana",
        kind="version",
        subject=f"p/m@{id}",
        before=before,
        after=after,
        evidence={},
    )


def test_a_clock_that_was_set_back_does_not_change_the_order() -> None:
    moments = histories([_event(2, 50.0, "champion"), _event(1, 100.0, "champion")])["p/m"]
    assert [told(moment)[0] for moment in moments] == [2]
    assert told(serving_at(moments, 100.0))[0] == 2
    assert serving_at(moments, 99.0) is None


def test_events_of_other_things_are_no_history() -> None:
    run = Event(
        id=1, at=0.0, who="a", kind="run", subject="p/runs/1", before=None, after="x", evidence={}
    )
    assert histories([run, _event(2, 0.0, "challenger")]) == {}
