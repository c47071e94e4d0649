"""The application around the predictions: health, documentation, refusals, other origins."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.homes import app_of, deploy, home_at
from tests.serving.boats import MALE, boat, launch
from timonel.contract import Answer
from timonel.project import load_project
from timonel.serving.state import Progress, State, write_state

WATCHED = ["health", "live", "ready"]


@pytest.mark.parametrize("path", ["", "/digits", "/penguins"])
@pytest.mark.parametrize("name", WATCHED)
def test_what_is_watched_is_well_for_all_and_for_each(
    name: str, path: str, mounted: TestClient
) -> None:
    for slash in ("", "/"):
        reply = mounted.get(f"{path}/{name}{slash}", follow_redirects=False)
        assert (reply.status_code, reply.content) == (200, b'{"status":"ok"}')


def test_a_model_without_a_champion_makes_its_project_unavailable_and_no_other(
    tmp_path: Path,
) -> None:
    settings = home_at(tmp_path)
    launch(boat(), settings)
    projects = [boat(), load_project("penguins")]
    with TestClient(app_of(projects, settings)) as client:
        for path in ("/health", "/ready", "/penguins/health", "/penguins/ready"):
            reply = client.get(path)
            assert reply.status_code == 503
            assert reply.json() == {
                "status": "unavailable",
                "detail": "penguins/rf has no version yet.",
            }
        for path in ("/live", "/boat/health", "/boat/ready", "/penguins/live"):
            assert client.get(path).status_code == 200
        assert client.post("/boat/predict", json=MALE).status_code == 200
        reply = client.post(
            "/penguins/predict",
            json={
                "bill_length_mm": 20,
                "bill_depth_mm": 40,
                "flipper_length_mm": 200,
                "body_mass_g": 4000,
            },
        )
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "2"
        assert reply.json()["detail"] == (
            "penguins/rf has no version yet. Train it: timonel run penguins"
        )


def test_who_waits_for_a_first_version_is_told_how_far_its_run_is(tmp_path: Path) -> None:
    settings = home_at(tmp_path)
    app = app_of([load_project("penguins")], settings, at_root=True)
    run = Progress("penguins", "r1", "running", "step train, 40%")
    write_state(settings.serving_folder, State(runs=(run,)))
    with TestClient(app) as client:
        sentence = "penguins/rf has no version yet; run r1 is at step train, 40%."
        assert client.get("/health").json()["detail"] == sentence


def test_what_is_degraded_is_said_while_answers_go_on(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), load_project("penguins")
    deploy(project, settings)
    app = app_of([project], settings)
    state = State(degraded=("The database is away.",))
    write_state(settings.serving_folder, state)
    with TestClient(app) as client:
        assert client.get("/health").json()["degraded"] == ["The database is away."]


def test_the_root_welcomes_programs_and_leads_browsers_to_the_documentation(
    mounted: TestClient,
) -> None:
    assert mounted.get("/").json() == {
        "message": "Welcome to Timonel.",
        "projects": ["digits", "penguins"],
        "documentation": "/docs",
    }
    browser = mounted.get("/", headers={"Accept": "text/html"}, follow_redirects=False)
    assert browser.headers["location"] == "/docs"


def test_the_documentation_needs_no_other_server(mounted: TestClient) -> None:
    for path in ("/docs", "/docs/"):
        page = mounted.get(path)
        assert page.status_code == 200
        assert "http://" not in page.text
        assert "https://" not in page.text
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"/docs/assets/{asset}" in page.text
        assert mounted.get(f"/docs/assets/{asset}").status_code == 200


def test_pages_of_the_allowed_origins_may_ask_and_others_may_not(mounted: TestClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Origin": "http://localhost:3000"}
    allowed = mounted.options("/digits/predict", headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:3000"
    reply = mounted.get("/health", headers={"Origin": "http://localhost:3000"})
    assert "X-Prediction-Id" in reply.headers["access-control-expose-headers"]
    other = mounted.options("/digits/predict", headers=asked | {"Origin": "http://evil.example"})
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers


def test_a_failure_of_ours_is_a_sentence_and_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def reply(answer: Answer) -> dict[str, int]:
        raise KeyError("secret")

    settings, project = home_at(tmp_path), boat(reply=reply)
    launch(project, settings)
    app = app_of([project], settings, at_root=True)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/predict", json=MALE)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["detail"].endswith("its log says why. Try again.")
    assert "POST /predict failed" in caplog.text


def test_a_host_that_is_none_does_not_fail_the_refusal(mounted: TestClient) -> None:
    reply = mounted.get("/nothing", headers={"Host": "["})
    assert reply.status_code == 404
    assert reply.json()["detail"] == "There is nothing at /nothing; /docs lists what there is."
