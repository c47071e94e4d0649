"""Answers that are to be forgotten are gone from everything, however often it was interrupted."""

import fcntl
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest

from tests.monitoring.answered import Home, id_of
from timonel.data.collections import Collection, note_collection, noted_collections
from timonel.errors import BadRequest, Busy, NotFound
from timonel.journal.chosen import Chosen, chosen
from timonel.journal.forget import Forgotten, forget
from timonel.journal.records import Feedback, Record
from timonel.settings import Settings
from timonel.stores.events import Events
from timonel.stores.versions import Versions


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, (("x", "number"), ("who", "category"), ("ok", "boolean")))


def asked(home: Home, *who: str) -> Record:
    rows = [(float(n), name, n == 0) for n, name in enumerate(who)]
    return home.answer(*["a"] * len(who), rows=rows)


def act(home: Home, what: Chosen, sleep: Callable[[float], None] | None = None) -> Forgotten:
    return forget(
        Settings(home=home.folder, journal_rotate_seconds=0.2),
        home.database,
        home.objects,
        "boat",
        what,
        who="test",
        sleep=sleep or (lambda seconds: None),
    )


def rows_of(home: Home) -> list[tuple[str, str]]:
    """The id and the name of each row that is left, in all objects that there are."""
    frames = [pl.read_parquet(BytesIO(home.objects.get(k))) for k in home.objects.list("sha256")]
    return [row for frame in frames for row in frame.select("id", "who").rows()]


def test_a_prediction_is_gone_from_segments_and_labels_and_the_rest_stays(home: Home) -> None:
    first, second = asked(home, "ana", "ben"), asked(home, "eva")
    home.export(first, second, home.said(first, "a"), home.said(second, "b"))
    home.export(asked(home, "joe"))
    done = act(home, chosen([id_of(first)], []))
    assert (done.rows, done.segments, done.labels) == (2, 1, 1)
    assert sorted(name for _, name in rows_of(home)) == ["eva", "joe"]
    [segment] = home.segments.holding("boat", id_of(second), id_of(second))
    assert (segment.rows, segment.first_id, segment.last_id) == (1, id_of(second), id_of(second))
    assert segment.first_time == segment.last_time == second.time_ns / 1e9
    event = Events(home.database).list("boat/journal")[0]
    assert (event.who, event.after, event.evidence["rows"]) == ("test", "deleted", 2)
    assert event.evidence["by"] == {"ids": [id_of(first)]}


def test_one_row_of_a_prediction_is_gone_alone(home: Home) -> None:
    first = asked(home, "ana", "ben")
    home.export(first, home.said(first, "a", 0), home.said(first, "b", 1))
    assert act(home, chosen([f"{id_of(first)}.1"], [])).labels == 1
    assert rows_of(home) == [(f"{id_of(first)}.0", "ana")]
    assert [one.row for one in home.labels.between("boat", id_of(first), id_of(first))] == [0]


def test_a_segment_of_which_nothing_is_left_goes_as_a_whole(home: Home) -> None:
    home.export(first := asked(home, "ana"))
    act(home, chosen([id_of(first)], []))
    assert home.segments.list("boat") == []
    assert home.objects.list("sha256") == []
    assert act(home, chosen([id_of(first)], [])).rows == 0  # and may be asked for again


@pytest.mark.parametrize(
    ("values", "left"),
    [
        (["who=ana"], ["ben", "eva"]),
        (["x=1"], ["ana", "ana", "eva"]),
        (["ok=True"], ["ben"]),
        (["who=ana", "x=1.0"], ["ana", "ana", "ben", "eva"]),
        (["who=nobody"], ["ana", "ana", "ben", "eva"]),
    ],
)
def test_rows_are_found_by_the_values_of_inputs(
    home: Home, values: Sequence[str], left: list[str]
) -> None:
    first, second = asked(home, "ana", "ben"), asked(home, "ana")
    home.export(first, home.said(first, "a", 0), home.said(first, "a", 1))
    home.export(second, asked(home, "eva"))
    labels = home.labels.count("boat")
    done = act(home, chosen([], values))
    assert sorted(name for _, name in rows_of(home)) == left
    assert labels - home.labels.count("boat") == done.labels
    assert "ana" not in str(Events(home.database).list(limit=None))


@pytest.mark.parametrize(
    ("ids", "values", "said"),
    [
        ([], [], "neither"),
        (["01a1f957-f998-7000-84db-70c947e9c63e"], ["who=ana"], "both"),
        (["ana"], [], "expected a prediction id"),
        ([], ["who"], "expected COLUMN=VALUE"),
        ([], ["x=ana"], "expected a number for x"),
        ([], ["ok=ana"], "expected true or false for ok"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    home: Home, ids: list[str], values: list[str], said: str
) -> None:
    home.export(asked(home, "ana"))
    with pytest.raises(BadRequest, match=said):
        act(home, chosen(ids, values))


def test_an_unknown_column_or_project_is_told_with_what_there_is(home: Home) -> None:
    with pytest.raises(NotFound, match="Nothing is known of a project 'boat'"):
        act(home, chosen([], ["whom=ana"]))
    home.export(asked(home, "ana"))
    with pytest.raises(NotFound, match="no column 'whom'; it has: ok, who, x"):
        act(home, chosen([], ["whom=ana"]))


def test_what_was_not_exported_yet_is_reached_too(home: Home) -> None:
    first = asked(home, "ana")
    path = home.write(first, home.said(first, "a"))
    path.rename(path.with_suffix(".open"))  # of a worker that was killed
    assert (act(home, chosen([id_of(first)], [])).rows, rows_of(home)) == (1, [])
    assert home.labels.count("boat") == 0
    assert list((home.folder / "journal").iterdir()) == []


def test_a_worker_that_holds_its_file_is_waited_for_and_then_told_of(home: Home) -> None:
    first = asked(home, "ana")
    path = home.write(first).rename(home.folder / "journal" / "live.open")
    held = path.open("rb")
    fcntl.flock(held, fcntl.LOCK_EX)
    waited: list[float] = []
    with pytest.raises(Busy, match=r"live\.open"):
        act(home, chosen([id_of(first)], []), waited.append)
    assert 15 <= sum(waited) <= 16

    def rotate(seconds: float) -> None:
        held.close()

    assert act(home, chosen([id_of(first)], []), rotate).rows == 1


def test_collected_datasets_that_may_have_a_labelled_row_are_deleted_and_named(
    home: Home,
) -> None:
    first, second, third = asked(home, "ana"), asked(home, "ben"), asked(home, "eva")
    home.export(first, second, third, home.said(second, "a"))
    keys = []
    for begin, end, run in ((first, second, "run"), (third, third, None)):
        keys.append(home.objects.put(id_of(begin).encode()))
        note_collection(home.objects, "boat", Collection(keys[-1], id_of(begin), id_of(end), run))
    versions = Versions(home.database)
    versions.add("boat", "m", 1, digest="d", run_id="run", who="t", reason="r")
    assert act(home, chosen([id_of(first)], [])).datasets == ()  # it never had a label
    done = act(home, chosen([id_of(second)], []))
    assert (done.datasets, done.versions) == ((keys[0],), ("boat/m@1",))
    assert [home.objects.exists(key) for key in keys] == [False, True]
    assert [one.key for one in noted_collections(home.objects, "boat")] == [keys[1]]


def test_a_damaged_file_with_a_row_goes_and_another_is_told_of(home: Home) -> None:
    first, second = asked(home, "ana"), asked(home, "eva")
    for record in (first, second):
        path = home.write(record)
        path.write_bytes(path.read_bytes() + b"damage" * 100)
    done = act(home, chosen([id_of(first)], []))
    assert [path.name for path in (home.folder / "journal").iterdir()] == ["made-0002.damaged"]
    assert "made-0001.damaged was deleted" in done.notes[0]
    assert "made-0002.damaged has bytes that cannot be read" in done.notes[1]


def test_the_text_log_is_said_to_stay(home: Home) -> None:
    home.export(first := asked(home, "ana"))
    home.objects.append("reportes/predicciones_dev.txt", b"2026 - a - dev\n", at=0)
    [note] = act(home, chosen([id_of(first)], [])).notes
    assert "predicciones_dev.txt" in note


@pytest.mark.parametrize("by", ["id", "key"])
@pytest.mark.parametrize("stop", range(0, 16, 2))
def test_killed_anywhere_it_can_be_run_again(
    home: Home, monkeypatch: pytest.MonkeyPatch, stop: int, by: str
) -> None:
    items: list[Record | Feedback] = []
    named = asked(home, "ana", "ben")
    items += [named, home.said(named, "a", 0)]
    home.export(*items)
    home.export(asked(home, "ana") if by == "key" else asked(home, "joe"), asked(home, "eva"))
    key = home.objects.put(b"collected")
    note_collection(home.objects, "boat", Collection(key, id_of(named), id_of(named)))
    home.write(asked(home, "joe"))
    what = chosen([id_of(named)], []) if by == "id" else chosen([], ["who=ana"])
    left = [stop]

    def killing(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **given: object) -> object:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return function(*arguments, **given)

        return call

    with monkeypatch.context() as patch:
        for store, name in (
            (home.objects, "delete"),
            (home.objects, "put"),
            (home.database, "begin"),
        ):
            patch.setattr(store, name, killing(getattr(store, name)))
        try:
            act(home, what)
        except KeyboardInterrupt:
            assert left == [0]
    act(home, what)
    assert home.labels.count("boat") == 0
    assert not home.objects.exists(key)
    names = sorted(name for _, name in rows_of(home))
    assert names == (["eva", "joe", "joe"] if by == "id" else ["ben", "eva", "joe"])
    assert sum(one.rows for one in home.segments.list("boat")) == 3
