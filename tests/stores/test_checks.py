"""Checks are kept once each, and only what changes is an event."""

from typing import Any

from tests.stores.conftest import Clock
from timonel.stores.checks import Checks
from timonel.stores.database import Database
from timonel.stores.events import Events


def add(checks: Checks, last: float, verdict: str = "ok", **given: Any) -> bool:
    values: dict[str, Any] = {
        "kind": "drift",
        "first_time": last - 10,
        "last_time": last,
        "rows": 7,
        "verdict": verdict,
        "sentence": f"It is {verdict}.",
        "detail": {},
        "who": "controller",
    }
    return checks.add("boat", "rf", **(values | given))


def changes(database: Database) -> list[tuple[str | None, str | None]]:
    return [(event.before, event.after) for event in reversed(Events(database).list("boat/rf"))]


def test_the_verdict_on_a_window_is_kept_once(database: Database, clock: Clock) -> None:
    checks = Checks(database)
    assert add(checks, 100.0, "drift")
    clock.now += 5
    assert not add(checks, 100.0, "ok")
    assert add(checks, 100.0, "worse", kind="accuracy")
    (check,) = checks.list("boat", "rf", "drift")
    assert (check.verdict, check.at, check.rows) == ("drift", 1_000.0, 7)
    assert len(checks.list("boat")) == 2


def test_a_change_is_an_event_and_too_little_data_changes_nothing(
    database: Database, clock: Clock
) -> None:
    checks = Checks(database)
    verdicts = ("ok", "drift", "not enough data", "drift", "ok", "ok", "drift")
    for n, verdict in enumerate(verdicts):
        clock.now += 1
        add(checks, float(n), verdict)
    assert changes(database) == [("ok", "drift"), ("drift", "ok"), ("ok", "drift")]
    assert Events(database).list("boat/rf")[0].evidence["reason"] == "It is drift."
    assert checks.standing("boat", "rf") == "drift"
    assert checks.standing("boat", "lr") == "ok"


def test_the_newest_come_first(database: Database, clock: Clock) -> None:
    checks = Checks(database)
    assert checks.newest("boat", "rf") is None
    for n in range(5):
        clock.now += 1
        add(checks, float(n))
    assert [check.last_time for check in checks.list("boat", limit=2)] == [4.0, 3.0]
    assert [check.last_time for check in checks.list("boat", since=1_004.0)] == [4.0, 3.0]
    newest = checks.newest("boat", "rf")
    assert newest is not None
    assert newest.last_time == 4.0


def test_a_number_that_json_has_no_word_for_becomes_null(database: Database) -> None:
    checks = Checks(database)
    detail = {"a": float("inf"), "b": [float("nan"), 1.5], "c": {"d": float("-inf")}}
    add(checks, 1.0, detail=detail)
    (check,) = checks.list("boat")
    assert check.detail == {"a": None, "b": [None, 1.5], "c": {"d": None}}
