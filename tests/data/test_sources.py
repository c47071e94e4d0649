"""Where rows come from."""

import gzip
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from timonel.data.sources import Concat, Csv, Embedded, FirstOf, Idx, Parquet, Python, Table
from timonel.errors import DefinitionError, SourceError
from timonel.project import File, Read, Rows, Source


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return Read(tmp_path, tmp_path / "cache", f"sqlite:///{tmp_path / 'state.db'}")


def write(read: Read, name: str, content: str | bytes) -> File:
    assert read.folder
    data = content.encode() if isinstance(content, str) else content
    (read.folder / name).write_bytes(data)
    return File(name)


def test_a_csv_is_text_so_that_codes_keep_their_zeros(read: Read) -> None:
    file = write(read, "rows.csv", '\ufeffcode,size,note\n007,1.50,"a, b"\n012,,\n')
    rows = Csv(file).read(read)
    assert rows.frame.to_dict(as_series=False) == {
        "code": ["007", "012"],
        "size": ["1.50", None],
        "note": ["a, b", None],
    }
    assert rows.origin.endswith("rows.csv")
    assert not rows.embedded


def test_a_csv_is_read_with_the_options_given(read: Read) -> None:
    file = write(read, "rows [1].csv", "Año;x\n1;NA\n2;é\n".encode("latin-1"))
    source = Csv(file, {"Año": "year"}, nulls=("NA", ""), separator=";", encoding="latin-1")
    assert source.read(read).frame.to_dict(as_series=False) == {
        "year": ["1", "2"],
        "x": [None, "é"],
    }


def test_a_gzipped_csv_is_read_like_any_other(read: Read) -> None:
    file = write(read, "rows.csv.gz", gzip.compress(b"a\n01\n"))
    assert Csv(file).read(read).frame["a"].to_list() == ["01"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"a,b\n1,2,3\n", "more fields"),
        (b"a,b\n\xff\xfe\xff,2\n", "utf-8"),
        (gzip.compress(b"a,b\n" + b"1,2\n" * 999)[:-20], "unexpected end"),
    ],
    ids=["empty", "ragged", "encoding", "torn"],
)
def test_what_is_no_csv_is_refused_naming_the_file(read: Read, content: bytes, reason: str) -> None:
    with pytest.raises(SourceError, match=rf"rows\.csv: expected a CSV file, got: .*{reason}"):
        Csv(write(read, "rows.csv", content)).read(read)


def test_an_unknown_encoding_is_refused(read: Read) -> None:
    with pytest.raises(SourceError, match="klingon"):
        Csv(write(read, "rows.csv", "a\n1\n"), encoding="klingon").read(read)


def test_a_column_to_rename_that_is_not_there_is_named(read: Read) -> None:
    file = write(read, "rows.csv", "a,b\n1,2\n")
    with pytest.raises(SourceError, match="expected the columns c, got a, b"):
        Csv(file, {"c": "d"}).read(read)
    with pytest.raises(SourceError, match="one name"):
        Csv(file, {"a": "b"}).read(read)


def test_parquet_keeps_its_types(read: Read, tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": [1], "x": [0.5], "t": ["01"]})
    frame.write_parquet(tmp_path / "rows.parquet")
    rows = Parquet(File("rows.parquet"), {"t": "text"}).read(read)
    assert rows.frame.equals(frame.rename({"t": "text"}))


def test_what_is_no_parquet_is_refused(read: Read) -> None:
    with pytest.raises(SourceError, match=r"rows\.parquet: expected a Parquet file"):
        Parquet(write(read, "rows.parquet", "a,b\n")).read(read)


def idx(read: Read, pictures: int, labels: int) -> Idx:
    images = struct.pack(">4sIII", b"\0\0\x08\x03", pictures, 1, 2) + bytes(2 * pictures)
    digits = struct.pack(">4sI", b"\0\0\x08\x01", labels) + bytes(range(labels))
    return Idx(write(read, "images", images), write(read, "labels", digits), "test")


def test_idx_gives_pixels_label_and_part(read: Read) -> None:
    frame = idx(read, 2, 2).read(read).frame
    assert frame.schema == {"pixels": pl.Binary, "label": pl.Int64, "part": pl.String}
    assert frame.rows() == [(b"\0\0", 0, "test"), (b"\0\0", 1, "test")]


def test_pictures_and_labels_of_different_number_are_refused(read: Read) -> None:
    with pytest.raises(SourceError, match=r"got 2 pictures in .* and 3 labels"):
        idx(read, 2, 3).read(read)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute('create table "Odd name" (species text, mass integer, depth real)')
    connection.execute(
        """insert into "Odd name" values ('Adelie', 3750, null), ('Gentoo', 5000, 1)"""
    )
    connection.commit()
    connection.close()
    return path


@pytest.mark.usefixtures("state")
def test_a_table_of_the_state_database_is_read_with_its_types(read: Read) -> None:
    rows = Table("Odd name").read(read)
    assert rows.frame.rows() == [("Adelie", 3750, None), ("Gentoo", 5000, 1.0)]
    assert rows.frame.schema == {"species": pl.String, "mass": pl.Int64, "depth": pl.Float64}


@pytest.fixture
def odd(read: Read, tmp_path: Path) -> Read:
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute("create table numbers (x numeric)")
    connection.execute("insert into numbers values (1), (1.5), (null)")
    connection.execute("create table mixed (x)")
    connection.execute("insert into mixed values (1), ('a')")
    connection.execute("create table empty (x integer, y text)")
    connection.commit()
    connection.close()
    return read


def test_whole_numbers_among_others_are_numbers(odd: Read) -> None:
    assert Table("numbers").read(odd).frame["x"].to_list() == [1.0, 1.5, None]


def test_a_table_without_rows_keeps_its_columns(odd: Read) -> None:
    frame = Table("empty").read(odd).frame
    assert (frame.height, frame.columns) == (0, ["x", "y"])


def test_a_column_of_several_types_is_refused_and_nothing_lost_silently(odd: Read) -> None:
    with pytest.raises(SourceError, match=r"mixed at .* expected rows, got TypeError: column x: "):
        Table("mixed").read(odd)


def test_two_columns_of_one_name_are_refused(odd: Read) -> None:
    with pytest.raises(SourceError, match="expected rows, got DuplicateError"):
        Table(query="select 1 as a, 2 as a").read(odd)


def test_a_query_of_another_database_is_read(state: Path) -> None:
    source = Table(
        query='select mass from "Odd name" where mass > 4000', database=f"sqlite:///{state}"
    )
    rows = source.read(Read(None, Path("unused"), "sqlite:///unused.db"))
    assert rows.frame.to_dict(as_series=False) == {"mass": [5000]}


@pytest.mark.usefixtures("state")
def test_a_table_that_is_not_there_is_refused(read: Read) -> None:
    with pytest.raises(SourceError, match="no such table: penguins"):
        Table("penguins").read(read)
    with pytest.raises(SourceError, match="no such table: main"):
        Table("main.penguins").read(read)


def test_a_database_that_is_not_there_is_refused_and_not_made(read: Read, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such database file"):
        Table("penguins").read(read)
    assert not (tmp_path / "state.db").exists()


def test_a_database_that_cannot_be_asked_does_not_show_its_password(read: Read) -> None:
    with pytest.raises(SourceError) as caught:
        Table("penguins", database="nosuch://user:secret@host/db").read(read)
    assert "nosuch://user:***@host/db" in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(SourceError, match="expected database to be a SQLAlchemy URL"):
        Table("penguins", database="not a url: secret").read(read)


@pytest.mark.parametrize("arguments", [{}, {"name": "a", "query": "select 1"}])
def test_a_table_is_a_name_or_a_query(arguments: dict[str, str]) -> None:
    with pytest.raises(DefinitionError, match="expected a name or a query"):
        Table(**arguments)


def from_polars() -> pl.DataFrame:
    return pl.DataFrame({"a": ["x", None]})


def from_pandas() -> pd.DataFrame:
    return pd.DataFrame({"a": ["x", None]})


def from_mapping() -> dict[str, list[str | None]]:
    return {"a": ["x", None]}


@pytest.mark.parametrize("function", [from_polars, from_pandas, from_mapping])
def test_a_function_may_return_any_of_three_tables(read: Read, function: Callable[[], Any]) -> None:
    rows = Python(function).read(read)
    assert rows.frame.to_dict(as_series=False) == {"a": ["x", None]}
    assert rows.origin.endswith(f":{function.__name__}")


def test_a_function_may_be_named(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundled_rows.py").write_text("def load():\n    return {'a': [1]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    rows = Python("bundled_rows:load").read(read)
    assert rows.origin == "bundled_rows:load"
    assert rows.frame.to_dict(as_series=False) == {"a": [1]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package:load", "Install the package that has 'no_such_package'"),
        ("sys:no_such_function", "expected module:function"),
        ("sys", "expected module:function"),
        (":load", "expected module:function"),
        ("sys:getdefaultencoding", "or a mapping of columns, got str"),
    ],
)
def test_a_name_that_gives_no_rows_is_refused(read: Read, name: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Python(name).read(read)


def fails() -> None:
    raise KeyError("species")


def unequal() -> dict[str, list[int]]:
    return {"a": [1], "b": [1, 2]}


def test_a_function_that_fails_says_how(read: Read) -> None:
    with pytest.raises(SourceError, match="fails: expected rows, got KeyError: 'species'"):
        Python(fails).read(read)
    with pytest.raises(SourceError, match="unequal: expected a table"):
        Python(unequal).read(read)


def test_a_source_error_of_a_function_is_kept_as_it_is(read: Read) -> None:
    def away() -> None:
        raise SourceError("The portal is away.")

    with pytest.raises(SourceError, match=r"^The portal is away\.$"):
        Python(away).read(read)


def test_concat_joins_rows_notes_and_the_embedded_mark(read: Read) -> None:
    first = Embedded(Python(from_mapping), "The small set is used.")
    rows = Concat(first, Python(from_polars), first).read(read)
    assert rows.frame["a"].to_list() == ["x", None] * 3
    assert rows.notes == ("The small set is used.",)
    assert rows.embedded
    assert rows.origin.count(" + ") == 2


def test_concat_takes_columns_in_any_order(read: Read) -> None:
    rows = Concat(Python(lambda: {"a": [1], "b": [2]}), Python(lambda: {"b": [4], "a": [3]}))
    assert rows.read(read).frame.rows() == [(1, 2), (3, 4)]


def test_concat_refuses_other_columns_naming_both(read: Read) -> None:
    with pytest.raises(SourceError, match=r"expected the columns of .* \(a String\), got b Int64"):
        Concat(Python(from_polars), Python(lambda: {"b": [1]})).read(read)


def test_the_first_source_that_can_be_had_is_used_and_the_others_noted(read: Read) -> None:
    source = FirstOf(
        Csv(File("away.csv")),
        Embedded(Python(from_polars), "The small set is used."),
        Python(fails),
    )
    rows = source.read(read)
    assert rows.embedded
    assert rows.frame.height == 2
    assert rows.notes[0].startswith("Expected the file away.csv, found it nowhere.")
    assert rows.notes[1] == "The small set is used."


def test_the_first_source_alone_leaves_no_note(read: Read) -> None:
    rows = FirstOf(Python(from_polars), Csv(File("away.csv"))).read(read)
    assert (rows.notes, rows.embedded) == ((), False)


def test_when_no_source_can_be_had_each_reason_is_told(read: Read) -> None:
    with pytest.raises(SourceError, match=r"one\.csv.*two\.csv"):
        FirstOf(Csv(File("one.csv")), Csv(File("two.csv"))).read(read)


@pytest.mark.parametrize("kind", [Concat, FirstOf])
def test_no_sources_and_what_is_no_source_are_refused_when_written(
    kind: Callable[..., Source],
) -> None:
    with pytest.raises(DefinitionError, match="expected one or more sources, got none"):
        kind()
    with pytest.raises(DefinitionError, match=r"got File"):
        kind(File("rows.csv"))


def test_real_files_are_read_whole(test_data: Path, tmp_path: Path) -> None:
    read = Read(test_data, tmp_path, "sqlite://")
    penguins = Csv(File("penguins/penguins.csv"), nulls=("NA",)).read(read).frame
    assert penguins.height == 344
    assert penguins["sex"].null_count() == 11
    titanic = Csv(File("titanic/train.csv")).read(read).frame
    assert titanic.height == 891
    assert titanic["Age"].null_count() == 177
    crimes = Csv(File("chicago_crimes/crimes_2024_sample_10k.csv.gz")).read(read).frame
    assert (crimes.height, crimes.columns[0]) == (10_000, "ID")
    assert crimes["IUCR"].str.len_chars().unique().to_list() == [4]


def test_both_parts_of_mnist_make_one_frame(test_data: Path, tmp_path: Path) -> None:
    def part(prefix: str, name: str) -> Idx:
        return Idx(
            File(f"mnist/{prefix}-images-idx3-ubyte.gz"),
            File(f"mnist/{prefix}-labels-idx1-ubyte.gz"),
            name,
        )

    rows: Rows = Concat(part("t10k", "test"), part("t10k", "train")).read(
        Read(test_data, tmp_path, "sqlite://")
    )
    assert rows.frame["part"].value_counts(sort=True)["count"].to_list() == [10_000, 10_000]
    assert rows.frame["pixels"].bin.size().unique().to_list() == [784]
