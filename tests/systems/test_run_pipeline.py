"""`PUT /run-pipeline` of titanic, asked of servers in processes of their own."""

import csv
import http.client
import io
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.homes import deploy_embedded, home_at
from tests.serving.processes import Server, Traffic, alive, serving, until
from timonel.project import load_project
from timonel.projects import titanic
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.runs import Run, Runs

TWO = [
    {"Age": 22.0, "Sex": "male", "Embarked": "S"},
    {"Age": 38.0, "Sex": "female", "Embarked": "C"},
]
Made = Callable[..., Settings]


@pytest.fixture
def made(tmp_path: Path, registry_template: Path) -> Made:
    """Makes a home with a champion, MLflow ready, and the generated passengers as the data."""

    def make(*, champion: bool = True) -> Settings:
        passengers = tmp_path / "data" / "titanic" / "train.csv"
        passengers.parent.mkdir(parents=True)
        shutil.copy(Path(titanic.__file__).with_name("titanic_generated.csv"), passengers)
        settings = home_at(tmp_path, data=tmp_path / "data", jobs=1)
        settings.root.mkdir(parents=True)
        for part in registry_template.parent.glob("mlflow.db*"):
            shutil.copy(part, settings.root / part.name)
        if champion:
            # MLflow has not heard of it, and numbers its own versions from 1.
            deploy_embedded(load_project("titanic"), settings, number=0)
        return settings

    return make


def ask(
    server: Server,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any, dict[str, str]]:
    """Status, content and headers of a reply that may take as long as a run does."""
    where = urlsplit(server.address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, dict(headers or {}))
        reply = connection.getresponse()
        given = {name.lower(): value for name, value in reply.getheaders()}
        return reply.status, json.loads(reply.read()), given
    finally:
        connection.close()


def answering(server: Server, times: int = 40) -> set[str]:
    """The versions that answer when asked over so many new connections."""
    replies = [ask(server, "POST", "/predict", TWO) for _ in range(times)]
    assert {(status, json.dumps(body)) for status, body, _ in replies} == {
        (200, '{"predictions": [0, 1]}')
    }
    return {headers["x-model-version"] for _, _, headers in replies}


def active(settings: Settings) -> Run | None:
    """The run that goes on."""
    return Runs(Database.open(settings.database_url)).active("titanic")


def watched(server: Server, path: str) -> list[dict[str, Any]]:
    """What is seen of a run until it ends; every look at it must find it."""
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["status"] == "running":
        time.sleep(0.05)
        status, body, _ = ask(server, "GET", path)
        assert status == 200, body
        seen.append(body)
    return seen


@contextmanager
def held(settings: Settings) -> Iterator[Run]:
    """The run that the server has begun, stopped in the middle for as long as this lasts."""
    until(lambda: active(settings) is not None)
    run = active(settings)
    assert run is not None
    os.kill(run.pid, signal.SIGSTOP)
    try:
        yield run
    finally:
        os.kill(run.pid, signal.SIGCONT)


@contextmanager
def read_out(server: Server) -> Iterator[None]:
    """Reads what the server prints, which would hold it up once nobody does."""

    def read() -> None:
        with suppress(ValueError):
            for _ in server.process.stdout or ():
                pass

    threading.Thread(target=read, daemon=True).start()
    yield


def refusing(settings: Settings) -> None:
    """Data from which nothing can be learnt that would pass the gate: every other one survives."""
    path = (settings.data or Path()) / "titanic" / "train.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    with path.open("w", newline="") as target:
        writer = csv.DictWriter(target, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"Survived": place % 2} for place, row in enumerate(rows))


def test_a_completed_pipeline_serves_everywhere_and_no_prediction_failed_meanwhile(
    made: Made,
) -> None:
    settings = made()
    with serving(["titanic"], settings) as server:
        assert answering(server, 5) == {"titanic/lr@0"}
        with Traffic(server, row=TWO, pause=0.01) as traffic:
            status, body, headers = ask(server, "PUT", "/run-pipeline")
            assert (status, body) == (200, {"msg": "Completed pipeline."}), (body, server.said())
            assert answering(server) == {"titanic/lr@1"}
        assert (traffic.refused, traffic.broken) == ([], 0)
        assert traffic.versions == {"titanic/lr@0", "titanic/lr@1"}
        assert ask(server, "GET", f"/api/projects/titanic/runs/{headers['x-run-id']}")[0] == 200


def test_while_a_run_is_held_open_every_other_is_refused_with_its_name_and_all_is_answered(
    made: Made,
) -> None:
    settings = made()
    with serving(["titanic"], settings) as server, ThreadPoolExecutor(100) as pool:
        status, begun, _ = ask(server, "POST", "/api/projects/titanic/runs")
        assert (status, begun["status"]) == (202, "running"), (begun, server.said())
        with held(settings) as run, Traffic(server, row=TWO, pause=0.01) as traffic:
            assert run.id == begun["run"]
            asked = pool.map(lambda _: ask(server, "PUT", "/run-pipeline"), range(100), timeout=60)
            others = [*asked, ask(server, "POST", "/api/projects/titanic/runs")]
            assert {status for status, _, _ in others} == {409}
            assert all(run.id in body["detail"] for _, body, _ in others)
        assert (traffic.refused, traffic.broken) == ([], 0)
        assert traffic.versions == {"titanic/lr@0"}
        *_, last = watched(server, begun["watch"])
        assert last["status"] == "succeeded", last
        assert "titanic/lr@1 is champion" in last["note"]
        until(lambda: answering(server, 10) == {"titanic/lr@1"})


def test_a_run_of_another_process_is_named_to_all_who_ask_at_once(made: Made) -> None:
    settings = made()
    Runs(Database.open(settings.database_url)).start(
        "titanic",
        run_id="run-of-another",
        who="somebody",
        pid=os.getpid(),
        host=socket.gethostname(),
        parameters={},
    )
    with serving(["titanic"], settings) as server, ThreadPoolExecutor(100) as pool:
        asked = pool.map(lambda _: ask(server, "PUT", "/run-pipeline/"), range(100), timeout=60)
        replies = list(asked)
        assert answering(server, 5) == {"titanic/lr@0"}
    assert {status for status, _, _ in replies} == {409}
    assert all("run-of-another" in body["detail"] for _, body, _ in replies)


def test_who_prefers_not_to_wait_can_watch_the_run_from_its_first_moment_to_its_end(
    made: Made,
) -> None:
    settings = made(champion=False)
    with serving(["titanic"], settings) as server:
        assert ask(server, "POST", "/predict", TWO)[0] == 503
        prefers = {"Prefer": "wait=1, Respond-Async"}
        status, begun, headers = ask(server, "PUT", "/run-pipeline", headers=prefers)
        assert (status, begun["status"]) == (202, "running"), (begun, server.said())
        assert headers["location"] == begun["watch"]
        assert headers["preference-applied"] == "respond-async"
        first = ask(server, "GET", begun["watch"])
        assert (first[0], first[1]["status"]) == (200, "running")
        run = active(settings)
        assert run is not None
        os.kill(run.pid, signal.SIGTERM)
        *_, last = watched(server, begun["watch"])
        assert (last["run"], last["status"]) == (run.id, "stopped")
        assert ask(server, "POST", "/predict", TWO)[0] == 503


def test_a_version_that_the_gate_refuses_is_answered_with_its_sentence_and_kept_out(
    made: Made,
) -> None:
    settings = made()
    refusing(settings)
    with serving(["titanic"], settings) as server:
        status, body, headers = ask(server, "PUT", "/run-pipeline")
        assert status == 409, (body, server.said())
        assert body["detail"].startswith("titanic/lr@1 is refused: ")
        assert "below the floor of 0.7" in body["detail"]
        assert answering(server) == {"titanic/lr@0"}
        (seen,) = watched(server, f"/api/projects/titanic/runs/{headers['x-run-id']}")[-1:]
        assert (seen["status"], seen["note"]) == ("refused", body["detail"])


def test_who_waits_for_a_run_is_answered_when_it_is_killed_or_the_server_stops(made: Made) -> None:
    settings = made()
    with serving(["titanic"], settings) as server, ThreadPoolExecutor(1) as pool:
        killed = pool.submit(ask, server, "PUT", "/run-pipeline")
        with held(settings) as run:
            os.kill(run.pid, signal.SIGKILL)
        status, body, _ = killed.result(30)
        assert (status, run.id in body["detail"]) == (500, True), body
        assert answering(server, 5) == {"titanic/lr@0"}

        def another() -> bool:
            now = active(settings)
            return now is not None and now.id != run.id

        stopped = pool.submit(ask, server, "PUT", "/run-pipeline")
        until(another)
        last = active(settings)
        assert last is not None
        assert server.stop() == 0
        status, body, _ = stopped.result(30)
        assert (status, last.id in body["detail"]) == (500, True), body
        assert not alive(last.pid)
        assert active(settings) is None


@pytest.mark.soak
def test_twenty_runs_in_a_row_each_end_in_a_new_champion_or_a_clear_sentence(made: Made) -> None:
    settings = made()
    with serving(["titanic"], settings) as server, read_out(server):
        (serves,) = answering(server, 5)
        with Traffic(server, row=TWO, pause=0.01) as traffic:
            for _ in range(20):
                status, body, _ = ask(server, "PUT", "/run-pipeline")
                (after,) = answering(server)
                if status == 200:
                    assert body == {"msg": "Completed pipeline."}
                    assert after != serves
                else:
                    assert (status, after) == (409, serves), body
                    assert "is refused: " in body["detail"]
                serves = after
        assert (traffic.refused, traffic.broken) == ([], 0)
