"""Files read and written some rows at a time."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from timonel.data import chunks
from timonel.data.chunks import FORMATS, read_chunks, writing
from timonel.errors import BadRequest, SourceError, SourceMissing


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that every file has many."""
    monkeypatch.setattr(chunks, "_BLOCK", 64)
    monkeypatch.setattr(chunks, "_ROWS", 7)


def whole(path: Path) -> pl.DataFrame:
    return pl.concat([chunk.frame for chunk in read_chunks(path)])


TEXTS = st.text(alphabet='ab,"\n\r é1', max_size=6)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=40))
@pytest.mark.usefixtures("small")
def test_csv_in_blocks_has_the_rows_and_lines_of_the_whole(
    tmp_path: Path, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([("left\none", "right"), *rows])
    found: list[tuple[str, str]] = []
    places: list[str] = []
    for chunk in read_chunks(path):
        assert chunk.start == len(found)
        places += [chunk.place(row) for row in range(chunk.frame.height)]
        found += [(left or "", right or "") for left, right in chunk.frame.rows()]
    assert found == rows
    reader = csv.reader(io.StringIO(path.read_bytes().decode(), newline="\n"))
    begins = [reader.line_num for _ in reader]
    assert places == [f"line {line + 1}" for line in begins[:-1]]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_in_parts_is_read_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    frame = pl.DataFrame({"number": range(50), "text": [f"é{i},\n" for i in range(50)]})
    with writing(path) as writer:
        for start in range(0, 50, 9):
            writer.write(frame[start : start + 9])
    back = whole(path)
    assert back["text"].to_list() == frame["text"].to_list()
    assert [int(value) for value in back["number"]] == list(range(50))
    assert path.read_bytes()[:2] == b"\x1f\x8b" or not suffix.endswith(".gz")
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SourceError])
def test_a_file_that_is_not_whole_is_no_file(
    tmp_path: Path, suffix: str, error: type[BaseException]
) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(b"former")
    with pytest.raises(error), writing(path) as writer:  # noqa: PT012 (the body is what fails)
        writer.write(pl.DataFrame({"number": [1]}))
        raise error("stop")
    assert path.read_bytes() == b"former"
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [b"\0\xff\n" * 99, b"PAR1", b"ARROW1", b'{"a": 1}\n{"a"'])
def test_a_file_that_is_something_else_is_refused(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    if suffix == ".csv" and content[:1] in b"PA{":
        return  # one line is a table without rows
    with pytest.raises(SourceError, match="expected"):
        whole(path)


def test_a_missing_file_and_a_name_that_says_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        next(read_chunks(tmp_path / "none.csv"))
    with pytest.raises(BadRequest, match=r"ends in \.csv"):
        next(read_chunks(tmp_path / "rows.xlsx"))


def test_a_quote_that_is_not_closed_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_BLOCK", 64)
    monkeypatch.setattr(chunks, "_LONGEST", 1_000)
    path = tmp_path / "rows.csv"
    path.write_bytes(b'a,b\n1,"' + b"2\n" * 5_000)
    with pytest.raises(SourceError, match="quote that is not closed"):
        whole(path)


@pytest.mark.usefixtures("small")
def test_json_lines_keep_their_values_and_lines(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "b": [1, 2]}, {"a": "x"}, {"b": None, "c": True}] * 9
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    read = [
        (chunk.place(i), row)
        for chunk in read_chunks(path)
        for i, row in enumerate(chunk.frame.to_dicts())
    ]
    assert [place for place, _ in read] == [f"line {2 * i + 1}" for i in range(len(rows))]
    for (_, found), row in zip(read, rows, strict=True):
        assert {k: v for k, v in found.items() if v is not None} == {
            k: v for k, v in row.items() if v is not None
        }


def test_a_packed_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"a\n" + b"1\n" * 9_999)[:-20])
    with pytest.raises(SourceError):
        whole(path)
