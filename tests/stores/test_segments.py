from itertools import count
from pathlib import Path
from typing import TypedDict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stores.conftest import Clock
from tests.stores.processes import together
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segment, Segments


class _Fields(TypedDict):
    source: str
    project: str
    object_key: str
    rows: int
    first_id: str
    last_id: str
    first_time: float
    last_time: float


_numbers = count()


def _fields(source: str = "w0-1.log", project: str = "digits", first: float = 10.0) -> _Fields:
    return {
        "source": source,
        "project": project,
        "object_key": "sha256/ab/" + "ab" * 32,
        "rows": 3,
        "first_id": "a",
        "last_id": "c",
        "first_time": first,
        "last_time": first + 5,
    }


def test_a_segment_is_recorded_exactly_once(database: Database, clock: Clock) -> None:
    segments = Segments(database)
    assert segments.add(**_fields())
    clock.now += 1
    assert not segments.add(**_fields(first=99.0))
    assert segments.list() == [Segment(**_fields(), added=1_000.0)]


def test_one_file_gives_a_segment_to_each_project(database: Database) -> None:
    segments = Segments(database)
    assert segments.add(**_fields(project="digits"))
    assert segments.add(**_fields(project="penguins"))
    assert [s.project for s in segments.list("penguins")] == ["penguins"]


def test_one_of_many_processes_records_it(database: Database, database_url: str) -> None:
    prepare = """
from timonel.stores.database import Database
from timonel.stores.segments import Segments
"""
    act = f"print(Segments(Database.open(sys.argv[2])).add(**{_fields()!r}))"
    assert sorted(together(prepare, act, 3, database_url)) == ["False", "False", "True"]
    assert len(Segments(database).list()) == 1


def test_list_gives_what_overlaps_the_time_asked_for_in_its_order(database: Database) -> None:
    segments = Segments(database)
    for first in (30.0, 10.0, 20.0):  # each lasts 5 seconds
        segments.add(**_fields(source=f"{first}", first=first))

    def firsts(since: float | None = None, until: float | None = None) -> list[float]:
        return [s.first_time for s in segments.list("digits", since, until)]

    assert firsts() == [10.0, 20.0, 30.0]
    assert firsts(since=15.0) == [10.0, 20.0, 30.0]
    assert firsts(since=15.1) == [20.0, 30.0]
    assert firsts(until=30.0) == [10.0, 20.0]
    assert firsts(since=16.0, until=19.0) == []
    assert segments.list("penguins") == []


def test_an_export_begins_at_0_and_each_source_moves_it_once(database: Database) -> None:
    segments = Segments(database)
    assert segments.export_offset("dev") == 0
    with database.begin() as connection:
        assert segments.advance(connection, "dev", 10, "w0-1.log")
    with database.begin() as connection:
        assert not segments.advance(connection, "dev", 20, "w0-1.log")
        assert segments.advance(connection, "prod", 7, "w0-1.log")
    assert segments.export_offset("dev") == 10
    assert segments.export_offset("prod") == 7


def test_an_export_whose_file_was_removed_begins_anew(database: Database) -> None:
    segments = Segments(database)
    for offset, source in ((10, "a"), (20, "b"), (5, "c")):
        with database.begin() as connection:
            segments.advance(connection, "dev", offset, source)
    assert segments.export_offset("dev") == 5


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tries=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["kept", "killed before", "killed after"])),
        max_size=8,
    )
)
def test_every_source_is_exported_once_whenever_the_exporter_is_killed(
    database: Database, tmp_path: Path, tries: list[tuple[int, str]]
) -> None:
    segments, store = Segments(database), ObjectStore.open(tmp_path / "objects")
    name = f"{next(_numbers)}.txt"
    done: list[int] = []
    for source, fate in tries:
        line = f"{source}\n".encode() * (source + 1)
        try:
            with database.begin() as connection:
                at = segments.export_offset(name)
                if segments.advance(connection, name, at + len(line), f"{source}"):
                    store.append(name, line[:1] if fate == "killed before" else line, at)
                if fate != "kept":
                    raise InterruptedError
        except InterruptedError:
            continue
        if source not in done:
            done.append(source)
    settled = segments.export_offset(name)
    text = store.get(name)[:settled] if store.exists(name) else b""
    assert text == b"".join(f"{source}\n".encode() * (source + 1) for source in done)


def test_segments_that_may_hold_an_id_are_found_by_its_place(database: Database) -> None:
    segments = Segments(database)
    for source, first, last in (("late", "m", "z"), ("early", "a", "k"), ("long", "b", "x")):
        segments.add(**(_fields(source) | {"first_id": first, "last_id": last}))
    segments.add(**_fields(project="penguins"))

    def found(first: str, last: str) -> list[str]:
        return [segment.source for segment in segments.holding("digits", first, last)]

    assert found("c", "c") == ["early", "long"]
    assert found("k", "m") == ["early", "late", "long"]
    assert found("y", "zz") == ["late"]
    assert found("l", "l") == ["long"]
    assert found("zz", "zzz") == []
