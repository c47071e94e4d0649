import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.journal.samples import (
    DIGITS,
    PENGUINS,
    START,
    closed,
    content,
    digit,
    name_of,
    penguin,
)
from timonel.errors import StoreError
from timonel.journal.append import Journal
from timonel.journal.files import locked
from timonel.journal.records import (
    FORMAT,
    MAGIC,
    SHADOW,
    Answered,
    Feedback,
    Header,
    Meta,
    Record,
    encode,
    frame,
)
from timonel.journal.segments import Exported, adopt, export, text_log_key
from timonel.stores.database import Database
from timonel.stores.labels import Labels
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

LOG = "reportes/predicciones_dev.txt"


class Home:
    """A journal's folder and the stores that it is exported to."""

    def __init__(self, root: Path) -> None:
        self.journal = root / "journal"
        self.objects = ObjectStore.open(root / "objects")
        self.database = Database.open(f"sqlite:///{root / 'state.db'}", clock=lambda: 1.0)
        self.segments = Segments(self.database)

    def export(self, path: Path, **options: Any) -> Exported | None:
        return export(path, self.objects, self.segments, self.database, **{"tz": UTC, **options})

    def rows(self, project: str) -> list[pl.DataFrame]:
        return [
            pl.read_parquet(BytesIO(self.objects.get(segment.object_key)))
            for segment in self.segments.list(project)
        ]

    def log(self, key: str = LOG) -> str:
        return self.objects.get(key).decode() if self.objects.exists(key) else ""


def framed(*items: Feedback) -> bytes:
    return b"".join(frame(encode(item)) for item in items)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.database.close()


@pytest.fixture(scope="module")
def lasting_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    home.database.close()


def test_a_file_becomes_a_segment_a_project_and_is_deleted(home: Home) -> None:
    several = penguin((39.5, "Torgersen", 2007), (40, None, 2008), time_ns=START + 1_500)
    one, seven = penguin(time_ns=START), digit(time_ns=START + 3_000_000_000)
    path = closed(home.journal, "boot-0-1", [several, seven, one])

    assert home.export(path) == Exported("boot-0-1", {"penguins": 3, "digits": 1}, new=True)

    assert not path.exists()
    (frame,) = home.rows("penguins")
    assert frame.schema == {
        "id": pl.String,
        "time": pl.Datetime("us", "UTC"),
        "model": pl.String,
        "version": pl.String,
        "prediction": pl.String,
        "probability": pl.Float32,
        "probabilities": pl.List(pl.Float32),
        "environment": pl.String,
        "via": pl.String,
        "seconds": pl.Float32,
        "error": pl.String,
        "bill_length_mm": pl.Float64,
        "island": pl.String,
        "year": pl.Int64,
    }
    assert frame["id"].to_list() == [
        f"{name_of(several)}.0",
        f"{name_of(several)}.1",
        name_of(one),
    ]
    assert frame.row(1)[1:] == (
        datetime(2026, 11, 20, 13, 4, 5, 1, tzinfo=UTC),
        *(
            "rf",
            "penguins/rf@1",
            "Gentoo",
            0.75,
            [0.25, 0.75],
            "dev",
            "json",
            pytest.approx(0.1),
            None,
            40.0,
            None,
            2008,
        ),
    )
    (segment,) = home.segments.list("penguins")
    assert (segment.source, segment.rows) == ("boot-0-1", 3)
    assert (segment.first_id, segment.last_id) == (name_of(several), name_of(one))
    assert segment.first_time == START / 1e9 < segment.last_time


def test_a_picture_is_kept_as_the_models_input(home: Home) -> None:
    pixels = bytes(range(256)) * 3 + bytes(16)
    home.export(closed(home.journal, "a", [digit(pixels, label=4)]))
    (frame,) = home.rows("digits")
    assert frame["pixels"].to_list() == [pixels]
    assert frame["prediction"].to_list() == ["4"]
    assert frame["probability"].to_list() == [1.0]


def test_the_text_log_has_a_line_a_prediction_of_the_projects_that_keep_one(home: Home) -> None:
    first = [digit(label=7), penguin(), digit(label=3, time_ns=START + 61_000_000_000)]
    home.export(closed(home.journal, "a", first))
    home.export(closed(home.journal, "b", [digit(label=1, environment="prod"), digit(label=2)]))
    assert home.log() == (
        "2026-11-20 13:04:05 - 7 - dev\n"
        "2026-11-20 13:05:06 - 3 - dev\n"
        "2026-11-20 13:04:05 - 2 - dev\n"
    )
    assert home.log(text_log_key("prod")) == "2026-11-20 13:04:05 - 1 - prod\n"


def test_what_nobody_was_given_is_kept_and_not_logged(home: Home) -> None:
    shadow = structs.replace(digit(label=5), via=SHADOW, seconds=0.25)
    home.export(closed(home.journal, "a", [digit(label=7), shadow]))
    assert home.log() == "2026-11-20 13:04:05 - 7 - dev\n"
    (frame,) = home.rows("digits")
    assert frame["via"].to_list() == ["upload", SHADOW]
    assert frame["seconds"].to_list() == [pytest.approx(0.1), 0.25]


def test_a_model_that_failed_leaves_its_inputs_and_what_it_said(home: Home) -> None:
    good, bad = digit(label=7), digit(label=5)
    failed = structs.replace(bad.answers[0], labels=[], probabilities=b"", error="Out of memory.")
    bad = structs.replace(bad, answers=[failed, good.answers[0]])
    home.export(closed(home.journal, "a", [good, bad]))
    (frame,) = home.rows("digits")
    assert frame["prediction"].to_list() == ["7", None, "7"]
    assert frame["error"].to_list() == [None, "Out of memory.", None]
    assert frame["probability"].to_list() == [1.0, None, 1.0]
    assert frame["pixels"].null_count() == 0


def test_labels_that_were_said_are_kept_once(home: Home) -> None:
    record = digit(label=7)
    said = Feedback(record.id, 0, "digits", "1", START)
    corrected = structs.replace(said, label="9", time_ns=START + 5_000_000_000)
    for name in "ab":
        home.export(closed(home.journal, name, [record], tail=framed(corrected, said)))
    (label,) = Labels(home.database).between("digits", name_of(record), name_of(record))
    assert (label.label, label.at) == ("9", START / 1e9 + 5)


def test_the_text_log_speaks_the_time_and_the_projects_it_is_told(home: Home) -> None:
    path = closed(home.journal, "a", [digit(), penguin()])
    home.export(path, text_log={"penguins"}, tz=ZoneInfo("America/Bogota"))
    assert home.log() == "2026-11-20 08:04:05 - Gentoo - dev\n"


def test_the_text_logs_default_time_is_the_servers(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC-02:00")
    time.tzset()
    try:
        home.export(closed(home.journal, "a", [digit()]), tz=None)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert home.log() == "2026-11-20 15:04:05 - 7 - dev\n"


def test_a_file_whose_writer_lives_is_not_exported(home: Home) -> None:
    path = closed(home.journal, "a", [penguin()])
    with locked(path) as mine:
        assert mine
        assert home.export(path) is None
    assert home.export(path) is not None
    assert home.export(path) is None


def test_a_file_without_records_leaves_nothing(home: Home) -> None:
    empty = home.journal / "a.closed"
    home.journal.mkdir()
    empty.write_bytes(b"")
    assert home.export(empty) == Exported("a", {}, new=False)
    none = closed(home.journal, "b", [Record(bytes(16), START, "penguins", [], [], "json", "dev")])
    assert home.export(none) == Exported("b", {"penguins": 0}, new=False)
    assert list(home.journal.iterdir()) == []
    assert home.segments.list() == []


def test_a_torn_last_record_is_noted_and_the_rest_exported(home: Home) -> None:
    torn = frame(encode(penguin()))[:-5] + bytes(100)
    exported = home.export(closed(home.journal, "a", [penguin()], tail=torn))
    assert exported is not None
    assert (exported.rows, exported.kept) == ({"penguins": 1}, None)
    assert exported.note is not None
    assert "torn" in exported.note
    assert list(home.journal.iterdir()) == []


def test_a_damaged_file_is_kept_after_what_is_whole_was_exported(home: Home) -> None:
    damaged = bytes(8) + frame(encode(penguin()))
    path = closed(home.journal, "a", [penguin()], tail=damaged)
    exported = home.export(path)
    assert exported is not None
    assert exported.rows == {"penguins": 1}
    assert exported.kept == path.with_suffix(".damaged")
    assert exported.kept.exists()
    assert adopt(home.journal) == []


@pytest.mark.parametrize(
    "odd",
    [
        Record(b"short", START, "penguins", [(1.0, "a", 1)], [], "json", "dev"),
        Record(bytes(16), START, "unknown", [(1.0,)], [], "json", "dev"),
        Record(bytes(16), START, "penguins", [(1.0,)], [], "json", "dev"),
        Record(bytes(16), START, "penguins", [], penguin().answers, "json", "dev"),
    ],
    ids=["id", "project", "columns", "labels"],
)
def test_a_record_that_matches_nothing_does_not_stop_the_others(home: Home, odd: Record) -> None:
    path = closed(home.journal, "a", [odd, penguin()])
    exported = home.export(path)
    assert exported is not None
    assert exported.rows == {"penguins": 1}
    assert exported.note == "a.closed: 1 records do not match their columns."
    assert exported.kept == path.with_suffix(".damaged")


def test_a_file_of_a_newer_format_waits_for_a_newer_release(home: Home) -> None:
    home.journal.mkdir()
    path = home.journal / "a.closed"
    path.write_bytes(MAGIC + frame(encode(Header(FORMAT + 1, "boot", "0", START))))
    exported = home.export(path)
    assert exported is not None
    assert exported.kept == path
    assert path.exists()


def test_values_of_another_type_than_their_column_do_not_stop_the_export(home: Home) -> None:
    odd = penguin((True, 5, 3.0), (2**63, "x", 2**63), ("text", "x", 1))  # type: ignore[arg-type]
    home.export(closed(home.journal, "a", [odd]))
    (frame,) = home.rows("penguins")
    assert frame.select("bill_length_mm", "island", "year").rows() == [
        (1.0, "5", 3),
        (float(2**63), "x", None),
        (None, "x", 1),
    ]


def test_an_input_named_like_one_of_our_columns_is_told_apart(home: Home) -> None:
    meta = Meta("cars", (("model", "category"), ("year", "integer")), "clf", "cars/clf@1", ("a",))
    answers = [Answered("clf", "cars/clf@1", ["a"], b"")]
    record = Record(bytes(16), START, "cars", [("T", 1908)], answers, "json", "dev")
    home.journal.mkdir()
    path = home.journal / "a.closed"
    path.write_bytes(content([record], [meta]))
    home.export(path)
    (frame,) = home.rows("cars")
    assert frame.select("model", "input.model", "probability").row(0) == ("clf", "T", None)


def test_two_models_answers_to_one_row_are_two_rows(home: Home) -> None:
    record = penguin()
    record.answers.append(Answered("lda", "penguins/lda@1", ["Adelie"], b""))
    home.export(closed(home.journal, "a", [record]))
    (frame,) = home.rows("penguins")
    assert frame.select("id", "model", "prediction", "year").rows() == [
        (name_of(record), "rf", "Gentoo", 2007),
        (name_of(record), "lda", "Adelie", 2007),
    ]


def test_many_rows_are_one_segment_in_their_order(home: Home) -> None:
    rows = [(float(n), "x", n) for n in range(7_000)]
    home.export(closed(home.journal, "a", [penguin(*rows), penguin(*rows), penguin(*rows)]))
    (frame,) = home.rows("penguins")
    assert frame["year"].to_list() == list(range(7_000)) * 3


def test_a_store_that_fails_leaves_the_file_for_the_next_try(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(key: str, data: bytes, at: int) -> None:
        raise StoreError("The disk is full.")

    path = closed(home.journal, "a", [digit()])
    with monkeypatch.context() as patched:
        patched.setattr(home.objects, "append", fail)
        with pytest.raises(StoreError, match="full"):
            home.export(path)
    assert path.exists()
    home.export(path)
    assert home.log().count("\n") == 1


def test_a_text_log_that_was_deleted_begins_anew(home: Home) -> None:
    home.export(closed(home.journal, "a", [digit()]))
    home.objects.delete(LOG)
    home.export(closed(home.journal, "b", [digit()]))
    assert home.log().count("\n") == 1


class Killed(BaseException):
    """The process ends here."""


class Fuse:
    """Counts the steps that change something, and ends the process before or after one of them."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.steps = 0

    def burn(self) -> None:
        self.steps += 1
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

    def around(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.burn()
            result = step(*args, **kwargs)
            self.burn()
            return result

        return guarded


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    fuse = Fuse()
    for owner, name in [
        (ObjectStore, "put"),
        (ObjectStore, "append"),
        (Segments, "add"),
        (Segments, "advance"),
        (Path, "unlink"),
    ]:
        monkeypatch.setattr(owner, name, fuse.around(getattr(owner, name)))
    return fuse


_sources = itertools.count()


@given(kills=st.lists(st.integers(0, 15), max_size=5))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_export_killed_at_any_steps_and_repeated_happens_exactly_once(
    lasting_home: Home, fuse: Fuse, kills: list[int]
) -> None:
    home = lasting_home
    records = [digit(label=1), penguin(), digit(label=2, environment="prod"), digit(label=3)]
    path = closed(home.journal, f"boot-0-{next(_sources)}", records)
    before = home.log(), home.log(text_log_key("prod"))
    for fuse.left in kills:
        try:
            home.export(path)
        except Killed:
            continue
    fuse.left = None
    home.export(path)

    assert adopt(home.journal) == []
    added = [segment for segment in home.segments.list() if segment.source == path.stem]
    assert [(segment.project, segment.rows) for segment in added] == [
        ("digits", 3),
        ("penguins", 1),
    ]
    assert home.log() == (
        f"{before[0]}2026-11-20 13:04:05 - 1 - dev\n2026-11-20 13:04:05 - 3 - dev\n"
    )
    assert home.log(text_log_key("prod")) == f"{before[1]}2026-11-20 13:04:05 - 2 - prod\n"


def test_the_steps_of_an_export_are_all_within_reach_of_the_kills(home: Home, fuse: Fuse) -> None:
    path = closed(home.journal, "a", [digit(), penguin(), digit(environment="prod")])
    fuse.steps = 0
    home.export(path)
    assert fuse.steps == 18


def test_what_a_worker_wrote_arrives(home: Home) -> None:
    records = [penguin() for _ in range(20)]

    async def work() -> None:
        journal = Journal(
            home.journal, worker="0", boot="boot", meta=[PENGUINS, DIGITS], rotate_bytes=1_000
        )
        for record in records:
            await journal.append(encode(record))
        journal.close()

    asyncio.run(work())
    paths = adopt(home.journal)
    assert len(paths) > 1
    for path in paths:
        home.export(path)
    ids = [name for frame in home.rows("penguins") for name in frame["id"]]
    assert sorted(ids) == sorted(map(name_of, records))
