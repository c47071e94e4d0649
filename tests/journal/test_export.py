import base64
import csv
import io
from datetime import UTC
from pathlib import Path

import polars as pl
import pytest
from msgspec import structs

from tests.journal.samples import START, closed, content, digit, name_of, penguin
from timonel.errors import StoreError
from timonel.journal.export import Format, export_journal
from timonel.journal.records import Meta, Record
from timonel.journal.segments import export
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

SECOND = 1_000_000_000


class Home:
    """Stores that journal files were exported to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = ObjectStore.open(root / "objects")
        self.database = Database.open(f"sqlite:///{root / 'state.db'}", clock=lambda: 1.0)
        self.segments = Segments(self.database)

    def add(self, path: Path) -> None:
        export(path, self.objects, self.segments, self.database, tz=UTC)

    def write(
        self, project: str, format: Format, since: float | None = None, until: float | None = None
    ) -> tuple[int, Path]:
        out = self.root / "out" / f"rows.{format}"
        count = export_journal(
            self.segments,
            self.objects,
            project=project,
            format=format,
            out=out,
            since=since,
            until=until,
            tz=UTC,
        )
        assert list(out.parent.iterdir()) == [out]
        return count, out


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def penguins(home: Home) -> list[Record]:
    """Three requests in two segments, a second apart."""
    records = [
        penguin(time_ns=START),
        penguin((1.5, None, 1), (2.5, 'a "quoted", one', 2), time_ns=START + SECOND),
        penguin(time_ns=START + 2 * SECOND),
    ]
    home.add(closed(home.root, "a", records[:2]))
    home.add(closed(home.root, "b", records[2:]))
    return records


def test_parquet_holds_all_segments_rows(home: Home, penguins: list[Record]) -> None:
    count, out = home.write("penguins", "parquet")
    frame = pl.read_parquet(out)
    assert count == len(frame) == 4
    assert frame["id"].to_list() == [
        name_of(penguins[0]),
        f"{name_of(penguins[1])}.0",
        f"{name_of(penguins[1])}.1",
        name_of(penguins[2]),
    ]


def test_csv_is_read_back_by_any_reader(home: Home, penguins: list[Record]) -> None:
    count, out = home.write("penguins", "csv")
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert count == len(rows) == 4
    assert rows[2] == {
        "id": f"{name_of(penguins[1])}.1",
        "time": "2026-11-20T13:04:06.000000+0000",
        "model": "rf",
        "version": "penguins/rf@1",
        "prediction": "Gentoo",
        "probability": "0.75",
        "probabilities": "0.25 0.75",
        "environment": "dev",
        "via": "json",
        "seconds": "0.1",
        "error": "",
        "bill_length_mm": "2.5",
        "island": 'a "quoted", one',
        "year": "2",
    }
    assert rows[1]["island"] == ""


def test_a_picture_in_csv_is_base64_of_its_bytes(home: Home) -> None:
    pixels = bytes(range(196)) * 4
    home.add(closed(home.root, "a", [digit(pixels)]))
    _, out = home.write("digits", "csv")
    (row,) = csv.DictReader(io.StringIO(out.read_text()))
    assert base64.b64decode(row["pixels"]) == pixels


@pytest.mark.usefixtures("penguins")
def test_text_has_a_line_a_prediction(home: Home) -> None:
    count, out = home.write("penguins", "txt")
    assert count == 4
    assert out.read_text().splitlines() == [
        "2026-11-20 13:04:05 - Gentoo - dev",
        "2026-11-20 13:04:06 - Gentoo - dev",
        "2026-11-20 13:04:06 - Gentoo - dev",
        "2026-11-20 13:04:07 - Gentoo - dev",
    ]


@pytest.mark.usefixtures("penguins")
@pytest.mark.parametrize(
    ("since", "until", "count"),
    [(None, None, 4), (0, None, 4), (1, None, 3), (None, 1, 1), (1, 2, 2), (9, None, 0), (2, 1, 0)],
)
def test_only_rows_of_the_time_asked_for_are_written(
    home: Home, since: float | None, until: float | None, count: int
) -> None:
    start = START / SECOND
    written, out = home.write(
        "penguins",
        "parquet",
        None if since is None else start + since,
        None if until is None else start + until,
    )
    assert written == count == len(pl.read_parquet(out))


@pytest.mark.parametrize("format", ["txt", "csv", "parquet"])
def test_a_project_without_predictions_gives_an_empty_file(home: Home, format: Format) -> None:
    count, out = home.write("penguins", format)
    assert count == 0
    if format == "csv":
        assert out.read_text().startswith("id,time,model,")


@pytest.mark.usefixtures("penguins")
def test_columns_that_came_later_are_missing_before(home: Home) -> None:
    meta = Meta(
        "penguins",
        (("bill_length_mm", "number"), ("year", "number"), ("sex", "category")),
        "rf",
        "penguins/rf@2",
        ("Adelie", "Gentoo"),
    )
    later = penguin((1.0, None, 1), time_ns=START + 9 * SECOND)
    later = structs.replace(later, rows=[(3.5, 2026.5, "female")])
    path = home.root / "c.closed"
    path.write_bytes(content([later], [meta]))
    home.add(path)
    count, out = home.write("penguins", "parquet")
    frame = pl.read_parquet(out)
    assert count == 5
    assert frame["year"].to_list() == [2007.0, 1.0, 2.0, 2007.0, 2026.5]
    assert frame["sex"].to_list() == [None] * 4 + ["female"]
    assert frame["island"].to_list()[-2:] == ["Torgersen", None]


@pytest.mark.usefixtures("penguins")
def test_a_damaged_segment_leaves_the_last_export_as_it_was(home: Home) -> None:
    _, out = home.write("penguins", "txt")
    before = out.read_text()
    segment = home.segments.list("penguins")[1]
    home.objects.delete(segment.object_key)
    with pytest.raises(StoreError):
        home.write("penguins", "txt")
    assert out.read_text() == before
    assert list(out.parent.iterdir()) == [out]
