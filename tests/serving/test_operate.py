"""The routes that change something, and who may use them."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from timonel.project import load_project
from timonel.serving.answer import Answerer
from timonel.serving.app import build_app
from timonel.serving.channel import RunReply
from timonel.serving.door import Door, Rules
from timonel.serving.keyring import Keyring
from timonel.serving.metrics import Metrics
from timonel.serving.predict import Predictor
from timonel.serving.routing import Routes
from timonel.serving.rows import RowReader
from timonel.serving.state import Progress, State

PENGUINS = load_project("penguins")


class Stand:
    """In the place of who runs pipelines."""

    def __init__(self, reply: RunReply) -> None:
        self.reply = reply
        self.asked: list[tuple[str, bool]] = []

    async def run(self, project: str, *, wait: bool) -> RunReply:
        self.asked.append((project, wait))
        return self.reply


@pytest.fixture
def client_of(tmp_path: Any) -> Callable[[Stand], TestClient]:
    def make(stand: Stand) -> TestClient:
        origins = ("http://127.0.0.1:3000",)
        rules = Rules(projects=("penguins",), at_root=True, origins=origins)
        routes = Routes([PENGUINS], tmp_path)
        routes.follow(State(runs=(Progress("penguins", "run-2", "running", "step train/rf"),)))
        predictor = Predictor(
            Answerer(
                PENGUINS,
                routes,
                lambda entry: pytest.fail("nothing is predicted here"),
                Metrics(),
            ),
            RowReader(PENGUINS, 10),
            max_body=1_000,
            max_pixels=1_000,
        )
        app: FastAPI = build_app(
            [PENGUINS],
            [predictor],
            routes,
            Metrics(),
            at_root=True,
            door=lambda app: Door(app, rules, Keyring(tuple), most=lambda: 10),
            origins=rules.origins,
            operator=stand,
        )
        return TestClient(app, base_url="http://127.0.0.1:8000")

    return make


Make = Callable[[Stand], TestClient]


@pytest.mark.parametrize(
    "path", ["/run-pipeline", "/run-pipeline/", "/penguins/run-pipeline", "/penguins/run-pipeline/"]
)
def test_a_completed_pipeline_is_said_as_the_original_does(client_of: Make, path: str) -> None:
    stand = Stand(RunReply(1, 200, "penguins/rf@2 is champion.", "run-1"))
    response = client_of(stand).put(path)
    assert (response.status_code, response.json()) == (200, {"msg": "Completed pipeline."})
    assert response.headers["x-run-id"] == "run-1"
    assert stand.asked == [("penguins", True)]


@pytest.mark.parametrize("status", [409, 500, 503])
def test_a_pipeline_that_came_to_nothing_is_said_with_its_sentence(
    client_of: Make, status: int
) -> None:
    response = client_of(Stand(RunReply(1, status, "It is worse."))).put("/run-pipeline")
    assert (response.status_code, response.json()) == (status, {"detail": "It is worse."})


def test_who_prefers_not_to_wait_gets_a_run_to_watch(client_of: Make) -> None:
    stand = Stand(RunReply(1, 202, "", "run-2"))
    client = client_of(stand)
    prefers = [("Prefer", "handling=strict"), ("Prefer", "wait=1, Respond-Async")]
    response = client.put("/run-pipeline", headers=prefers)
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    assert stand.asked == [("penguins", False)]
    watched = client.get(response.json()["watch"])
    assert watched.json() == {"run": "run-2", "status": "running", "note": "step train/rf"}


def test_every_project_has_runs_that_can_be_begun_and_listed(client_of: Make) -> None:
    client = client_of(Stand(RunReply(1, 202, "", "run-2")))
    begun = client.post("/api/projects/penguins/runs")
    assert (begun.status_code, begun.json()["run"]) == (202, "run-2")
    assert [run["run"] for run in client.get("/api/projects/penguins/runs").json()] == ["run-2"]
    assert client.get("/api/projects/penguins/runs/run-9").status_code == 404


def test_a_page_of_another_site_may_change_nothing(client_of: Make) -> None:
    stand = Stand(RunReply(1, 200, ""))
    client = client_of(stand)
    for path, method in (("/run-pipeline", "PUT"), ("/api/projects/penguins/runs", "POST")):
        response = client.request(method, path, headers={"Origin": "http://evil.example"})
        assert response.status_code == 403
        assert "evil.example" in response.json()["detail"]
    assert stand.asked == []


def test_a_site_whose_name_was_given_this_machines_address_may_change_nothing(
    client_of: Make,
) -> None:
    stand = Stand(RunReply(1, 200, ""))
    headers = {"Origin": "http://evil.example:8000", "Host": "evil.example:8000"}
    response = client_of(stand).put("/run-pipeline", headers=headers)
    assert (response.status_code, stand.asked) == (403, [])


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "http://127.0.0.1:3000"])
def test_a_page_of_this_server_and_an_allowed_one_may(client_of: Make, origin: str) -> None:
    client = client_of(Stand(RunReply(1, 200, "")))
    assert client.put("/run-pipeline", headers={"Origin": origin}).status_code == 200
