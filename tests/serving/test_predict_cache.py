"""A request's walk by way of the answers cache: what is given again, and what is each one's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.homes import app_of, deploy_digits, home_at
from tests.redises import closed_port, redis_at
from tests.serving.bad_inputs import png
from tests.serving.boats import FEMALE, MALE, boat, launch
from tests.serving.test_predict import Desk
from timonel.policies import Cache
from timonel.project import Project, load_project
from timonel.serving import worker
from timonel.settings import Settings
from timonel.stores.answers import MemoryAnswers, RedisAnswers


@contextmanager
def sailing(
    settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[TestClient, Desk]]:
    """A client of a project at the root, whose journal is a desk."""
    desk = Desk()
    # A machine that is busy must not look like a Redis that hangs.
    monkeypatch.setattr(worker, "RedisAnswers", partial(RedisAnswers, patience=20.0))
    monkeypatch.setattr(worker, "JournalRecorder", lambda journal, environment: desk)
    with TestClient(app_of([project], settings, at_root=True)) as client:
        yield client, desk


def cached_boat(count: int = 1, **contract: Any) -> Project:
    return replace(boat(count, **contract), cache=Cache())


def outcome(client: TestClient, body: Any, path: str = "/predict") -> str:
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.headers["x-cache"]


def test_a_cached_answer_is_the_same_with_an_id_and_a_record_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, project = home_at(tmp_path), cached_boat()
    launch(project, settings)
    with sailing(settings, project, monkeypatch) as (client, desk):
        replies = [client.post("/predict", json=FEMALE) for _ in range(2)]
        metrics = client.get("/metrics").text
    assert [reply.headers["x-cache"] for reply in replies] == ["miss", "hit"]
    first, second = (reply.json() for reply in replies)
    assert first.pop("id") != second.pop("id")
    assert first == second
    for reply, entry in zip(replies, desk.entries, strict=True):
        assert reply.headers["x-prediction-id"] == reply.json()["id"]
        assert entry.id.hex() == reply.json()["id"].replace("-", "")
        assert [row[1] for row in entry.rows] == ["female"]
    for one, other in zip(*(entry.answers for entry in desk.entries), strict=True):
        assert one[0] == other[0]
        assert list(one[1]) == list(other[1]) == [1]
        assert np.array_equal(one[2], other[2])
    assert 'timonel_cache_total{outcome="hit",project="boat"} 1.0' in metrics
    assert 'timonel_cache_total{outcome="miss",project="boat"} 1.0' in metrics
    assert 'timonel_predictions_total{version="boat/m1@1"} 2.0' in metrics


def test_one_row_and_a_list_of_it_are_equal_and_each_has_its_form_of_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, project = home_at(tmp_path), cached_boat()
    launch(project, settings)
    with sailing(settings, project, monkeypatch) as (client, _):
        assert outcome(client, MALE) == "miss"
        listed = client.post("/predict", json=[MALE | {"age": 22}])
        assert listed.headers["x-cache"] == "hit"
        assert [row["prediction"] for row in listed.json()["predictions"]] == ["drowned"]
        assert outcome(client, [MALE, FEMALE]) == "miss"
        assert outcome(client, [FEMALE, MALE]) == "miss"
        several = client.post("/predict", json=[MALE, FEMALE])
        assert several.headers["x-cache"] == "hit"
        assert [p["prediction"] for p in several.json()["predictions"]] == ["drowned", "saved"]
        assert client.post("/predict", json=[]).json()["predictions"] == []
        assert "x-cache" not in client.post("/predict", json={"sex": 1}).headers


def test_with_several_models_it_is_a_hit_when_none_had_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, project = home_at(tmp_path), cached_boat(2, models="all")
    launch(project, settings)
    with sailing(settings, project, monkeypatch) as (client, _):
        assert outcome(client, MALE, "/predict?model=m1") == "miss"
        assert outcome(client, MALE) == "miss"
        assert outcome(client, MALE) == "hit"
        assert outcome(client, MALE, "/predict?model=m2") == "hit"


def test_a_project_without_a_cache_says_nothing_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, project = home_at(tmp_path, answers="redis://127.0.0.1:1"), boat()
    launch(project, settings)
    with sailing(settings, project, monkeypatch) as (client, _):
        assert "x-cache" not in client.post("/predict", json=MALE).headers
        assert client.get("/health").json() == {"status": "ok"}
        assert "timonel_cache_total{" not in client.get("/metrics").text


def test_a_picture_is_the_same_in_either_wire_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home_at(tmp_path)
    project = replace(load_project("digits"), cache=Cache())
    deploy_digits(settings)
    with sailing(settings, project, monkeypatch) as (client, desk):
        form = {"files": {"image": ("a.png", png())}, "data": {"model": "cnn"}}
        uploads = [client.post("/predict", **form) for _ in range(2)]  # type: ignore[arg-type]
        assert [reply.headers["x-cache"] for reply in uploads] == ["miss", "hit"]
        ((kept,),) = desk.entries[0].rows
        assert isinstance(kept, bytes)
        pixels = [float(value) for value in kept]
        assert outcome(client, {"pixels": pixels}) == "hit"
        assert outcome(client, np.reshape(pixels, (28, 28)).tolist()) == "hit"
        assert outcome(client, {"pixels": [255 - value for value in pixels]}) == "miss"


def test_a_new_champion_never_gives_an_old_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, project = home_at(tmp_path), cached_boat()
    launch(project, settings)
    with redis_at(tmp_path) as server:
        shared = settings.model_copy(update={"answers": server.url})
        with sailing(shared, project, monkeypatch) as (client, _):
            assert [outcome(client, MALE) for _ in range(2)] == ["miss", "hit"]
        # Another home, whose first version has the same name and other files.
        elsewhere = home_at(tmp_path / "other", answers=server.url)
        launch(project, elsewhere, women_saved=False)
        with sailing(elsewhere, project, monkeypatch) as (client, _):
            reply = client.post("/predict", json=MALE)
            assert (reply.headers["x-cache"], reply.json()["prediction"]) == ("miss", "saved")
        launch(project, settings, number=2, women_saved=False)
        with sailing(shared, project, monkeypatch) as (client, _):
            reply = client.post("/predict", json=MALE)
            assert reply.headers["x-model-version"] == "boat/m1@2"
            assert (reply.headers["x-cache"], reply.json()["prediction"]) == ("miss", "saved")


def test_workers_share_a_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = cached_boat()
    with redis_at(tmp_path) as server:
        settings = home_at(tmp_path, answers=server.url)
        launch(project, settings)
        for expected in ("miss", "hit"):
            with sailing(settings, project, monkeypatch) as (client, _):
                assert outcome(client, MALE) == expected
                assert client.get("/health").json() == {"status": "ok"}


def test_a_dead_cache_is_no_error_and_health_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = closed_port()
    settings, project = (
        home_at(tmp_path, answers=f"redis://:secret@127.0.0.1:{port}"),
        cached_boat(),
    )
    launch(project, settings)
    with sailing(settings, project, monkeypatch) as (client, desk):
        assert [outcome(client, MALE) for _ in range(3)] == ["miss"] * 3
        health = client.get("/health")
    assert len(desk.entries) == 3
    assert health.status_code == 200
    (sentence,) = health.json()["degraded"]
    assert sentence.startswith(f"The answers cache at 127.0.0.1:{port} does not work")
    assert "secret" not in health.text


def test_an_answer_is_given_again_until_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(worker, "MemoryAnswers", partial(MemoryAnswers, clock=lambda: now[0]))
    settings, project = home_at(tmp_path), replace(boat(), cache=Cache(ttl=10, most=1))
    launch(project, settings)
    with sailing(settings, project, monkeypatch) as (client, _):
        assert outcome(client, MALE) == "miss"
        now[0] = 9.9
        assert outcome(client, MALE) == "hit"
        now[0] = 10.0
        assert outcome(client, MALE) == "miss"
        assert outcome(client, FEMALE) == "miss"
        assert outcome(client, MALE) == "miss"  # the most is one
