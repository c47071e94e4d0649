"""Files of a portal, whole and spoiled."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from timonel.data.portal import Portal, read_file
from timonel.data.sources import Concat
from timonel.errors import DataRefused, SourceError
from timonel.project import Read

TITLES = "ID,Date,IUCR,Primary Type,District\n"
ROWS = "1,01/31/2024 11:59:00 PM,0930,ARSON,012\n2,02/01/2024 12:00:00 AM,0110,,\n"
EXPECTED = [
    ("1", "01/31/2024 11:59:00 PM", "0930", "ARSON", "012"),
    ("2", "02/01/2024 12:00:00 AM", "0110", None, None),
]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    (tmp_path / "city").mkdir()
    return Read(tmp_path, tmp_path / "cache", "sqlite://")


def written(read: Read, content: bytes | str, name: str = "rows.csv") -> Path:
    assert read.folder
    path = read.folder / "city" / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_titles_become_names_and_codes_keep_their_zeros(read: Read) -> None:
    frame, notes = read_file(written(read, TITLES + ROWS))
    assert frame.columns == ["id", "date", "iucr", "primary_type", "district"]
    assert frame.rows() == EXPECTED
    assert notes == []


def test_json_of_the_api_gives_the_same_texts(read: Read) -> None:
    records = [
        {"id": "1", "iucr": "0930", "arrest": True, "location": {"latitude": "41"}, "beat": 412},
        {"id": "2", "iucr": "0110", "arrest": False, "ward": "7"},
    ]
    frame, notes = read_file(written(read, json.dumps(records), "rows.json"))
    assert frame.select("id", "iucr", "arrest", "beat", "ward").rows() == [
        ("1", "0930", "true", "412", None),
        ("2", "0110", "false", None, "7"),
    ]
    assert notes == []


def test_parquet_gives_texts_whatever_its_types(read: Read) -> None:
    path = written(read, b"", "rows.parquet")
    frame = pl.DataFrame({"ID": [1], "Arrest": [True], "Note": [""], "At": ["2024-01-31T10:00:00"]})
    frame = frame.with_columns(pl.col("At").str.to_datetime(), pl.struct("ID").alias("Place"))
    frame.write_parquet(path)
    assert read_file(path)[0].rows(named=True) == [
        {"id": "1", "arrest": "true", "note": None, "at": "2024-01-31T10:00:00"}
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xef\xbb\xbf" + (TITLES + ROWS).encode(), "byte order mark"),
        ((TITLES + ROWS).encode("utf-16"), "UTF-16"),
        (TITLES + ROWS + TITLES + ROWS, "header is repeated among the rows 1 times"),
        (TITLES + ROWS + "id,date,iucr,primary_type,district\n", "header is repeated"),
    ],
    ids=["byte order mark", "utf-16", "header twice", "other header"],
)
def test_what_can_be_repaired_is_with_a_sentence(
    read: Read, content: bytes | str, sentence: str
) -> None:
    frame, notes = read_file(written(read, content))
    assert frame.unique(maintain_order=True).rows() == EXPECTED
    (note,) = notes
    assert sentence in note


def test_latin_1_is_read_with_a_sentence(read: Read) -> None:
    frame, notes = read_file(written(read, "a,b\n1,CAFÉ\n".encode("latin-1")))
    assert frame.rows() == [("1", "CAFÉ")]
    assert "Latin-1" in notes[0]
    assert read_file(written(read, b"a,b\n1,\x81\n"))[0].rows() == [("1", "\x81")]


PACKED = gzip.compress((TITLES + ROWS * 500).encode())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PACKED[: len(PACKED) // 2], "cut short or damaged"),
        (PACKED[:40] + b"\0\0\0\0" + PACKED[44:], "cut short or damaged"),
        ("<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (gzip.compress(b"\n <html>"), "a web page"),
        (b"PK\x03\x04rest of a workbook", "a spreadsheet"),
        ("", "an empty file"),
        ("  \n", "an empty file"),
        ("ID;Date;IUCR\n1;2;3\n", "separated by commas"),
        ("ID,ID\n1,2\n", "several called id"),
        ("IUCR,iucr\n1,2\n", "several called iucr"),
        ("a,b\n1,2,3\n", "more fields"),
        ('{"error": true, "message": "Query coordinator error"}', "Query coordinator error"),
        ('[{"a": "1"}, {"a', "expected JSON"),
        ("[1, 2]", "a list of records"),
        ("[]", "a list of records"),
    ],
)
def test_what_cannot_be_repaired_is_refused_naming_the_file(
    read: Read, content: bytes | str, reason: str
) -> None:
    with pytest.raises(DataRefused, match=rf"rows\.csv: .*{reason}"):
        read_file(written(read, content))


def test_what_is_no_parquet_is_refused(read: Read) -> None:
    with pytest.raises(DataRefused, match=r"rows\.parquet: expected a table"):
        read_file(written(read, "a,b\n", "rows.parquet"))


def test_a_file_that_cannot_be_read_is_refused(read: Read) -> None:
    path = written(read, "a,b\n1,2\n")
    path.unlink()
    with pytest.raises(DataRefused, match="cannot be read"):
        read_file(path)


def test_all_files_of_the_first_pattern_that_matches_are_read(read: Read) -> None:
    written(read, "\ufeffID,IUCR\n1,0930\n", "crimes_2023.csv")
    written(read, gzip.compress(b"id,iucr,ward\n2,0110,7\n"), "crimes_2024.csv.gz")
    written(read, "not a table", "crimes.txt")
    rows = Portal("city/none*", "city/crimes*").read(read)
    assert rows.frame.rows() == [("1", "0930", None), ("2", "0110", "7")]
    assert "crimes_2023.csv + " in rows.origin
    assert rows.notes == ("crimes_2023.csv: it begins with a byte order mark, which was left out.",)


def test_texts_that_repeat_are_held_once_each(read: Read) -> None:
    lines = "".join(f"{n},{'THEFT' if n % 2 else ''}\n" for n in range(100))
    frame, _ = read_file(written(read, "ID,Primary Type\n" + lines))
    assert frame.schema == {"id": pl.String(), "primary_type": pl.Categorical()}
    assert frame["primary_type"].to_list() == [None, "THEFT"] * 50


def test_files_whose_texts_repeat_and_others_go_together(read: Read) -> None:
    written(read, "iucr\n" + "0930\n" * 100, "crimes_1.csv")
    written(read, "iucr\n0110\n", "crimes_2.csv")
    whole = Portal("city/crimes*").read(read).frame
    assert whole["iucr"].to_list() == ["0930"] * 100 + ["0110"]
    parts = Concat(Portal("city/crimes_2*"), Portal("city/crimes_1*")).read(read).frame
    assert parts["iucr"].to_list() == ["0110"] + ["0930"] * 100


def test_a_path_may_be_given_by_itself(read: Read) -> None:
    path = written(read, TITLES + ROWS)
    assert Portal(str(path)).read(Read(None, Path(), "")).frame.height == 2


def test_no_file_is_a_sentence_with_the_patterns(read: Read) -> None:
    with pytest.raises(SourceError, match=r"city/a\* or city/b\* in .*found none"):
        Portal("city/a*", "city/b*").read(read)
    with pytest.raises(SourceError, match="no folder is set"):
        Portal("city/a*").read(Read(None, Path(), ""))


def test_the_portals_files_of_three_years_have_one_shape(test_data: Path) -> None:
    folder = test_data / "chicago_crimes"
    first, _ = read_file(folder / "crimes_2016.parquet")
    sample, notes = read_file(folder / "crimes_2024_sample_10k.csv.gz")
    assert set(first.columns) <= set(sample.columns)
    assert sample["district"][0] == "009"
    assert len(notes) == 1
