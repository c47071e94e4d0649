"""Each check of the doctor says what is there, what is wrong, and what to do about it."""

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from timonel import doctor
from timonel.doctor import Finding, examine
from timonel.settings import Settings
from timonel.stores.database import Database


def settings(home: Path, **given: Any) -> Settings:
    return Settings(home=home, **{"port": 0, **given})


def found(name: str, given: Settings, **arguments: Any) -> Finding:
    return {finding.name: finding for finding in examine(given, **arguments)}[name]


def test_an_empty_home_is_well_and_stays_empty(tmp_path: Path) -> None:
    findings = examine(settings(tmp_path / "home"))
    assert [finding.name for finding in findings] == [
        "python", "packages", "clock", "home", "database", "objects", "registry", "data", "port"
    ]  # fmt: skip
    assert {finding.status for finding in findings} <= {"ok", "warning"}
    assert list(tmp_path.iterdir()) == []


def test_everything_that_is_not_ok_comes_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = settings(
        tmp_path / "file",
        database="nonsense",
        objects="ftp://x",
        registry="http://127.0.0.1:1",
        data=tmp_path / "absent",
    )
    findings = examine(wrong, clock=lambda: 0.0)
    wanted = {"clock", "home", "database", "objects", "registry", "data"}
    assert {finding.name for finding in findings if finding.status == "problem"} >= wanted
    assert all(finding.remedy for finding in findings if finding.status != "ok")


def test_an_old_python_is_a_problem() -> None:
    assert doctor._python((3, 10, 4)).status == "problem"
    assert doctor._python((3, 14, 0)).status == "ok"


class Distributions(NamedTuple):
    """What is installed: names with versions; `timonel` needs scikit-learn and joblib to train."""

    installed: dict[str, str]

    def version(self, name: str) -> str:
        if name not in self.installed:
            raise PackageNotFoundError(name)
        return self.installed[name]

    def requires(self, name: str) -> list[str]:
        self.version(name)
        return [
            "numpy>=2",
            'scikit-learn>=1.9 ; extra == "train"',
            "joblib; extra == 'train'",
            'torch>=2 ; extra == "torch"',
        ]


@pytest.mark.parametrize(
    ("installed", "status", "words"),
    [
        (["timonel", "scikit-learn", "joblib"], "ok", "scikit-learn 1.0, joblib 1.0"),
        (["timonel", "joblib"], "warning", "not installed: scikit-learn."),
        ([], "warning", "timonel is not installed"),
    ],
)
def test_packages_for_training_are_told_with_versions_or_as_missing(
    monkeypatch: pytest.MonkeyPatch, installed: list[str], status: str, words: str
) -> None:
    distributions = Distributions(dict.fromkeys(installed, "1.0"))
    monkeypatch.setattr("importlib.metadata.version", distributions.version)
    monkeypatch.setattr("importlib.metadata.requires", distributions.requires)
    finding = doctor._packages()
    assert (finding.status, words in finding.sentence) == (status, True)


def test_a_clock_before_this_release_is_a_problem(tmp_path: Path) -> None:
    finding = found("clock", settings(tmp_path), clock=lambda: 1_000_000_000.0)
    assert finding.status == "problem"
    assert "2001-09-09 01:46:40 UTC" in finding.sentence


@pytest.mark.parametrize(("free", "status"), [(10**10, "ok"), (10**9, "warning"), (9, "problem")])
def test_little_space_warns_and_none_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(free))
    assert found("home", settings(tmp_path)).status == status


def test_a_home_that_cannot_be_written_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    finding = found("home", settings(tmp_path / "home"))
    assert finding.status == "problem"
    assert str(tmp_path) in finding.sentence


def test_the_database_answers_with_its_revision(tmp_path: Path) -> None:
    given = settings(tmp_path)
    Database.open(given.database_url).close()
    finding = found("database", given)
    assert finding.status == "ok"
    assert "revision r0" in finding.sentence


def test_tables_of_no_revision_and_files_that_are_none_are_problems(tmp_path: Path) -> None:
    given = settings(tmp_path)
    for content in (b"", b"this is no database at all" * 100):
        (tmp_path / "timonel.db").write_bytes(content)
        finding = found("database", given)
        assert finding.status == "problem"
        assert finding.remedy
        assert (tmp_path / "timonel.db").read_bytes() == content


@contextmanager
def locking(path: Path) -> Iterator[None]:
    """Hold the write lock of a database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def test_a_lock_that_another_holds_is_told_with_how_to_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE", 0.05)
    given = settings(tmp_path)
    Database.open(given.database_url).close()
    with locking(tmp_path / "timonel.db"):
        finding = found("database", given)
    assert finding.status == "problem"
    assert finding.remedy is not None
    assert f"fuser -v {tmp_path / 'timonel.db'}" in finding.remedy


def test_the_object_store_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "mine").write_bytes(b"mine")
    assert found("objects", settings(tmp_path)).status == "ok"
    assert [path.name for path in folder.iterdir()] == ["mine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_objects_that_cannot_be_written_are_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    folder.mkdir(mode=0o500)
    assert found("objects", settings(tmp_path)).status == "problem"


def test_a_store_that_gives_back_other_bytes_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "objects").mkdir()
    monkeypatch.setattr("timonel.stores.objects.ObjectStore.get", lambda store, key: b"other")
    assert "other bytes" in found("objects", settings(tmp_path)).sentence


def test_the_registry_file_is_looked_at_without_importing_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE", 0.05)
    given = settings(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE versions (name TEXT)")
        connection.commit()
    assert found("registry", given).status == "ok"
    with locking(tmp_path / "mlflow.db"):
        held = found("registry", given)
    assert (held.status, "fuser" in (held.remedy or "")) == ("problem", True)
    (tmp_path / "mlflow.db").write_bytes(b"this is no database at all" * 100)
    assert found("registry", given).status == "problem"


def test_serving_without_mlflow_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    finding = found("registry", settings(tmp_path))
    assert (finding.status, "timonel[train]" in (finding.remedy or "")) == ("warning", True)


@contextmanager
def answering(status: int, body: bytes = b"OK") -> Iterator[int]:
    """A web server on loopback that gives every GET this answer; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "expected"), [(200, "ok"), (500, "problem")])
def test_a_registry_server_is_asked_for_its_health(
    tmp_path: Path, status: int, expected: str
) -> None:
    with answering(status) as port:
        given = settings(tmp_path, registry=f"http://user:secret@127.0.0.1:{port}/")
        finding = found("registry", given)
    assert finding.status == expected
    assert "secret" not in finding.sentence + (finding.remedy or "")


def test_a_registry_server_that_says_nothing_costs_no_long_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        finding = found("registry", settings(tmp_path, registry=address))
    assert (finding.status, "no answer" in finding.sentence) == ("problem", True)
    assert found("registry", settings(tmp_path, registry="http://x:port/")).status == "problem"
    assert found("registry", settings(tmp_path, registry="databricks")).status == "ok"


def test_the_data_folder_must_be_there_when_it_is_named(tmp_path: Path) -> None:
    assert found("data", settings(tmp_path, data=tmp_path)).status == "ok"
    assert found("data", settings(tmp_path, data=tmp_path / "absent")).status == "problem"


def test_a_port_may_be_free_ours_or_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE", 0.2)
    assert found("port", settings(tmp_path)).status == "ok"
    with answering(200, b'{"status":"ok"}') as port:
        assert "Timonel answers" in found("port", settings(tmp_path, port=port)).sentence
    for body in (b"[]", b"hello"):
        with answering(200, body) as port:
            assert found("port", settings(tmp_path, port=port)).status == "problem"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = settings(tmp_path, port=other.getsockname()[1])
        assert found("port", taken).status == "problem"
