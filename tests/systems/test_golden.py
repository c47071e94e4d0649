"""The contracts of the bundled systems, to the letter; the replies are kept in golden/."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.homes import app_of, digit_rows, home_at
from tests.systems.conftest import NAMES
from tests.systems.exchanges import load, matches, send
from timonel.project import load_project

GOLDEN = Path(__file__).parent / "golden"
EXCHANGES = [
    pytest.param(project, exchange, id=f"{path.stem}: {exchange['name']}")
    for path in sorted(GOLDEN.glob("*.json"))
    for project, exchanges in [load(path)]
    for exchange in exchanges
]


@pytest.mark.parametrize("suffix", ["", "/"], ids=["plain", "slash"])
@pytest.mark.parametrize("mounted", [False, True], ids=["root", "mounted"])
@pytest.mark.parametrize(("project", "exchange"), EXCHANGES)
def test_a_golden_request_has_its_golden_reply(
    project: str, exchange: Any, mounted: bool, suffix: str, servers: dict[str, TestClient]
) -> None:
    client = servers["all" if mounted else project]
    reply = send(client, exchange, f"/{project}" if mounted else "", suffix)
    assert matches(reply, exchange["reply"])
    if reply.status_code == 200 and exchange["request"]["method"] == "POST":
        assert len(reply.headers["x-prediction-id"]) == 36
        assert reply.headers["x-model-version"].startswith(f"{project}/")


@pytest.mark.parametrize("name", ["all", *NAMES])
def test_the_front_door_welcomes_programs_and_leads_browsers_on(
    name: str, servers: dict[str, TestClient]
) -> None:
    names = list(NAMES) if name == "all" else [name]
    for path in ("", "/"):
        welcome = servers[name].get(path)
        assert welcome.json() == {
            "message": "Welcome to Timonel.",
            "projects": names,
            "documentation": "/docs",
        }
        page = servers[name].get(path, headers={"Accept": "text/html,*/*"})
        assert page.headers["content-type"].startswith("text/html")


def test_the_query_id_of_an_upload_is_the_prediction_id(servers: dict[str, TestClient]) -> None:
    _, exchanges = load(GOLDEN / "digits_upload.json")
    reply = send(servers["digits"], exchanges[0])
    assert reply.json()["query_id"] == reply.headers["x-prediction-id"]


def test_the_model_that_a_form_names_is_the_one_that_answers(
    servers: dict[str, TestClient],
) -> None:
    _, exchanges = load(GOLDEN / "digits_upload.json")
    versions = [send(servers["digits"], exchanges[i]).headers["x-model-version"] for i in (0, 2)]
    assert versions == ["digits/clf@1", "digits/cnn@1"]


def test_a_project_at_the_root_also_answers_under_its_name(servers: dict[str, TestClient]) -> None:
    row = {
        "bill_length_mm": 20,
        "bill_depth_mm": 40,
        "flipper_length_mm": 200,
        "body_mass_g": 4000,
    }
    reply = servers["penguins"].post("/penguins/predict", json=row)
    assert reply.json() == {"prediction": [0]}


def test_the_version_that_ships_with_digits_gives_the_golden_replies(tmp_path: Path) -> None:
    digits = load_project("digits")
    embedded = digits.model("cnn").embedded
    if embedded is None or not (embedded / "model.onnx").is_file():
        pytest.skip("no version of digits/cnn is in the package")
    with TestClient(app_of([digits], home_at(tmp_path), at_root=True)) as client:
        for exchange in load(GOLDEN / "digits_json.json")[1]:
            assert matches(send(client, exchange), exchange["reply"])
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "ok")
        assert health.json()["degraded"] == ["digits/clf has no version yet."]
        known = send(client, load(GOLDEN / "digits_json.json")[1][0])
    assert known.headers["x-model-version"] == "digits/cnn@0"


def test_digits_that_the_model_knows_are_told_apart(servers: dict[str, TestClient]) -> None:
    pixels, labels = digit_rows()
    right = sum(
        servers["digits"].post("/predict", json=pixels[i].tolist()).json()["prediction"]
        == labels[i]
        for i in range(50)
    )
    assert right >= 40
