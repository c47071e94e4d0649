"""The journal's segments are listed, and a project's answers written to a file or a pipe."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from tests.cli.conftest import Timonel
from tests.journal.samples import START, closed, digit, penguin
from timonel.journal.segments import export
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

MINUTE = 60 * 10**9  # ns


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three answers of digits, from 13:04:05 UTC a minute apart, one of penguins."""
    home = tmp_path_factory.mktemp("made")
    objects = ObjectStore.open(home / "objects")
    database = Database.open(f"sqlite:///{home / 'timonel.db'}")
    first = [digit(label=n, time_ns=START + n * MINUTE) for n in (0, 1)]
    second = [digit(label=2, time_ns=START + 2 * MINUTE), penguin()]
    for name, records in (("a", first), ("b", second)):
        path = closed(home / "journal", name, records)
        export(path, objects, Segments(database), database, tz=UTC)
    database.close()
    return home


@pytest.fixture
def answered(home: Path, made: Path) -> Path:
    shutil.copytree(made, home)
    return home


def test_a_home_without_answers_lists_nothing(timonel: Timonel, home: Path) -> None:
    assert timonel("journal", "list").out.splitlines() == [
        "project\trows\tfirst (UTC)\tlast (UTC)\tkey"
    ]
    assert timonel("journal", "list", "--json").json() == []
    assert not home.exists()


@pytest.mark.usefixtures("answered")
def test_segments_are_listed_with_project_rows_times_and_key(timonel: Timonel) -> None:
    rows = [line.split("\t") for line in timonel("journal", "list").out.splitlines()[1:]]
    assert {tuple(row[:4]) for row in rows} == {
        ("digits", "2", "2026-11-20T13:04:05Z", "2026-11-20T13:05:05Z"),
        ("digits", "1", "2026-11-20T13:06:05Z", "2026-11-20T13:06:05Z"),
        ("penguins", "1", "2026-11-20T13:04:05Z", "2026-11-20T13:04:05Z"),
    }
    assert all(row[4].startswith("sha256/") for row in rows)
    found = timonel("journal", "list", "--json").json()
    assert sum(one["rows"] for one in found) == 4
    assert {one["source"] for one in found} == {"a", "b"}


@pytest.mark.usefixtures("answered")
def test_text_goes_to_standard_output_and_nothing_else_does(timonel: Timonel) -> None:
    ended = timonel("journal", "export", "digits")
    assert (ended.code, ended.err) == (0, "")
    times = [datetime.fromtimestamp(START // 10**9 + 60 * n, UTC).astimezone() for n in range(3)]
    assert ended.out.splitlines() == [
        f"{time:%Y-%m-%d %H:%M:%S} - {n} - dev" for n, time in enumerate(times)
    ]


@pytest.mark.usefixtures("answered")
def test_csv_has_the_inputs_too(timonel: Timonel) -> None:
    heading, row = timonel("journal", "export", "penguins", "--format", "csv").out.splitlines()
    assert heading.startswith("id,time,model,version,prediction")
    assert ",Torgersen,2007" in row


@pytest.mark.parametrize("form", ["txt", "csv", "parquet"])
@pytest.mark.usefixtures("answered")
def test_a_file_is_written_whole_and_counted(timonel: Timonel, tmp_path: Path, form: str) -> None:
    out = tmp_path / "new" / f"digits.{form}"
    ended = timonel("journal", "export", "digits", "--format", form, "--out", out)
    assert (ended.code, ended.out) == (0, f"3 rows to {out}\n")
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    if form == "parquet":
        assert pl.read_parquet(out)["prediction"].to_list() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        (["--since", "2026-11-20T13:05:05Z"], ["1", "2"]),
        (["--until", "2026-11-20T13:05:05+00:00"], ["0"]),
        (["--since", "2026-11-20T14:05:00+01:00", "--until", "2026-11-20T13:06Z"], ["1"]),
        (["--since", "2030-01-01"], []),
    ],
)
@pytest.mark.usefixtures("answered")
def test_since_and_until_bound_the_times(
    timonel: Timonel, arguments: list[str], labels: list[str]
) -> None:
    ended = timonel("journal", "export", "digits", *arguments)
    assert ended.code == 0
    assert [line.split(" - ")[1] for line in ended.out.splitlines()] == labels


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["titanic"], "no answers of 'titanic'; it has those of: digits, penguins."),
        (["digits", "--since", "yesterday"], "--since: expected an ISO time"),
        (["digits", "--until", "0001-01-01"], "--until: expected an ISO time"),
        (["digits", "--format", "parquet"], "Add --out digits.parquet"),
        (["digits", "--format", "xml"], "Invalid value"),
        (["digits", "--out", "."], "got the folder ."),
    ],
)
@pytest.mark.usefixtures("answered")
def test_a_wrong_request_is_refused_with_a_sentence(
    timonel: Timonel, arguments: list[str], told: str
) -> None:
    ended = timonel("journal", "export", *arguments)
    assert (ended.code, told in ended.err, ended.out) == (2, True, "")


def test_a_project_that_was_never_asked_is_not_found_in_an_empty_home(timonel: Timonel) -> None:
    ended = timonel("journal", "export", "digits")
    assert (ended.code, "no project yet" in ended.err) == (2, True)


def test_files_that_no_export_has_reached_are_told_of(timonel: Timonel, answered: Path) -> None:
    fresh = closed(answered / "journal", "c", [digit()])
    assert timonel("journal", "list").err == ""
    os.utime(fresh, (1.0, 1.0))
    assert "1 journal files wait" in timonel("journal", "list").err
    assert "1 journal files wait" in timonel("journal", "export", "digits").err
