"""The server as a user runs it: processes, signals, and what happens when parts of it die."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.homes import deploy, deploy_digits, digit_rows, home_at
from tests.serving.bad_inputs import BODIES, FORMS, PENGUINS, RAW, REQUESTS
from tests.serving.processes import (
    ROW,
    Server,
    Traffic,
    alive,
    connect,
    journaled,
    serving,
    until,
)
from timonel.errors import TimonelError
from timonel.project import load_project
from timonel.serving.supervisor import Supervisor
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.versions import Versions


@pytest.fixture
def penguins(tmp_path: Path) -> Settings:
    """A home with a champion for penguins."""
    settings = home_at(tmp_path, journal_rotate_seconds=0.5)
    deploy(load_project("penguins"), settings)
    return settings


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Both projects, served by two workers for all of these tests."""
    settings = home_at(tmp_path_factory.mktemp("both"), journal_rotate_seconds=0.5)
    deploy(load_project("penguins"), settings)
    deploy_digits(settings)
    deploy_digits(settings, model="clf")
    with serving(["digits", "penguins"], settings) as server:
        yield server


PENGUINS_PATH = "/penguins/predict"


def test_it_says_where_it_serves_and_what_is_being_asked_when_it_ends_is_answered(
    penguins: Settings,
) -> None:
    command = [sys.executable, "-m", "timonel", "serve", "penguins", "--port", "0"]
    body = json.dumps(ROW).encode()
    with subprocess.Popen(
        [*command, "--workers", "1"],
        env=os.environ | penguins.environment_variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        found = re.fullmatch(r"Serving http://127\.0\.0\.1:(\d+)/predict\n", said)
        assert found, said
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=20) as client:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body[:10])
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)  # as Ctrl-C does
            time.sleep(0.5)
            client.sendall(body[10:])
            reply = http.client.HTTPResponse(client)
            reply.begin()
            assert (reply.status, reply.read()) == (200, b'{"prediction":[0]}')
            identifier = reply.headers["X-Prediction-Id"]
        rest, errors = process.stdout.read(), process.stderr.read()
        assert process.wait(20) == 0
    assert rest.endswith("Ctrl-C stops.\nStopped.\n")
    assert errors == ""
    assert journaled(penguins) == [identifier]


def test_a_taken_port_is_a_sentence_and_an_exit_code_of_its_own(penguins: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "timonel", "serve", "penguins", "--port", str(port)],
            env=os.environ | penguins.environment_variables(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 8
    assert f"Expected to listen on 127.0.0.1:{port}, got: Address already in use." in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_orphaned_workers_end_and_the_next_start_adopts_what_they_left(
    penguins: Settings,
) -> None:
    with serving(["penguins"], penguins) as server:
        with Traffic(server) as traffic:
            until(lambda: len(traffic.acknowledged) > 20)
            workers = server.children()
            server.process.kill()
            until(lambda: not any(alive(pid) for pid in workers), 15)
        server.process.wait()
    left = list(penguins.serving_folder.glob("metrics-*"))
    assert left
    (folder,) = [path for path in penguins.serving_folder.iterdir() if len(path.name) == 64]
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-1] + b"?")
    with serving(["penguins"], penguins, workers=1) as server:
        assert server.send("POST", "/predict", json.dumps(ROW).encode())[0] == 200
        assert server.stop() == 0
    assert (folder / "model.onnx").read_bytes() == content
    assert {identifier for identifier, _ in traffic.acknowledged} <= set(journaled(penguins))
    assert not any(folder.exists() for folder in left)


def test_killed_workers_are_replaced_and_nothing_acknowledged_is_lost(both: Server) -> None:
    with Traffic(both, PENGUINS_PATH) as traffic:
        until(lambda: len(traffic.acknowledged) > 50)
        before, pipes = both.children(), _pipes(both.process.pid)
        for victim in before:
            os.kill(victim, signal.SIGKILL)
        until(lambda: len(both.started()) == 2)
    assert not set(before) & set(both.children())
    assert _pipes(both.process.pid) == pipes
    assert traffic.refused == []
    _all_are_journaled(both, traffic)
    kept = journaled(both.settings)
    assert len(kept) == len(set(kept))


def test_every_worker_follows_a_new_champion_and_no_request_fails(both: Server) -> None:
    with Traffic(both, PENGUINS_PATH, clients=4) as traffic:
        until(lambda: len(traffic.acknowledged) > 50)
        workers = both.children()
        for number in (2, 3):
            label = f"penguins/rf@{number}"
            deploy(load_project("penguins"), both.settings, number=number, seed=number)
            # Each connection may meet another worker: all of many show that both followed.
            until(lambda label=label: _versions(both) == {label})  # type: ignore[misc]
        assert both.children() == workers
    assert {"penguins/rf@2", "penguins/rf@3"} <= traffic.versions
    assert traffic.refused == []
    assert traffic.broken == 0


def test_a_serving_copy_that_is_changed_or_lost_is_fetched_anew(both: Server) -> None:
    champion = Versions(Database.open(both.settings.database_url)).champion("penguins", "rf")
    assert champion is not None
    folder = both.settings.serving_folder / champion.digest
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(b"no model")
    until(lambda: _content(folder) == content)
    shutil.rmtree(folder)
    until(lambda: _content(folder) == content)
    until(lambda: _is_well(both))


def test_answers_go_on_without_the_database_and_health_says_so(both: Server) -> None:
    database = both.settings.root / "timonel.db"
    kept = database.with_suffix(".kept")
    with Traffic(both, PENGUINS_PATH, clients=2) as traffic:
        database.rename(kept)
        try:
            until(lambda: f"Expected the database at {database}, got no such file." in _said(both))
            os.kill(both.children()[0], signal.SIGKILL)  # also a new worker starts without it
            until(lambda: len(both.started()) == 2)
        finally:
            kept.rename(database)
        until(lambda: _is_well(both))
    assert traffic.refused == []
    _all_are_journaled(both, traffic)


def test_answers_go_on_while_the_database_is_locked_and_health_says_so(both: Server) -> None:
    holder = sqlite3.connect(both.settings.root / "timonel.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with Traffic(both, PENGUINS_PATH, clients=1) as traffic:
        until(lambda: "The journal waits to be exported" in _said(both))
    holder.rollback()
    holder.close()
    until(lambda: _is_well(both))
    assert (traffic.refused, traffic.broken) == ([], 0)
    _all_are_journaled(both, traffic)


def test_metrics_are_summed_over_the_workers_and_survive_one(both: Server) -> None:
    before = _counted(both)
    for _ in range(40):
        assert both.predict(PENGUINS_PATH)[0] == 200
    until(lambda: _counted(both) == before + 40)  # each worker writes its counts every second
    os.kill(both.children()[0], signal.SIGKILL)
    until(lambda: len(both.started()) == 2)
    assert {_counted(both) for _ in range(10)} == {before + 40}


def test_bad_input_leaves_no_traceback_and_a_server_that_answers(both: Server) -> None:
    for bad in BODIES:
        status, body, _ = both.send("POST", "/digits/predict", bad.body, bad.kind)
        assert status in bad.statuses, (bad.name, status, body[:300])
    for bad in PENGUINS:
        assert both.send("POST", PENGUINS_PATH, bad.body)[0] in bad.statuses, bad.name
    for form in FORMS:
        body, kind = form.encoded()
        assert both.send("POST", "/digits/predict/", body, kind)[0] in form.statuses, form.name
    for method, path, _ in REQUESTS:
        assert 400 <= both.send(method, path)[0] < 500, path
    for name, data in RAW.items():
        reply = _talk(both, data)
        assert not reply or re.match(rb"HTTP/1\.1 4\d\d ", reply), (name, reply[:300])
    assert both.predict(PENGUINS_PATH)[0] == 200
    assert both.health() == (200, {"status": "ok"})
    assert "Traceback" not in both.said()


def test_20_mb_are_refused_whether_their_length_is_told_or_not(both: Server) -> None:
    connection = connect(both.address)
    connection.request("POST", PENGUINS_PATH, bytes(20_000_000))
    reply = connection.getresponse()
    assert (reply.status, b"8,000,000" in reply.read()) == (413, True)
    pieces = (bytes(100_000) for _ in range(200))
    connection.request("POST", PENGUINS_PATH, pieces, encode_chunked=True)
    reply = connection.getresponse()
    assert (reply.status, b"8,000,000" in reply.read()) == (413, True)
    connection.close()


def test_the_text_log_of_digits_has_exactly_one_line_a_prediction(both: Server) -> None:
    pixels, _ = digit_rows()
    before, answers = len(_log(both)), []
    for picture in pixels[:60]:
        reply = both.send("POST", "/digits/predict", json.dumps(picture.tolist()).encode())
        answers.append(json.loads(reply[1])["prediction"])
    assert both.send("POST", "/digits/predict", b"[1, 2]")[0] == 400
    until(lambda: len(_log(both)) >= before + 60)
    time.sleep(2)  # one export more
    lines = _log(both)[before:]
    form = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - (\d) - dev")
    assert sorted(int(found[1]) for found in map(form.fullmatch, lines) if found) == sorted(answers)
    assert len(lines) == 60


def test_workers_that_cannot_start_end_the_server_with_a_sentence(
    penguins: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    settings = home_at(tmp_path, port=0, workers=1)
    said: list[str] = []
    server = Supervisor(
        ["penguins"], [load_project("penguins")], settings, at_root=True, say=said.append
    )
    with pytest.raises(TimonelError) as failed:
        server.run()
    assert str(failed.value) == (
        "Worker 0 ended 5 times before it was ready (the last time: exit code 3). Its messages "
        "above say why; check with: timonel check penguins"
    )
    assert said == ["Worker 0 could not start (exit code 3); trying again."] * 4
    assert server.worker_pids == []


def test_a_server_in_a_thread_serves_until_it_is_stopped(penguins: Settings) -> None:
    with _running(penguins, workers=1) as server:
        connection = connect(server.address)
        connection.request("POST", "/predict", json.dumps(ROW))
        assert connection.getresponse().status == 200
        connection.close()
        (worker,) = server.worker_pids
    assert server.worker_pids == []
    assert not alive(worker)
    assert len(journaled(penguins)) == 1


@pytest.mark.soak
def test_twenty_killed_workers_lose_nothing_and_service_is_back_in_two_seconds(
    penguins: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    times: list[float] = []
    with _running(penguins, workers=2) as server:
        until(lambda: len(server.worker_pids) == 2)
        with Traffic(server, clients=4) as traffic:
            for turn in range(20):
                time.sleep(0.3)
                victim, count = server.worker_pids[turn % 2], len(traffic.acknowledged)
                os.kill(victim, signal.SIGKILL)
                killed = time.monotonic()
                until(lambda pid=victim: _replaced(server, pid))  # type: ignore[misc]
                times.append(time.monotonic() - killed)
                until(lambda n=count: len(traffic.acknowledged) > n)  # type: ignore[misc]
    kept = set(journaled(penguins))
    missing = [identifier for identifier, _ in traffic.acknowledged if identifier not in kept]
    figures = " ".join(f"{seconds:.2f}" for seconds in times)
    with capsys.disabled():
        sys.stdout.write(
            f"\n20 kills: {len(traffic.acknowledged)} answers, {len(missing)} not in the journal;"
            f"\nseconds until both workers answered again: {figures}\n"
        )
    assert missing == []
    assert traffic.refused == []
    assert max(times) < 15


@contextmanager
def _running(settings: Settings, *, workers: int) -> Iterator[Supervisor]:
    """A supervisor of penguins on a thread of this process."""
    ready = threading.Event()
    server = Supervisor(
        ["penguins"],
        [load_project("penguins")],
        settings.model_copy(update={"port": 0, "workers": workers}),
        at_root=True,
        on_ready=ready.set,
    )
    running = threading.Thread(target=server.run)
    running.start()
    try:
        assert ready.wait(30)
        yield server
    finally:
        server.stop()
        running.join(30)
    assert not running.is_alive()


def _replaced(server: Supervisor, pid: int) -> bool:
    pids = server.worker_pids
    return len(pids) == 2 and pid not in pids


def _pipes(pid: int) -> int:
    """How many pipes a process holds, where the system shows it."""
    links = [path for path in Path(f"/proc/{pid}/fd").glob("*") if path.is_symlink()]
    return sum(str(path.readlink()).startswith("pipe:") for path in links)


def _said(server: Server) -> str:
    """What /health says is degraded, while it answers 200."""
    status, body = server.health()
    assert status == 200
    return str(body.get("degraded"))


def _is_well(server: Server) -> bool:
    """Whether nothing is degraded, for several askings and so for every worker."""
    return all(server.health() == (200, {"status": "ok"}) for _ in range(6))


def _versions(server: Server) -> set[str]:
    """The versions that answer now, over many connections."""
    return {server.predict(PENGUINS_PATH)[2]["x-model-version"] for _ in range(20)}


def _content(folder: Path) -> bytes:
    try:
        return (folder / "model.onnx").read_bytes()
    except OSError:
        return b""


def _counted(server: Server) -> float:
    _, text, headers = server.send("GET", "/metrics")
    assert headers["content-type"].startswith("text/plain")
    found = re.findall(rb'timonel_predictions_total\{version="penguins/rf@\d"\} (\S+)', text)
    return sum(map(float, found))


def _log(server: Server) -> list[str]:
    try:
        file = server.settings.root / "objects/reportes/predicciones_dev.txt"
        return file.read_text().splitlines()
    except FileNotFoundError:
        return []


def _all_are_journaled(server: Server, traffic: Traffic) -> None:
    acknowledged = {identifier for identifier, _ in traffic.acknowledged}
    assert len(acknowledged) > 10
    until(lambda: acknowledged <= set(journaled(server.settings)))


def _talk(server: Server, data: bytes) -> bytes:
    """What the server says to these bytes before it closes, or for half a second."""
    where = urlsplit(server.address)
    with socket.create_connection((where.hostname, where.port), timeout=5) as client:
        try:
            client.sendall(data)
            client.settimeout(0.5)
            return client.recv(65_536)
        except OSError:
            return b""
