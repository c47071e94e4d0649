import pytest

from tests.stores.conftest import Clock
from timonel.stores.database import Database
from timonel.stores.events import Event, Events, record


def _record(database: Database, subject: str, at: float = 0.0) -> None:
    with database.begin() as connection:
        record(
            connection,
            at=at,
            who="ana",
            kind="version",
            subject=subject,
            before=None,
            after="candidate",
            evidence={"accuracy": 0.5, "why": ["é"]},
        )


def test_an_event_comes_back_as_it_was_recorded(database: Database, clock: Clock) -> None:
    _record(database, "digits/cnn@1", clock())
    assert Events(database).list() == [
        Event(
            id=1,
            at=1_000.0,
            who="ana",
            kind="version",
            subject="digits/cnn@1",
            before=None,
            after="candidate",
            evidence={"accuracy": 0.5, "why": ["é"]},
        )
    ]


def test_an_event_is_undone_with_its_change(database: Database) -> None:
    with pytest.raises(KeyError), database.begin() as connection:  # noqa: PT012
        record(
            connection,
            at=0,
            who="a",
            kind="k",
            subject="s",
            before=None,
            after=None,
            evidence={},
        )
        raise KeyError
    assert Events(database).list() == []


def test_a_subject_takes_in_what_belongs_to_it_and_no_more(database: Database) -> None:
    subjects = ["a_b/m@1", "a_b/m@2", "a_b/m2@1", "a_b/runs/7", "axb/m@1", "a_b"]
    for subject in subjects:
        _record(database, subject)

    def found(subject: str) -> set[str]:
        return {event.subject for event in Events(database).list(subject)}

    assert found("a_b") == set(subjects) - {"axb/m@1"}
    assert found("a_b/m") == {"a_b/m@1", "a_b/m@2"}
    assert found("a_b/m@1") == {"a_b/m@1"}
    assert found("%") == set()


def test_the_newest_come_first_and_the_limit_keeps_them(database: Database) -> None:
    for at in range(5):
        _record(database, "s", float(at))
    assert [event.at for event in Events(database).list(limit=2)] == [4.0, 3.0]
    assert [event.at for event in Events(database).list(since=3.0)] == [4.0, 3.0]
