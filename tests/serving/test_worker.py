"""A worker is small: what training needs is neither loaded nor wanted."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.homes import app_of, deploy, home_at
from tests.serving.bad_inputs import png
from tests.serving.processes import ROW, alive, serving, until
from timonel.project import load_project
from timonel.serving.channel import Link, SupervisorEnd
from timonel.serving.state import State, write_state
from timonel.serving.worker import worker_app
from timonel.settings import Settings

HEAVY = ["alembic", "mlflow", "pandas", "polars", "scipy", "sklearn", "sqlalchemy", "torch"]

ANSWER = """
import asyncio, json, sys
from timonel.project import load_project
from timonel.serving.worker import worker_app
from timonel.settings import Settings

app = worker_app([load_project("digits"), load_project("penguins")], Settings(), at_root=False)
requests = json.load(sys.stdin)

async def ask(path, headers, body):
    sent = []
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": path,
             "raw_path": path.encode(), "root_path": "", "query_string": b"", "scheme": "http",
             "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1)}
    await app(scope, receive, send)
    return [sent[0]["status"], sent[1]["body"].decode()]

async def main():
    async with app.router.lifespan_context(app):
        return [await ask(p, h, bytes.fromhex(b)) for p, h, b in requests]

replies = asyncio.run(main())
print(json.dumps([replies, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def form() -> tuple[bytes, str]:
    head = b'--e\r\nContent-Disposition: form-data; name="model"\r\n\r\nclf.pickle\r\n--e\r\n'
    head += b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    return head + png() + b"\r\n--e--\r\n", "multipart/form-data; boundary=e"


def test_a_worker_that_has_answered_rows_and_pictures_has_loaded_nothing_heavy(
    home: Settings,
) -> None:
    app_of([load_project("digits"), load_project("penguins")], home)
    body, kind = form()
    requests = [
        ("/penguins/predict", {"content-type": "application/json"}, json.dumps(ROW).encode().hex()),
        ("/digits/predict", {"content-type": kind}, body.hex()),
        ("/digits/predict", {}, b"[1]".hex()),
    ]
    ended = subprocess.run(
        [sys.executable, "-c", ANSWER],
        input=json.dumps(requests),
        env=os.environ | home.environment_variables(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    replies, modules = json.loads(ended.stdout)
    assert replies[0] == [200, '{"prediction":[0]}']
    assert replies[1][0] == 200
    assert '"prediction":' in replies[1][1]
    assert replies[2][0] == 400
    assert {"onnxruntime", "PIL", "timonel"} <= set(modules)
    assert not set(HEAVY) & set(modules)


# The supervisor exports with Polars and asks the database; nobody needs the rest.
BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}: taken away by a test", name=name)
        return None

BLOCKED = {"lightgbm", "mlflow", "onnx", "optuna", "pandas", "pyarrow", "scipy", "skl2onnx",
           "sklearn", "skops", "torch"}
if "timonel.serving.worker" in sys.orig_argv:
    BLOCKED |= {"alembic", "polars", "sqlalchemy"}
sys.meta_path.insert(0, Absent())
"""


def test_a_server_serves_where_only_the_serving_packages_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home_at(tmp_path, journal_rotate_seconds=0.5)
    deploy(load_project("penguins"), settings)
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    gone = subprocess.run(
        [sys.executable, "-c", "import sklearn"], capture_output=True, text=True, check=False
    )
    assert "taken away by a test" in gone.stderr
    with serving(["penguins"], settings, workers=1) as server:
        status, body, headers = server.predict()
        assert (status, body) == (200, b'{"prediction":[0]}')
        workers = server.children()
        assert server.stop() == 0
        assert not any(alive(worker) for worker in workers)
    assert server.said() == ""
    monkeypatch.undo()
    from tests.serving.processes import journaled

    assert journaled(settings) == [headers["x-prediction-id"]]


def test_a_worker_follows_the_state_while_it_answers(tmp_path: Path) -> None:
    settings, penguins = home_at(tmp_path), load_project("penguins")
    deploy(penguins, settings)
    app = app_of([penguins], settings, at_root=True)
    with TestClient(app) as client:
        assert client.post("/predict", json=ROW).headers["x-model-version"] == "penguins/rf@1"
        deploy(penguins, settings, number=2, seed=2)
        app_of([penguins], settings)
        until(
            lambda: client.post("/predict", json=ROW).headers["x-model-version"] == "penguins/rf@2"
        )
        write_state(settings.serving_folder, State())
        until(lambda: client.post("/predict", json=ROW).status_code == 503)


def test_a_worker_says_when_it_is_ready_and_what_it_serves(tmp_path: Path) -> None:
    settings, penguins = home_at(tmp_path), load_project("penguins")
    deploy(penguins, settings)
    app_of([penguins], settings)  # writes the state
    mine, theirs = socket.socketpair()
    end = SupervisorEnd(mine, lambda ask, reply: None)
    app = worker_app([penguins], settings, at_root=True, link=Link(theirs))
    with TestClient(app):
        assert end.ready.wait(10)
        until(lambda: end.serves.labels == ("penguins/rf@1",))
    end.close()


def test_what_is_answered_stands_in_the_journal_when_the_worker_ends(tmp_path: Path) -> None:
    settings, penguins = home_at(tmp_path), load_project("penguins")
    deploy(penguins, settings)
    with TestClient(app_of([penguins], settings, at_root=True)) as client:
        for _ in range(3):
            client.post("/predict", json=ROW)
        (file,) = settings.journal_folder.iterdir()
        assert file.suffix == ".open"
    (file,) = settings.journal_folder.iterdir()
    assert file.suffix == ".closed"
    from timonel.journal.records import read

    assert len(list(read(file))) == 3
