"""A rollout's share of live requests: the same in every worker, growing, and never a failure."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from tests.homes import app_of, deploy, home_at
from timonel.journal.layout import scan
from timonel.journal.records import SHADOW, read
from timonel.journal.segments import adopt, export
from timonel.project import Project, load_project
from timonel.rollouts import BlueGreen, Canary, Rollout
from timonel.runtime import OnnxModel
from timonel.serving.routing import Routes, Served
from timonel.serving.shift import place_of
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.rollouts import Rollouts
from timonel.stores.segments import Segments

ROW = {"bill_length_mm": 20, "bill_depth_mm": 40, "flipper_length_mm": 200, "body_mass_g": 4000}


@given(st.uuids(), st.uuids(), st.floats(0, 1), st.floats(0, 1))
def test_a_growing_share_keeps_all_that_it_had(
    rollout: uuid.UUID, key: uuid.UUID, one: float, other: float
) -> None:
    place = place_of(str(rollout), key.bytes)
    assert 0 <= place < 1
    smaller, larger = sorted((one, other))
    if place < smaller:
        assert place < larger
    assert place == place_of(str(rollout), key.bytes)


def test_places_are_even_and_differ_from_rollout_to_rollout() -> None:
    keys = [uuid.UUID(int=n).bytes for n in range(20_000)]
    places = np.array([[place_of(name, key) for key in keys] for name in ("a", "b")])
    counts = np.histogram(places[0], bins=20, range=(0, 1))[0]
    assert abs(counts / len(keys) - 0.05).max() < 0.01
    assert abs(np.corrcoef(places)[0, 1]) < 0.03


def begin(settings: Settings, plan: Rollout, share: float, mirror: float = 0.0) -> None:
    database = Database.open(settings.database_url)
    Rollouts(database).start(
        "penguins",
        "rf",
        2,
        plan,
        id="r1",
        share=share,
        mirror=mirror,
        who="ana",
        reason="a test",
    )
    database.close()


@pytest.fixture
def project() -> Project:
    return load_project("penguins")


@pytest.fixture
def settings(tmp_path: Path, project: Project) -> Settings:
    settings = home_at(tmp_path)
    for number in (1, 2):
        deploy(project, settings, number=number, seed=number, champion=number == 1)
    return settings


@contextmanager
def served(settings: Settings, project: Project) -> Iterator[TestClient]:
    with TestClient(app_of([project], settings, at_root=True)) as client:
        # A champion is waited for, what stands beside it is not.
        deadline = time.monotonic() + 30
        while 'version="penguins/rf@2"' not in loaded(client) and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        yield client


def loaded(client: TestClient) -> str:
    """The metrics' lines on versions that are loaded."""
    lines = client.get("/metrics").text.splitlines()
    return "\n".join(line for line in lines if line.startswith("timonel_version"))


def journal(settings: Settings) -> pl.DataFrame:
    """All that the journal kept, exported."""
    database = Database.open(settings.database_url)
    objects, segments = ObjectStore.open(settings.objects_url), Segments(database)
    for path in adopt(settings.journal_folder):
        export(path, objects, segments, database)
    files = []
    for n, segment in enumerate(segments.list("penguins")):
        files.append(settings.root / f"{n}.parquet")
        objects.fetch(segment.object_key, files[-1])
    database.close()
    return scan(files).collect()


def written(settings: Settings) -> int:
    """The records in the journal's files."""
    return sum(len(list(read(path))) for path in settings.journal_folder.iterdir())


def asked(client: TestClient, count: int, **given: Any) -> list[tuple[str, str]]:
    """The id and version of each answer."""
    replies = [client.post("/predict", json=ROW, **given) for _ in range(count)]
    assert {reply.status_code for reply in replies} == {200}
    return [(r.headers["x-prediction-id"], r.headers["x-model-version"]) for r in replies]


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://127.0.0.1:3000"}])
def test_the_challenger_answers_its_share_by_the_prediction_id(
    settings: Settings, project: Project, headers: dict[str, str]
) -> None:
    begin(settings, Canary(), share=0.3)
    with served(settings, project) as client:
        answers = asked(client, 60, headers=headers)
    for identifier, version in answers:
        moved = place_of("r1", uuid.UUID(identifier).bytes) < 0.3
        assert version == f"penguins/rf@{2 if moved else 1}"
    assert len({version for _, version in answers}) == 2
    kept = journal(settings)
    assert sorted(kept.select("id", "version").rows()) == sorted(answers)
    assert kept["seconds"].min() > 0  # type: ignore[operator]


def test_a_caller_keeps_the_version_that_the_header_chose(
    settings: Settings, project: Project
) -> None:
    begin(settings, Canary(sticky="X-User"), share=0.5)
    with served(settings, project) as client:
        for name in ("ana", "berta", "carla", "dora", "eva"):
            versions = {version for _, version in asked(client, 4, headers={"X-User": name})}
            moved = place_of("r1", name.encode()) < 0.5
            assert versions == {f"penguins/rf@{2 if moved else 1}"}


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://127.0.0.1:3000"}])
def test_a_challenger_that_fails_is_replaced_and_written_down(
    settings: Settings, project: Project, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    begin(settings, Canary(), share=1.0)
    broken: list[OnnxModel] = []
    chosen: list[Served] = []
    route = Routes.answerer

    def answerer(self: Routes, project: str, model: str, key: bytes) -> Served:
        chosen.append(route(self, project, model, key))
        return chosen[-1]

    monkeypatch.setattr(Routes, "answerer", answerer)
    for name in ("run", "answer"):
        method = getattr(OnnxModel, name)

        def act(self: OnnxModel, *args: Any, method: Any = method) -> Any:
            if self in broken:
                raise MemoryError("no room")
            return method(self, *args)

        monkeypatch.setattr(OnnxModel, name, act)
    with served(settings, project) as client:
        assert {version for _, version in asked(client, 2, headers=headers)} == {"penguins/rf@2"}
        broken.append(chosen[-1].model)
        answers = asked(client, 5, headers=headers)
    assert {version for _, version in answers} == {"penguins/rf@1"}
    kept = journal(settings).filter(pl.col("id").is_in([identifier for identifier, _ in answers]))
    said = kept.group_by("version", "error").len().sort("version").rows()
    assert said == [("penguins/rf@1", None, 5), ("penguins/rf@2", "MemoryError: no room", 5)]


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://127.0.0.1:3000"}])
def test_mirrored_requests_are_asked_again_unseen(
    settings: Settings, project: Project, headers: dict[str, str]
) -> None:
    begin(settings, BlueGreen(), share=0.0, mirror=1.0)
    with served(settings, project) as client:
        answers = asked(client, 20, headers=headers)
        deadline = time.monotonic() + 20
        while written(settings) < 40 and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        metrics = client.get("/metrics").text
    assert {version for _, version in answers} == {"penguins/rf@1"}
    kept = journal(settings)
    shadows = kept.filter(pl.col("via") == SHADOW)
    assert sorted(shadows["id"]) == sorted(identifier for identifier, _ in answers)
    assert set(shadows["version"]) == {"penguins/rf@2"}
    assert len(kept) == 40
    assert 'timonel_predictions_total{version="penguins/rf@1"} 20.0' in metrics
