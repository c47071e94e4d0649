"""A lease has one holder at a time, and passes on when its holder falls silent."""

from concurrent.futures import ThreadPoolExecutor

from tests.stores.conftest import Clock
from timonel.stores.database import Database
from timonel.stores.events import Events
from timonel.stores.leases import Leases


def test_a_lease_has_one_holder_until_it_runs_out(database: Database, clock: Clock) -> None:
    leases = Leases(database)
    assert leases.holder("loop") is None
    assert leases.take("loop", "a", 10)
    assert not leases.take("loop", "b", 10)
    clock.now += 9
    assert leases.take("loop", "a", 10)
    clock.now += 9
    assert leases.holder("loop") == "a"
    assert not leases.take("loop", "b", 10)
    clock.now += 2
    assert leases.take("loop", "b", 10)
    assert not leases.take("loop", "a", 10)
    assert leases.holder("loop") == "b"


def test_a_lease_given_up_is_free_at_once(database: Database) -> None:
    leases = Leases(database)
    leases.take("loop", "a", 10)
    leases.give_up("loop", "b")
    assert leases.holder("loop") == "a"
    leases.give_up("loop", "a")
    assert leases.take("loop", "b", 10)


def test_only_a_change_of_holder_is_an_event(database: Database, clock: Clock) -> None:
    leases = Leases(database)
    for _ in range(3):
        leases.take("loop", "a", 10)
    clock.now += 11
    leases.take("loop", "b", 10)
    events = [(event.before, event.after) for event in Events(database).list("loop")]
    assert events == [("a", "b"), (None, "a")]


def test_of_many_that_try_at_once_one_wins(database: Database) -> None:
    leases = Leases(database)
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda name: leases.take("loop", name, 10), "abcdefgh"))
    assert won.count(True) == 1
