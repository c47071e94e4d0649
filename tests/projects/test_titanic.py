"""titanic: the definition, run and served with no more than what ships."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.homes import app_of
from tests.pipeline.conftest import Home
from tests.projects.generate_titanic import COUNTS, generated, path
from timonel.data.sources import Csv
from timonel.pipeline.run import Outcome
from timonel.project import File, load_project
from timonel.stores.artifacts import fetch_version
from timonel.tensors import arrays_of
from timonel.training.design import design_matrix
from timonel.training.export import parity, to_onnx

Train = Callable[..., Outcome]
SHIPPED = replace(load_project("titanic"), source=load_project("titanic").source.sources[-1])  # type: ignore[attr-defined]


def served(home: Home, check: Callable[[TestClient], None]) -> None:
    with TestClient(app_of([SHIPPED], home.settings, at_root=True)) as client:
        check(client)


def test_the_sample_that_ships_is_the_generated_one_and_has_the_published_counts() -> None:
    assert path().read_text() == generated()
    frame = pl.read_csv(path())
    assert frame.height == sum(n for groups in COUNTS.values() for n, _ in groups.values()) == 891
    assert frame["Survived"].sum() == 342
    assert frame["Age"].null_count() == 177
    women = frame.filter(pl.col("Sex") == "female")
    assert (women.height, women["Survived"].sum()) == (314, 233)


def test_it_trains_on_what_ships_says_so_and_answers_the_authors_request(
    home: Home, trained: Train
) -> None:
    outcome = trained(SHIPPED)
    (version,) = outcome.versions
    assert version.state == "champion"
    folder = fetch_version(version.digest, home.objects, home.settings.serving_folder)
    card = (folder / "card.md").read_text()
    assert "The passengers are generated ones." in card
    assert any("generated" in event.note for event in home.told if event.kind == "note")

    def check(client: TestClient) -> None:
        two = [
            {"Age": 22.0, "Sex": "male", "Embarked": "S"},
            {"Age": 38.0, "Sex": "female", "Embarked": "C"},
        ]
        for route in ("/predict", "/predict/", "/titanic/predict"):
            reply = client.post(route, json=two)
            assert (reply.status_code, reply.text) == (200, '{"predictions":[0,1]}')
        assert client.post("/predict", json=[]).text == '{"predictions":[]}'
        odd: list[dict[str, Any]] = [
            {},
            {"Age": None, "Sex": None, "Embarked": None},
            {"Age": 30, "Sex": "unknown", "Embarked": "Z", "Cabin": "C85"},
        ]
        reply = client.post("/predict", json=odd)
        assert reply.status_code == 200, reply.text
        assert set(reply.json()["predictions"]) <= {0, 1}
        assert len(reply.json()["predictions"]) == 3
        assert client.post("/predict", json=two[0]).status_code == 422
        assert client.post("/predict", json=[{"Age": "old"}]).status_code == 422

    served(home, check)


def test_retraining_on_the_same_rows_keeps_the_champion_or_makes_a_new_one(
    home: Home, trained: Train
) -> None:
    trained(SHIPPED)
    kept = trained(SHIPPED)
    assert "stays champion" in kept.sentence
    for seed in (1, 2):
        outcome = trained(SHIPPED, seed=seed, fresh=True)
        assert [version.state for version in outcome.versions] == ["champion"]
    assert [v.state for v in home.versions.list("titanic")] == ["retired", "retired", "champion"]


def test_missing_ages_and_unknown_texts_answer_in_onnx_as_in_scikit_learn() -> None:
    project = load_project("titanic")
    columns = project.columns
    frame = pl.read_csv(path())
    fields = {c.name: frame[c.name].to_list() for c in columns}
    arrays = arrays_of(columns, fields)
    recipe: Any = project.models[0].recipe
    estimator = recipe().fit(design_matrix(columns, arrays), frame["Survived"].to_numpy())
    strange = arrays_of(
        columns,
        {
            "Age": [None, 0.0, 150.0, None, 30.5] * 20,
            "Sex": ["male", None, "FEMALE", "", "señora"] * 20,
            "Embarked": [None, "Z", "S", "Q", "C "] * 20,
        },
    )
    exported = to_onnx(estimator, columns, arrays)
    found = parity(estimator, exported.content, exported.binding, columns, strange)
    assert (found.rows, found.ties) == (100, 0)
    assert found.largest is not None
    assert found.largest < 1e-5


def test_the_real_passengers_train_to_what_is_known_of_them(
    home: Home, trained: Train, test_data: Path
) -> None:
    real = replace(SHIPPED, source=Csv(File(str(test_data / "titanic" / "train.csv"))))
    (version,) = trained(real).versions
    assert version.state == "champion"
    accuracy = version.metrics["evaluation"]["metrics"]["accuracy"]["value"]
    assert 0.72 < accuracy < 0.9


def test_a_file_without_passenger_numbers_is_numbered_by_its_rows() -> None:
    assert SHIPPED.prepare is not None
    made = SHIPPED.prepare(pl.DataFrame({"Age": [1.0, 2.0]}))
    assert isinstance(made, pl.DataFrame)
    assert made["PassengerId"].to_list() == [0, 1]


@pytest.mark.parametrize("rows", [1, 3])
def test_its_reply_is_documented(rows: int) -> None:
    from timonel.contract import Answer

    answer = Answer(
        id="x",
        labels={"lr": [np.int64(1)] * rows},  # type: ignore[list-item]
        scores={},
        classes={},
        versions={},
        seconds=0.0,
        single=False,
    )
    assert json.dumps(SHIPPED.contract.reply(answer)) == json.dumps({"predictions": [1] * rows})
