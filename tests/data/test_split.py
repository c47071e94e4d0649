"""Which rows train, select and judge."""

from datetime import UTC, date, datetime
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timonel.data.split import assign, places
from timonel.errors import DataRefused
from timonel.policies import Split
from timonel.schema import Column

COLUMNS = (Column("name", "category", nullable=True), Column("size", "number", nullable=True))

rows = st.lists(
    st.tuples(
        st.none() | st.text(max_size=4),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.integers(0, 3),
    ),
    max_size=40,
)


def table(content: list[tuple[str | None, float | None, int]]) -> pl.DataFrame:
    schema = {"name": pl.String, "size": pl.Float64, "label": pl.Int64}
    return pl.DataFrame(content, schema=schema, orient="row")


def sides(frame: pl.DataFrame, split: Split | None = None) -> dict[object, set[str]]:
    found: dict[object, set[str]] = {}
    done = assign(frame, split or Split(), COLUMNS, "label")
    for *row, side in done.select("name", "size", "label", "split").iter_rows():
        found.setdefault(tuple(row), set()).add(side)
    return found


@settings(deadline=None)
@given(rows, rows, st.randoms(use_true_random=False))
def test_a_row_stays_on_its_side_whatever_the_order_and_whatever_is_added(
    first: list[tuple[str | None, float | None, int]],
    more: list[tuple[str | None, float | None, int]],
    random: Random,
) -> None:
    alone = sides(table(first))
    mixed = [*first, *more]
    random.shuffle(mixed)
    together = sides(table(mixed))
    assert all(len(side) == 1 for side in together.values())
    assert all(together[row] == side for row, side in alone.items())


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 0.6), st.floats(0, 0.35))
def test_the_shares_are_near_those_asked_for(test: float, validation: float) -> None:
    frame = pl.DataFrame({"name": [str(i) for i in range(4_000)]}).with_columns(
        size=pl.lit(1.0), label=pl.lit(0)
    )
    done = assign(frame, Split(test=test, validation=validation), COLUMNS, "label")
    counts = dict(done["split"].value_counts().iter_rows())
    # Five standard deviations of a share of 4,000 rows are below 0.04.
    assert abs(counts.get("test", 0) / 4_000 - test) < 0.04
    assert abs(counts.get("validation", 0) / 4_000 - validation) < 0.04


def test_no_release_may_move_a_row() -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", "", None, "ñ"],
            "number": [1.5, -0.0, None, 1e300],
            "integer": [1, -7, None, 2**62],
            "boolean": [True, False, None, True],
            "bytes": [b"\x00", b"", None, b"\xff" * 784],
            "day": [date(2026, 11, 20), date(1969, 12, 31), None, date(2000, 1, 1)],
            "time": [
                datetime(2026, 11, 20, 13, 4, 5, tzinfo=UTC),
                None,
                None,
                datetime(1970, 1, 1, tzinfo=UTC),
            ],
        }
    )
    assert list(places(frame)) == [
        0.05254847007811309,
        0.9899121601853352,
        0.8384311252188439,
        0.3010530965269096,
    ]


def xxh64(data: bytes) -> int:
    """XXH64 of fewer than 32 bytes, from its specification."""
    p1, p2, p3, p4, p5 = (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
    low = 2**64 - 1

    def turned(number: int, bits: int) -> int:
        number &= low
        return (number << bits | number >> 64 - bits) & low

    value, rest = p5 + len(data), data
    while len(rest) >= 8:
        lane = turned(int.from_bytes(rest[:8], "little") * p2, 31) * p1
        value, rest = turned(value ^ lane & low, 27) * p1 + p4 & low, rest[8:]
    if len(rest) >= 4:
        lane = int.from_bytes(rest[:4], "little") * p1 & low
        value, rest = turned(value ^ lane, 23) * p2 + p3 & low, rest[4:]
    for byte in rest:
        value = turned(value ^ byte * p5 & low, 11) * p1 & low
    value = (value ^ value >> 33) * p2 & low
    value = (value ^ value >> 29) * p3 & low
    return value ^ value >> 32


def test_the_place_is_the_documented_one() -> None:
    assert xxh64(b"") == 0xEF46DB3751D8E999  # as published
    frame = pl.DataFrame({"text": ["ñ"], "number": [1.5], "none": [None], "integer": [-7]})
    text = "2:ñ" + "19:4609434218613702656" + "-" + "2:-7"  # 1.5 is 0x3FF8000000000000
    assert list(places(frame.cast({"none": pl.String}))) == [xxh64(text.encode()) / 2**64]
    picture = pl.DataFrame({"pixels": [b"\x00\xff"]})
    text = f"16:{xxh64(bytes([0, 255])):016x}"
    assert list(places(picture)) == [xxh64(text.encode()) / 2**64]


@pytest.mark.parametrize(
    "keys",
    [
        pl.DataFrame({"id": range(100_000)}),
        pl.DataFrame({"id": range(0, 6_400_000, 64)}),
        pl.DataFrame(
            {"x": [i % 317 for i in range(100_000)], "y": [i // 317 for i in range(100_000)]}
        ),
        pl.DataFrame({"name": [f"{'x' * 40}{i}" for i in range(100_000)]}),
        pl.DataFrame({"size": [i / 1024 for i in range(100_000)]}),
    ],
    ids=["counted", "in steps", "a grid", "long and alike", "numbers"],
)
def test_places_of_keys_that_are_alike_are_spread_as_chance_spreads_them(
    keys: pl.DataFrame,
) -> None:
    found = places(keys)
    assert len(set(found)) == len(keys)
    cells, expected = 1_000, len(keys) / 1_000

    def excess(counts: npt.NDArray[np.int64]) -> float:
        """Chi-square in standard deviations above what chance gives."""
        chi = float(((counts - expected) ** 2 / expected).sum())
        return float((chi - (cells - 1)) / np.sqrt(2 * (cells - 1)))

    counts = np.bincount((found * cells).astype(int), minlength=cells)
    assert abs(excess(counts)) < 5
    # The place says nothing of the next key's: pairs fall evenly into a grid of 20 by 50.
    pairs = (found[:-1] * 20).astype(int) * 50 + (found[1:] * 50).astype(int)
    assert abs(excess(np.bincount(pairs, minlength=cells))) < 5
    half = keys.with_row_index("row").select(pl.col("row") % 2 == 0).to_series().to_numpy()
    assert abs(found[half].mean() - found[~half].mean()) < 5 * (4 / 12 / len(keys)) ** 0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pl.Series([7]), pl.Series(["7"])),
        (pl.Series([7], dtype=pl.UInt8), pl.Series([7], dtype=pl.Int64)),
        (pl.Series([0.0]), pl.Series([-0.0])),
        (pl.Series([0.5], dtype=pl.Float32), pl.Series([0.5], dtype=pl.Float64)),
        (pl.Series([True]), pl.Series(["true"])),
        (pl.Series(["a"], dtype=pl.Categorical), pl.Series(["a"])),
        (
            pl.Series([datetime(2026, 1, 1, tzinfo=UTC)], dtype=pl.Datetime("ms", "UTC")),
            pl.Series([datetime(2026, 1, 1, tzinfo=UTC)], dtype=pl.Datetime("ns", "UTC")),
        ),
    ],
)
def test_a_value_has_one_place_whatever_type_holds_it(one: pl.Series, other: pl.Series) -> None:
    assert places(pl.DataFrame({"a": one})) == places(pl.DataFrame({"b": other}))


def test_values_cannot_run_into_each_other() -> None:
    frame = pl.DataFrame(
        {"a": ["12", "1", "1:2", "", None, "-"], "b": ["3", "23", "3", None, "", "-"]}
    )
    assert len(set(places(frame))) == 6


def test_the_key_alone_decides_where_one_is_named() -> None:
    frame = pl.DataFrame({"id": [1, 2] * 50, "name": "x", "size": range(100), "label": 0})
    done = assign(frame, Split(test=0.5, key=("id",)), COLUMNS, "label")
    assert done.group_by("id").agg(pl.col("split").n_unique())["split"].to_list() == [1, 1]


def test_given_test_rows_stay_and_given_train_rows_only_lend_to_validation() -> None:
    frame = pl.DataFrame(
        {
            "part": ["train"] * 2_000 + ["test"] * 500 + ["validation"] * 10,
            "name": [str(i) for i in range(2_510)],
        }
    ).with_columns(size=pl.lit(0.0), label=pl.lit(0))
    done = assign(frame, Split(test=0.3, validation=0.1, given="part"), COLUMNS, "label")
    counts = {
        (part, side): count for part, side, count in done.group_by("part", "split").len().rows()
    }
    assert set(counts) == {
        ("train", "train"),
        ("train", "validation"),
        ("test", "test"),
        ("validation", "validation"),
    }
    assert 140 < counts["train", "validation"] < 260


@pytest.mark.parametrize("value", ["tset", None])
def test_a_given_side_that_is_none_is_refused(value: str | None) -> None:
    frame = table([("a", 1.0, 0)]).with_columns(part=pl.lit(value, pl.String))
    with pytest.raises(DataRefused, match=rf"expected part to be .* got {value!r} in 1 rows"):
        assign(frame, Split(given="part"), COLUMNS, "label")


def test_a_key_that_is_not_there_or_cannot_be_one_is_refused() -> None:
    frame = table([("a", 1.0, 0)]).with_columns(nested=pl.lit([1, 2]))
    with pytest.raises(DataRefused, match="expected the columns id, got name, size, label"):
        assign(frame, Split(key=("id",)), COLUMNS, "label")
    with pytest.raises(DataRefused, match="expected the key nested to be text"):
        assign(frame, Split(key=("nested",)), COLUMNS, "label")


def test_no_rows_are_split_into_none() -> None:
    assert assign(table([]), Split(), COLUMNS, "label").schema["split"] == pl.String


def test_a_year_of_crimes_is_split_near_the_shares(test_data: Path) -> None:
    frame = pl.read_parquet(test_data / "chicago_crimes" / "crimes_2016.parquet", n_rows=50_000)
    columns = [Column(name, "category") for name in ("IUCR", "Block", "Date")]
    done = assign(frame, Split(key=("ID",)), columns, "FBI Code")
    shares = {side: count / 50_000 for side, count in done["split"].value_counts().iter_rows()}
    assert shares["test"] == pytest.approx(0.2, abs=0.01)
    assert shares["validation"] == pytest.approx(0.1, abs=0.01)
    half = assign(frame[::2].reverse(), Split(key=("ID",)), columns, "FBI Code")
    both = half.join(done, on="ID", suffix="_whole")
    assert (both["split"] == both["split_whole"]).all()
