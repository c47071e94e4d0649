"""A request's walk, with every kind of contract that a project may have."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.homes import app_of, deploy, home_at
from tests.serving.bad_inputs import png
from tests.serving.boats import FEMALE, MALE, boat, launch
from timonel.contract import Answer
from timonel.errors import JournalFull
from timonel.project import Project, load_project
from timonel.serving.answer import Answerer, Entry
from timonel.serving.metrics import Metrics
from timonel.serving.predict import Predictor
from timonel.serving.routing import Routes
from timonel.serving.rows import RowReader
from timonel.serving.state import read_state
from timonel.settings import Settings


@contextmanager
def sailing(tmp_path: Path, count: int = 1, **contract: Any) -> Iterator[TestClient]:
    """A client of the boat at the root."""
    settings, project = home_at(tmp_path, max_rows=100), boat(count, **contract)
    launch(project, settings)
    with TestClient(app_of([project], settings, at_root=True)) as client:
        yield client


def test_the_standard_reply_of_one_row_has_its_probabilities_id_and_version(
    tmp_path: Path,
) -> None:
    with sailing(tmp_path) as client:
        reply = client.post("/predict", json=FEMALE)
    body = reply.json()
    assert list(body) == ["id", "version", "prediction", "probabilities"]
    assert body["prediction"] == "saved"
    assert set(body["probabilities"]) == {"drowned", "saved"}
    assert sum(body["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert body["id"] == reply.headers["x-prediction-id"]
    assert body["version"] == reply.headers["x-model-version"] == "boat/m1@1"


def test_the_standard_reply_of_several_rows_keeps_their_order(tmp_path: Path) -> None:
    with sailing(tmp_path) as client:
        body = client.post("/predict", json=[FEMALE, MALE, FEMALE]).json()
        assert [p["prediction"] for p in body["predictions"]] == ["saved", "drowned", "saved"]
        assert client.post("/predict", json=[MALE]).json()["predictions"][0]["probabilities"]
        empty = client.post("/predict", json=[])
    assert (empty.status_code, empty.json()["predictions"]) == (200, [])


def test_missing_unseen_and_default_values_are_answered(tmp_path: Path) -> None:
    with sailing(tmp_path) as client:
        for row in (
            {"sex": "male"},
            MALE | {"age": None, "port": None, "siblings": None},
            MALE | {"deck": "never seen"},
            MALE | {"deck": "\x00"},
            MALE | {"deck": "é🚢" * 1000},
            MALE | {"siblings": 2**24},
            MALE | {"age": 3e38},
        ):
            reply = client.post("/predict", json=row)
            assert reply.status_code == 200, (row, reply.text)
        large = client.post("/predict", json=MALE | {"age": 1e300})
        digits = client.post("/predict", content=json.dumps(MALE | {"siblings": 10**400}))
    assert large.status_code == digits.status_code == 422
    assert large.json()["detail"].startswith("Expected numbers within ±3.403e+38 in age")


def test_rows_of_one_or_many_only_are_held_to(tmp_path: Path) -> None:
    with sailing(tmp_path / "one", rows="one") as client:
        assert client.post("/predict", json=MALE).status_code == 200
        assert client.post("/predict", json=[MALE]).status_code == 422
    with sailing(tmp_path / "many", rows="many") as client:
        assert client.post("/predict", json=MALE).status_code == 422
        assert len(client.post("/predict", json=[MALE]).json()["predictions"]) == 1
        assert client.post("/predict", json=[]).json()["predictions"] == []


def test_more_rows_than_allowed_are_too_large(tmp_path: Path) -> None:
    with sailing(tmp_path) as client:
        assert client.post("/predict", json=[MALE] * 100).status_code == 200
        reply = client.post("/predict", json=[MALE] * 101)
    assert reply.status_code == 413
    assert reply.json()["detail"].startswith("Expected at most 100 rows in a request, got 101.")


def test_rows_under_a_key_and_two_models_that_both_answer(tmp_path: Path) -> None:
    def reply(answer: Answer) -> dict[str, Any]:
        return {f"{model}_output": labels[0] for model, labels in answer.labels.items()}

    with sailing(
        tmp_path, 2, under="features", models="all", reply=reply, unknown="ignore"
    ) as client:
        answer = client.post("/predict/", json={"features": FEMALE, "more": 1})
        assert answer.json() == {"m1_output": "saved", "m2_output": "saved"}
        assert answer.headers["x-model-version"] == "boat/m1@1, boat/m2@1"
        assert client.post("/predict", json=FEMALE).status_code == 422
        one = client.post("/predict?model=m2", json={"features": MALE})
        assert one.json() == {"m2_output": "drowned"}


def test_extra_fields_are_refused_where_the_contract_does_not_ignore_them(tmp_path: Path) -> None:
    with sailing(tmp_path) as client:
        reply = client.post("/predict", json=MALE | {"name": "Owen"})
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "name"]


def test_with_all_models_asked_one_without_a_champion_is_not_ready(tmp_path: Path) -> None:
    settings, project = home_at(tmp_path), boat(2, models="all")
    launch(boat(1), settings)
    with TestClient(app_of([project], settings, at_root=True)) as client:
        reply = client.post("/predict", json=MALE)
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
        assert client.post("/predict?model=m1", json=MALE).status_code == 200


def test_a_picture_is_answered_without_a_model_name_where_none_is_required(
    home: Settings,
) -> None:
    digits = load_project("digits")
    open_form = Project(
        **{
            **{name: getattr(digits, name) for name in digits.__dataclass_fields__},
            "contract": type(digits.contract)(rows="one"),
        }
    )
    with TestClient(app_of([open_form], home, at_root=True)) as client:
        reply = client.post("/predict", files={"image": ("a.png", png())})
        assert reply.json()["prediction"] in range(10)
        refused = client.post("/predict", files={"image": ("a.png", b"")})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("Expected the bytes of a picture")


class Desk:
    """A recorder that notes entries, or refuses them."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.full = False

    def __call__(self, entry: Entry) -> Awaitable[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.full:
            done.set_exception(JournalFull("The journal cannot be written."))
        else:
            self.entries.append(entry)
            done.set_result(None)
        return done


@pytest.fixture
def desk() -> Desk:
    return Desk()


@contextmanager
def alone(tmp_path: Path, desk: Desk, **given: Any) -> Iterator[tuple[TestClient, Metrics]]:
    """A penguins' predictor with nothing around it: its ids, clocks and journal are the test's."""
    settings, project = home_at(tmp_path), load_project("penguins")
    if given:
        fields = {name: getattr(project, name) for name in project.__dataclass_fields__}
        project = Project(**{**fields, "contract": type(project.contract)(**given)})
    deploy(project, settings)
    app_of([project], settings)
    routes, metrics = Routes([project], settings.serving_folder), Metrics()
    state = read_state(settings.serving_folder)
    assert state is not None
    routes.follow(state)
    ids = iter(uuid.UUID(int=n) for n in range(1, 1000))
    ticks = iter(range(10_000))
    answerer = Answerer(
        project,
        routes,
        desk,
        metrics,
        ids=lambda: next(ids),
        clock_ns=lambda: 42,
        timer=lambda: next(ticks) / 4,
    )
    predictor = Predictor(answerer, RowReader(project, 10), max_body=5_000, max_pixels=1_000)

    async def predict(request: Request) -> Response:
        return await predictor(request)

    app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, metrics


ROW = {"bill_length_mm": 20, "bill_depth_mm": 40, "flipper_length_mm": 200, "body_mass_g": 4000}


def test_what_is_answered_is_recorded_before_the_reply_with_its_id_and_time(
    tmp_path: Path, desk: Desk
) -> None:
    with alone(tmp_path, desk) as (client, metrics):
        reply = client.post("/predict", json=ROW)
        assert client.post("/predict", json={}).status_code == 422
    (entry,) = desk.entries
    assert reply.headers["x-prediction-id"] == str(uuid.UUID(int=1))
    assert (entry.id, entry.time_ns, entry.via) == (uuid.UUID(int=1).bytes, 42, "json")
    assert list(entry.rows) == [tuple(ROW.values())]
    served, indices, scores = entry.answers[0]
    assert (served.label, list(indices), scores.shape) == ("penguins/rf@1", [0], (1, 3))
    text = metrics.render().decode()
    assert 'timonel_requests_total{project="penguins",status="200"} 1.0' in text
    assert 'timonel_requests_total{project="penguins",status="422"} 1.0' in text
    assert 'timonel_request_seconds_sum{project="penguins"}' in text


def test_an_answer_that_cannot_be_recorded_is_not_given(tmp_path: Path, desk: Desk) -> None:
    desk.full = True
    with alone(tmp_path, desk) as (client, _):
        reply = client.post("/predict", json=ROW)
    assert reply.status_code == 503
    assert reply.json() == {"detail": "The journal cannot be written."}


def test_a_request_without_rows_is_not_recorded(tmp_path: Path, desk: Desk) -> None:
    with alone(tmp_path, desk, rows="many") as (client, _):
        assert client.post("/predict", json=[]).json()["predictions"] == []
    assert desk.entries == []


def test_a_reply_that_fails_is_counted_as_a_failure(tmp_path: Path, desk: Desk) -> None:
    def reply(answer: Answer) -> Any:
        raise KeyError(answer.id)

    with alone(tmp_path, desk, reply=reply) as (client, metrics):
        assert client.post("/predict", json=ROW).status_code == 500
    assert b'status="500"} 1.0' in metrics.render()


def test_bodies_over_the_limit_are_refused_by_their_length_and_by_their_bytes(
    tmp_path: Path, desk: Desk
) -> None:
    with alone(tmp_path, desk) as (client, _):
        told = client.post("/predict", content=b" " * 5_001)
        untold = client.post("/predict", content=iter([b" " * 3_000, b" " * 3_000]))
        lied = client.post("/predict", content=b"{}", headers={b"Content-Length": b"\xb2"})
    assert told.status_code == untold.status_code == 413
    assert told.json()["detail"] == (
        "Expected a body of at most 5,000 bytes, got 5,001 or more. Send less at a time, or raise "
        "TIMONEL_MAX_BODY."
    )
    assert lied.status_code == 422
