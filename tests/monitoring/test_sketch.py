"""Sketches: counts of any parts, added in any order, are the counts of all."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from timonel.errors import ArtifactError
from timonel.monitoring.measures import Measure, measures_of
from timonel.monitoring.scales import HEAVY, bins_of, values_of
from timonel.monitoring.sketch import Shape, Sketch, sketch_of_frame, sketch_of_parquet
from timonel.schema import Column

NUMBER = Measure("x", "x", "number", nullable=True)
TEXT = Measure("c", "c", "category", nullable=True)
START = datetime(2024, 1, 1, tzinfo=UTC)


def shape_of(frame: pl.DataFrame, *measures: Measure, dated: str | None = None) -> Shape:
    scales = tuple(
        bins_of(frame[m.column], whole=m.whole)
        if m.kind == "number"
        else values_of(frame[m.column], m.values)
        for m in measures
    )
    return Shape(measures, scales, dated)


REFERENCE = pl.DataFrame({"x": np.linspace(-3.0, 3.0, 1_000), "c": ["a", "b"] * 500})
SHAPE = shape_of(REFERENCE, NUMBER, TEXT)

FLOATS = st.floats(width=64) | st.none()
TEXTS = st.text(max_size=3) | st.sampled_from(["a", "b"]) | st.none()
ROWS = st.lists(st.tuples(FLOATS, TEXTS, st.integers(0, 10_000)), min_size=1, max_size=60)


def frame_of(rows: Sequence[tuple[float | None, str | None, int]]) -> pl.DataFrame:
    times = [START + timedelta(minutes=minute) for _, _, minute in rows]
    kinds: dict[str, Any] = {"x": pl.Float64, "c": pl.String, "time": pl.Datetime("us", "UTC")}
    return pl.DataFrame(
        {"x": [row[0] for row in rows], "c": [row[1] for row in rows], "time": times}, schema=kinds
    )


@settings(deadline=None, max_examples=60)
@given(rows=ROWS, data=st.data())
def test_parts_in_any_order_add_up_to_the_sketch_of_all(
    rows: list[tuple[float | None, str | None, int]], data: st.DataObject
) -> None:
    parts = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    order = data.draw(st.permutations(range(4)))
    pieces = [[row for row, at in zip(rows, parts, strict=True) if at == n] for n in order]
    sketches = [sketch_of_frame(frame_of(piece), SHAPE) for piece in pieces]
    one, two, three, four = sketches
    whole = sketch_of_frame(frame_of(rows), SHAPE)
    assert ((one + two) + three) + four == whole
    assert one + (two + (three + four)) == whole
    assert (four + two) + (one + three) == whole


@settings(deadline=None, max_examples=30)
@given(rows=ROWS)
def test_what_is_written_is_read_again(rows: list[tuple[float | None, str | None, int]]) -> None:
    sketch = sketch_of_frame(frame_of(rows), SHAPE)
    assert Sketch.from_bytes(sketch.to_bytes(), SHAPE) == sketch


def test_a_value_is_counted_once_in_its_bin_or_beyond_or_as_missing() -> None:
    frame = pl.DataFrame({"x": [-3.0, 3.0, -4.0, 5.0, None, float("nan"), float("inf")]})
    tally = sketch_of_frame(frame, SHAPE).tallies["x"]
    assert tally.rows == 7
    assert tally.missing == 2
    below, above = tally.cells[-2:]
    assert (below, above) == (1, 2)
    assert tally.cells[0] == tally.cells[-3] == 1
    assert (tally.low, tally.high) == (-4.0, float("inf"))


def test_values_that_the_reference_lacks_are_counted_and_named() -> None:
    frame = pl.DataFrame({"c": ["a", "new", "new", "other", None]})
    tally = sketch_of_frame(frame, SHAPE).tallies["c"]
    assert tally.unseen.counts == {"new": 2, "other": 1}
    assert tally.cells.tolist() == [1, 0, 0, 3]
    assert tally.missing == 1


def test_names_of_unseen_values_are_bounded_and_their_counts_are_exact() -> None:
    texts = [f"text {n}" for n in range(5_000)]
    halves = [pl.DataFrame({"c": texts[:3_000]}), pl.DataFrame({"c": texts[2_000:]})]
    both = sketch_of_frame(halves[0], SHAPE) + sketch_of_frame(halves[1], SHAPE)
    assert both == sketch_of_frame(pl.concat(halves), SHAPE)
    assert len(both.tallies["c"].unseen.counts) == 200
    assert int(both.tallies["c"].cells[-1]) == 6_000


def test_a_category_keeps_its_most_frequent_values_and_knows_the_rare_ones() -> None:
    texts = [f"value {n}" for n in range(HEAVY + 50) for _ in range(2 if n < HEAVY else 1)]
    shape = shape_of(pl.DataFrame({"c": texts}), TEXT)
    window = pl.DataFrame({"c": ["value 0", f"value {HEAVY + 1}", "never seen"]})
    tally = sketch_of_frame(window, shape).tallies["c"]
    assert tally.cells[-2:].tolist() == [1, 1]
    assert tally.unseen.counts == {"never seen": 1}


def test_sketches_of_two_shapes_are_not_added_up() -> None:
    other = shape_of(REFERENCE.with_columns(pl.col("x") * 2), NUMBER, TEXT)
    with pytest.raises(ArtifactError, match="one shape"):
        sketch_of_frame(REFERENCE, SHAPE) + sketch_of_frame(REFERENCE, other)
    with pytest.raises(ArtifactError, match="shape"):
        Sketch.from_bytes(sketch_of_frame(REFERENCE, SHAPE).to_bytes(), other)
    with pytest.raises(ArtifactError, match="Expected a sketch"):
        Sketch.from_bytes(b"nothing", SHAPE)


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.5, 3.0, 10.0, 100.0])
@pytest.mark.parametrize("shape", ["normal", "lognormal", "uniform", "whole"])
def test_the_wasserstein_distance_errs_by_less_than_a_thousandth_of_the_spread(
    shape: str, shift: float
) -> None:
    from timonel.monitoring.comparison import Comparison

    rng = np.random.default_rng(0)
    drawn = {
        "normal": rng.normal(5, 2, (2, 20_000)),
        "lognormal": rng.lognormal(0, 0.8, (2, 20_000)),
        "uniform": rng.uniform(-1, 1, (2, 20_000)),
        "whole": rng.poisson(40, (2, 20_000)).astype(float),
    }[shape]
    reference, window = drawn[0], drawn[1]
    window = (
        window + np.rint(shift * reference.std())
        if shape == "whole"
        else window + shift * reference.std()
    )
    measure = Measure("x", "x", "number", whole=shape == "whole")
    made = shape_of(pl.DataFrame({"x": reference}), measure)
    tallies = [
        sketch_of_frame(pl.DataFrame({"x": x}), made).tallies["x"] for x in (reference, window)
    ]
    scale = made.scales[0]
    one = Comparison(measure, scale, tallies[0], "values", "wasserstein", 0.1)
    exact = stats.wasserstein_distance(reference, window)
    assert one.measured(tallies[1]) * scale.spread == pytest.approx(  # type: ignore[union-attr]
        exact, abs=0.001 * reference.std()
    )
    assert tallies[1].mean(scale) == pytest.approx(window.mean(), abs=0.001 * reference.std())  # type: ignore[arg-type]


def test_a_file_gives_what_its_rows_give_and_rows_may_be_chosen(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "x": rng.normal(size=200_000),
            "c": rng.choice(["a", "b", "new"], 200_000),
            "model": rng.choice(["one", "two"], 200_000),
        }
    )
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=20_000)
    files = [tmp_path / "rows.parquet"]
    assert sketch_of_parquet(files, SHAPE) == sketch_of_frame(frame, SHAPE)
    chosen = sketch_of_parquet(files, SHAPE, where=pl.col("model") == "one")
    assert chosen == sketch_of_frame(frame.filter(model="one"), SHAPE)
    assert sketch_of_parquet(files * 2, SHAPE).rows == 400_000


def test_seasons_are_counted_apart_by_the_time_of_each_row() -> None:
    measure = Measure("x", "x", "number", season="month")
    shape = shape_of(REFERENCE, measure, dated="day")
    days = [datetime(2024, month, 1, tzinfo=UTC) for month in (1, 1, 7)]
    frame = pl.DataFrame({"x": [0.0, 1.0, 2.0], "day": days})
    tally = sketch_of_frame(frame, shape).tallies["x"]
    assert tally.counts.sum(axis=1).tolist() == [2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]


def test_an_input_called_as_a_column_of_the_journal_is_found_under_its_stored_name() -> None:
    measures = measures_of([Column("model", "category")], ["yes", "no"])
    shape = shape_of(
        pl.DataFrame({"model": ["a", "b"], "prediction": ["yes", "no"], "probability": [0.5, 0.9]}),
        *measures,
    )
    segment = pl.DataFrame(
        {
            "model": ["rf", "rf"],
            "input.model": ["a", "a"],
            "prediction": ["yes", "no"],
            "probability": [0.9, None],
        }
    )
    tallies = sketch_of_frame(segment, shape).tallies
    assert tallies["model"].cells.tolist() == [2, 0, 0, 0]
    assert tallies["output.prediction"].cells[:2].tolist() == [1, 1]
    assert tallies["output.confidence"].missing == 1
