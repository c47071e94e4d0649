"""What MLflow says serves, read without MLflow."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from timonel.errors import StoreError
from timonel.stores.marks import Marks, watch

# As MLflow 3.17 makes them.
_TABLES = """
CREATE TABLE registered_model_aliases (alias TEXT, version INTEGER, name TEXT);
CREATE TABLE model_versions (
    name TEXT, version INTEGER, last_updated_time BIGINT, current_stage TEXT
);
INSERT INTO registered_model_aliases VALUES
    ('champion', 3, 'penguins_rf'), ('production', 2, 'penguins_rf'), ('best', 1, 'penguins_rf'),
    ('champion', 9, 'others');
INSERT INTO model_versions VALUES
    ('penguins_rf', 2, 100, 'Production'), ('penguins_rf', 1, 200, 'Production'),
    ('penguins_rf', 3, 300, 'Archived'), ('others', 9, 100, 'None');
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_TABLES)
    return path


def test_the_marks_of_a_file_are_read_and_the_last_changed_stage_counts(file: Path) -> None:
    found = watch(f"sqlite:///{file}", ["penguins_rf", "others", "nobody"])
    assert found == {
        "penguins_rf": Marks(champion=3, production=2, stage=1),
        "others": Marks(champion=9),
        "nobody": Marks(),
    }
    assert watch(f"sqlite:///{file}", []) == {}


def test_a_writer_in_the_middle_of_its_work_is_not_waited_for(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE registered_model_aliases SET version = 7")
        assert watch(f"sqlite:///{file}", ["others"]) == {"others": Marks(champion=9)}
        writer.execute("COMMIT")
        assert watch(f"sqlite:///{file}", ["others"]) == {"others": Marks(champion=7)}


def test_a_file_that_is_missing_or_no_database_of_mlflow_is_a_store_error(tmp_path: Path) -> None:
    missing = tmp_path / "none.db"
    with pytest.raises(StoreError, match=r"none\.db could not be read"):
        watch(f"sqlite:///{missing}", ["a"])
    assert not missing.exists()
    sqlite3.connect(tmp_path / "other.db").close()
    with pytest.raises(StoreError, match="no such table"):
        watch(f"sqlite:///{tmp_path / 'other.db'}", ["a"])
    with pytest.raises(StoreError, match="TIMONEL_REGISTRY"):
        watch("file:///tmp/mlruns", ["a"])


class Server(ThreadingHTTPServer):
    """Answers as MLflow's REST API does."""

    models: dict[str, Any] = {}  # noqa: RUF012 (each test's own server sets it)
    asked: list[str] = []  # noqa: RUF012
    status = 200


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.server.asked.append(self.headers.get("Authorization", ""))
        status = self.server.status
        body: dict[str, Any] = {}
        if status == 200 and parts.path.endswith("/registered-models/get"):
            model = self.server.models.get(query["name"])
            if model is None:
                status, body = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}
            else:
                body = {"registered_model": {"aliases": model["aliases"]}}
        elif status == 200:
            assert query["order_by"] == "last_updated_timestamp DESC"
            name = query["filter"].removeprefix("name = '").removesuffix("'")
            body = {"model_versions": self.server.models[name]["versions"]}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        server.models = {
            "penguins_rf": {
                "aliases": [{"alias": "champion", "version": "3"}, {"alias": "x", "version": "1"}],
                "versions": [
                    {"version": "3", "current_stage": "None"},
                    {"version": "2", "current_stage": "Production"},
                    {"version": "1", "current_stage": "Production"},
                ],
            },
            "bare": {"aliases": [], "versions": []},
        }
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_marks_of_a_server_are_asked_for(server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}/"
    found = watch(url, ["penguins_rf", "bare", "nobody"])
    assert found == {"penguins_rf": Marks(3, None, 2), "bare": Marks(), "nobody": Marks()}


def test_a_server_is_told_who_asks(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    watch(f"http://ana:secret@127.0.0.1:{server.server_port}", ["nobody"])
    assert server.asked == ["Basic YW5hOnNlY3JldA=="]
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abc")
    watch(f"http://127.0.0.1:{server.server_port}", ["nobody"])
    assert server.asked[1] == "Bearer abc"


def test_a_server_that_fails_or_is_gone_is_a_store_error_without_its_password(
    server: Server,
) -> None:
    url = f"http://ana:secret@127.0.0.1:{server.server_port}"
    server.status = 500
    with pytest.raises(StoreError, match=r"MLflow at 127\.0\.0\.1 did not answer"):
        watch(url, ["penguins_rf"])
    with pytest.raises(StoreError) as caught:
        watch("http://ana:secret@127.0.0.1:9", ["penguins_rf"], timeout=0.5)
    assert "secret" not in str(caught.value)


def test_watching_imports_no_mlflow() -> None:
    code = (
        "import sys; import timonel.stores.aliases, timonel.stores.marks\n"
        "print([m for m in ('mlflow', 'sklearn', 'pandas', 'polars') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
