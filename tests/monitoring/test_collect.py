"""Labelled live rows become a dataset: under the source's columns, rules and types, by its hash."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, Field

from tests.monitoring.answered import START, Home, id_of
from timonel.data import datasets
from timonel.data.collections import noted_collections
from timonel.journal.records import SHADOW, image_bytes
from timonel.monitoring.collect import Collected, collected
from timonel.policies import Drift, Split
from timonel.project import Model, Project, load_project
from timonel.schema import Kind


class Sailor(BaseModel):
    age: float = Field(ge=0)
    deck: Literal["A", "B"] | None = None
    label: int = 0
    time: int = 0


COLUMNS: tuple[tuple[str, Kind], ...] = (
    ("age", "number"),
    ("deck", "category"),
    ("label", "integer"),
    ("time", "integer"),
)


class _Nowhere:
    def read(self, read: Any) -> Any:
        raise NotImplementedError


def boat(**given: Any) -> Project:
    usual: dict[str, Any] = {"classes": ["a", "b"], "features": Sailor}
    return Project(
        name="boat",
        source=_Nowhere(),
        target="fate",
        models=[Model("m", lambda: None)],
        **(usual | given),
    )


def of(home: Home, project: Project, **given: Any) -> Collected:
    return collected(project, home.segments, home.labels, home.objects, **given)


def test_labelled_rows_are_those_of_a_source_and_kept_by_their_hash(tmp_path: Path) -> None:
    home = Home(tmp_path, COLUMNS)
    many = home.answer("a", "a", rows=[(1.0, "A", 7, 8), (2.0, None, 0, 0)])
    one, unsaid = (
        home.answer("b", rows=[(3.0, "B", 0, 0)]),
        home.answer("a", rows=[(4.0, "A", 0, 0)]),
    )
    home.export(many, home.said(many, "b", row=1), home.said(one, "a"))
    home.export(unsaid, home.said(many, "a"), home.said(home.unknown(), "a"))
    found = of(home, boat())
    assert (found.rows, found.labels, found.unknown) == (2, 4, 2)
    home.export(one)
    found = of(home, boat())
    assert (found.rows, found.labels, found.unknown, found.refused_key) == (3, 4, 1, None)
    assert found.frame.rows(named=True) == [
        {"age": 1.0, "deck": "A", "label": 7, "time": 8, "fate": "a"},
        {"age": 2.0, "deck": None, "label": 0, "time": 0, "fate": "b"},
        {"age": 3.0, "deck": "B", "label": 0, "time": 0, "fate": "a"},
    ]
    assert datasets.load(found.key, home.objects).equals(found.frame)
    assert of(home, boat()).key == found.key
    since = one.time_ns / 1e9 - 0.5
    assert of(home, boat(), since=since).frame["age"].to_list() == [3.0]
    assert of(home, boat(), until=START).rows == 0


def test_rows_that_are_not_fit_are_kept_apart_with_the_reason(tmp_path: Path) -> None:
    home = Home(tmp_path, COLUMNS)
    good, bad = (
        home.answer("a", rows=[(1.0, "A", 0, 0)]),
        home.answer("a", rows=[(-1.0, "A", 0, 0)]),
    )
    again = home.answer("a", rows=[(1.0, "A", 0, 0)])
    odd = home.answer("a", rows=[(5.0, "A", 0, 0)])
    home.export(good, bad, again, odd, *(home.said(one, "a") for one in (good, bad, again)))
    home.export(home.said(odd, "c"))
    found = of(home, boat())
    assert (found.report.kept, found.report.refused, found.report.dropped) == (1, 2, 1)
    assert found.refused["reason"].to_list() == [
        "age: expected number, ≥ 0, got -1.0",
        "fate: expected one of a, b, got 'c'",
    ]
    assert found.refused_key is not None
    noted = {one.key: (one.first, one.last) for one in noted_collections(home.objects, "boat")}
    assert noted == dict.fromkeys((found.key, found.refused_key), (id_of(good), id_of(odd)))
    assert datasets.load(found.refused_key, home.objects).height == 2


def test_a_row_is_taken_once_whoever_answered_it(tmp_path: Path) -> None:
    home = Home(tmp_path, COLUMNS)
    rows = [(1.0, "A", 0, 0)]
    seen = home.answer("a", rows=rows)
    shadow = home.answer("b", rows=rows, version="boat/m@2", identifier=seen.id, via=SHADOW)
    other = home.answer("b", rows=rows, version="boat/n@1", identifier=seen.id)
    failed = home.answer(rows=[(2.0, "B", 0, 0)], error="It broke.")
    home.export(seen, shadow, other, failed, home.said(seen, "a"), home.said(failed, "b"))
    found = of(home, boat())
    assert (found.rows, found.unknown) == (2, 0)


def test_whole_numbers_are_the_target_where_the_classes_are(tmp_path: Path) -> None:
    home = Home(tmp_path, COLUMNS)
    one = home.answer("a", rows=[(1.0, "A", 0, 0)])
    home.export(one, home.said(one, "7"))
    for project, classes in ((boat(classes=[6, 7]), None), (boat(classes=None), (6, 7))):
        assert of(home, project, classes=classes).frame["fate"].to_list() == [7]
    assert of(home, boat(classes=None)).frame["fate"].to_list() == ["7"]


def test_what_policies_look_at_comes_from_the_prediction(tmp_path: Path) -> None:
    home = Home(tmp_path, COLUMNS)
    answers = [home.answer("a", rows=[(float(n), "A", 0, 0)]) for n in range(200)]
    home.export(*answers, *(home.said(one, "a") for one in answers))
    split = Split(key=("number",), test=0.3)
    found = of(home, boat(split=split, drift=Drift(dated="made")))
    assert found.frame["number"].n_unique() == 200
    assert found.frame.schema["number"] == pl.Int64
    assert found.frame["made"].is_sorted()
    assert found.frame.schema["made"] == pl.Datetime("us")
    given = of(home, boat(split=Split(given="part", test=0.3))).frame["part"]
    assert set(given) == {"train", "test"}
    assert 30 <= (given == "test").sum() <= 90


def test_pictures_are_bytes_of_whole_numbers(tmp_path: Path) -> None:
    digits = replace(load_project("digits"), name="boat")
    home = Home(tmp_path, (("pixels", "image"),))
    whole = np.arange(784, dtype=np.float32) % 256
    pictures = [image_bytes(whole), image_bytes(whole + 0.4), b"short"]
    answers = [home.answer("a", rows=[(picture,)]) for picture in pictures]
    home.export(*answers, *(home.said(one, "7") for one in answers))
    found = of(home, digits)
    expected = whole.astype(np.uint8).tobytes()
    assert found.frame.select("pixels", "label").rows() == [(expected, 7)] * 2
    assert found.report.refused == 1


def test_nothing_labelled_is_a_dataset_without_rows(tmp_path: Path) -> None:
    home = Home(tmp_path, COLUMNS)
    assert of(home, boat()).frame.columns == ["age", "deck", "label", "time", "fate"]
    home.export(home.answer("a", rows=[(1.0, "A", 0, 0)]))
    found = of(home, boat())
    assert (found.rows, found.labels, found.refused_key) == (0, 0, None)
    assert noted_collections(home.objects, "boat") == []
