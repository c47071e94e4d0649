"""Decisions are kept with their reason; what begins or ends a run is an event as well."""

from tests.stores.conftest import Clock
from timonel.stores.database import Database
from timonel.stores.decisions import Decisions
from timonel.stores.events import Events


def test_a_decision_not_to_train_is_kept_and_no_event(database: Database) -> None:
    decisions = Decisions(database)
    assert decisions.newest("boat") is None
    decisions.add("boat", "hold", "Nothing calls for it.", {"rows": float("inf")}, who="controller")
    newest = decisions.newest("boat")
    assert newest is not None
    assert (newest.act, newest.sentence) == ("hold", "Nothing calls for it.")
    assert (newest.evidence, newest.run_id) == ({"rows": None}, None)
    assert Events(database).list("boat") == []


def test_a_run_that_begins_and_ends_is_told(database: Database, clock: Clock) -> None:
    decisions = Decisions(database)
    for act in ("retrain", "hold", "ended"):
        clock.now += 10
        run = None if act == "hold" else "some-run"
        decisions.add("boat", act, f"It is {act}.", {}, who="controller", run_id=run)
    events = Events(database).list("boat")
    assert [(event.kind, event.after) for event in events] == [
        ("retrain", "ended"),
        ("retrain", "retrain"),
    ]
    assert events[0].evidence == {"reason": "It is ended.", "run": "some-run"}
    assert [one.act for one in decisions.list("boat")] == ["ended", "hold", "retrain"]
    assert [one.at for one in decisions.list("boat", act="retrain")] == [1_010.0]
    assert [one.act for one in decisions.list("boat", since=1_015.0, limit=1)] == ["ended"]
    assert decisions.list("digits") == []
