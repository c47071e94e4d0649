"""What the authors of titanic and of digits test themselves, against servers as they run them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.homes import deploy_digits, deploy_embedded, home_at
from tests.serving.processes import Server, serving
from timonel.project import load_project
from timonel.signature import Binding
from timonel.stores.objects import ObjectStore

MODEL, SET = "model_onnx/mnist-12-int8.onnx", "test_data/test_data.json"
BINDING = Binding(
    "image",
    ("Input3",),
    shape=(1, 28, 28),
    high=255.0,
    label=None,
    scores="Plus214_Output_0",
    logits=True,
    batch=False,
)


@pytest.fixture(scope="module")
def titanic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = home_at(tmp_path_factory.mktemp("titanic"))
    deploy_embedded(load_project("titanic"), settings)
    with serving(["titanic"], settings) as server:
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> ObjectStore:
    """An object store with the model that digits' authors serve, and their test set."""
    store = ObjectStore.open(tmp_path_factory.mktemp("bucket").as_uri())
    folder = test_data / "digits_original"
    store.write(MODEL, (folder / "mnist-12-int8.onnx").read_bytes())
    store.write(SET, (folder / "test_data.json").read_bytes())
    return store


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, store: ObjectStore) -> Iterator[Server]:
    settings = home_at(tmp_path_factory.mktemp("digits"))
    deploy_digits(settings, store.get(MODEL), BINDING)
    with serving(["digits"], settings) as server:
        yield server


@pytest.fixture(scope="module")
def samples(store: ObjectStore) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(store.get(SET))
    return found


def digit(server: Server, pixels: list[float]) -> Any:
    """What their page reads from the reply."""
    status, body, _ = server.send("POST", "/predict", json.dumps({"pixels": pixels}).encode())
    assert status == 200, body
    return json.loads(body)["prediccion"]


def test_titanic_two_passengers_are_answered_in_their_order(titanic: Server) -> None:
    assert titanic.address.startswith("http://127.0.0.1:")
    passengers = [
        {"Age": 22.0, "Sex": "male", "Embarked": "S"},
        {"Age": 38.0, "Sex": "female", "Embarked": "C"},
    ]
    status, body, headers = titanic.send("POST", "/predict", json.dumps(passengers).encode())
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"predictions": [0, 1]}


def test_digits_784_values_give_one_digit(digits: Server, samples: list[dict[str, Any]]) -> None:
    answer = digit(digits, samples[0]["pixels"])
    assert type(answer) is int
    assert 0 <= answer <= 9


def test_digits_the_second_sample_is_told_right(
    digits: Server, samples: list[dict[str, Any]]
) -> None:
    assert digit(digits, samples[1]["pixels"]) == samples[1]["label"]


def test_digits_at_least_four_fifths_of_their_set_are_told_right(
    digits: Server, samples: list[dict[str, Any]]
) -> None:
    right = [digit(digits, sample["pixels"]) == sample["label"] for sample in samples]
    assert len(right) == 30
    assert sum(right) / len(right) >= 0.8
    assert all(right)  # the bar of ours


def test_digits_their_load_balancer_finds_it_well(digits: Server) -> None:
    status, health = digits.health()
    assert (status, health["status"]) == (200, "ok")
