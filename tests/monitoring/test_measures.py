"""What is watched: columns, the summaries of a picture, and answers."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from timonel.errors import DataRefused
from timonel.journal.records import image_bytes
from timonel.monitoring.measures import PICTURE, measures_of, season_of, series_of
from timonel.schema import Column, Image

IMAGE = Column("pixels", "image", image=Image(28, 28))
MEASURES = measures_of([IMAGE], range(10))


def bar(left: int = 10, right: int = 13, *, value: float = 255.0, lean: float = 0.0) -> np.ndarray:
    """A vertical bar over rows 4 to 23, which leans to the right by `lean` columns a row."""
    picture = np.zeros((28, 28), np.float32)
    for row in range(4, 24):
        moved = round((14 - row) * lean)
        picture[row, left + moved : right + moved] = value
    return picture


def summary(*pictures: np.ndarray, image: Image | None = None) -> dict[str, list[float]]:
    measures = measures_of([Column("pixels", "image", image=image)], []) if image else MEASURES
    frame = pl.DataFrame({"pixels": [image_bytes(picture.ravel()) for picture in pictures]})
    return {m.name.partition(".")[2]: v.to_list() for m, v in series_of(frame, measures)}


def test_a_picture_is_summed_up_in_numbers_that_a_person_can_read() -> None:
    found = summary(bar())
    assert list(found) == list(PICTURE)
    one = {name: values[0] for name, values in found.items()}
    assert one["ink"] == pytest.approx(60 / 784)
    assert (one["width"], one["height"]) == pytest.approx((3 / 28, 20 / 28))
    assert (one["x"], one["y"]) == pytest.approx((11 / 27, 13.5 / 27))
    assert one["stroke"] == pytest.approx(2 * 60 / 46)
    assert one["slant"] == pytest.approx(0)


def test_each_summary_moves_with_what_it_is_called_after() -> None:
    thick, right, faint, leaning = bar(10, 16), bar(18, 21), bar(value=100), bar(lean=0.5)
    found = summary(bar(), thick, right, faint, leaning)
    assert found["stroke"][1] > 1.5 * found["stroke"][0]
    assert found["x"][2] > found["x"][0] + 0.2
    assert found["contrast"][3] < 0.5 * found["contrast"][0]
    assert found["slant"][4] == pytest.approx(0.5, abs=0.05)


def test_dark_ink_and_other_ranges_are_summed_up_alike() -> None:
    plain = summary(bar())
    dark = summary(255 - bar(), image=Image(28, 28, ink="dark"))
    unit = summary(bar(value=0.999), image=Image(28, 28, high=1.0))
    for name in PICTURE:
        assert dark[name] == pytest.approx(plain[name], abs=1e-3)
        assert unit[name] == pytest.approx(plain[name], abs=1e-2)


def test_an_empty_picture_has_no_place() -> None:
    found = summary(np.zeros((28, 28), np.float32))
    assert np.isnan(found["x"][0])
    assert found["ink"] == [0.0]


def test_bytes_that_are_no_picture_are_refused() -> None:
    with pytest.raises(DataRefused, match="784 or 3136 bytes, got 3"):
        list(series_of(pl.DataFrame({"pixels": [b"abc"]}), MEASURES))


def test_answers_are_measured_where_there_are_any() -> None:
    frame = pl.DataFrame({"a": [1.0], "prediction": ["yes"], "probability": [0.9]})
    measures = measures_of([Column("a", "number")], ["yes", "no"])
    assert [m.name for m, _ in series_of(frame, measures)] == [
        "a", "output.prediction", "output.confidence",
    ]  # fmt: skip
    assert [m.name for m, _ in series_of(frame.drop("probability"), measures)] == ["a"]


def test_seasons_come_from_the_named_column_or_the_journals_time() -> None:
    moment = datetime(2024, 3, 4, 5, tzinfo=UTC)
    frame = pl.DataFrame({"time": [moment], "day": [datetime(2024, 12, 1, tzinfo=UTC)]})
    assert season_of(frame, "month", "day").tolist() == [11]
    assert season_of(frame, "month", "absent").tolist() == [2]
    assert season_of(frame, "weekday", None).tolist() == [0]
    assert season_of(frame, "hour", None).tolist() == [5]
    with pytest.raises(DataRefused, match="to tell the month of each row by"):
        season_of(pl.DataFrame({"a": [1]}), "month", "day")
