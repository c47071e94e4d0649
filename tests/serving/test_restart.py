"""Workers are replaced one after the other, and nobody who asks notices."""

import http.client
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.homes import deploy, home_at
from tests.serving.processes import ROW, Server, Traffic, alive, connect, serving, until
from timonel.project import load_project
from timonel.serving.roster import Report, Roster, read_roster, running

# Workers that start while there is a file of this name in the home end at once.
_ENDING = """
import os, sys
if "timonel.serving.worker" in sys.orig_argv and os.path.exists({flag!r}):
    os._exit(3)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = home_at(tmp_path_factory.mktemp("restart"))
    deploy(load_project("penguins"), settings)
    folder = tmp_path_factory.mktemp("path")
    (folder / "sitecustomize.py").write_text(_ENDING.format(flag=str(flag(settings.root))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        with serving(["penguins"], settings) as made:
            until(lambda: len(ready(made)) == 2)
            yield made


def flag(home: Path) -> Path:
    return home / "no-worker-starts"


def test_a_restart_fails_no_request_over_kept_or_new_connections(server: Server) -> None:
    before = ready(server)
    with Traffic(server, clients=3) as kept, Traffic(server, clients=1, fresh=True) as new:
        until(lambda: min(len(kept.acknowledged), len(new.acknowledged)) > 20)
        command = [sys.executable, "-m", "timonel", "restart", "--json"]
        environment = os.environ | server.settings.environment_variables()
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout
        assert set(json.loads(done.stdout)["workers"]) == set(ready(server))
        count = len(kept.acknowledged)
        until(lambda: len(kept.acknowledged) > count + 20)
    assert not set(before) & set(ready(server))
    until(lambda: not any(alive(pid) for pid in before))
    for traffic in (kept, new):
        assert (traffic.refused, traffic.broken) == ([], 0)


def test_a_connection_that_waits_is_answered_once_more_and_told_to_end(server: Server) -> None:
    connections = [connect(server.address) for _ in range(8)]
    for connection in connections:
        assert ask(connection) == (200, None)
    restarts = roster(server).restarts
    server.process.send_signal(signal.SIGHUP)
    closed = []
    while roster(server).restarts == restarts:  # less often than the keep-alive timeout
        closed += [connection for connection in connections if ask(connection) == (200, "close")]
        time.sleep(0.3)
    closed += [connection for connection in connections if ask(connection) == (200, "close")]
    assert set(closed) == set(connections)  # each was with a worker that left
    for connection in connections:
        connection.close()


def test_a_new_worker_that_does_not_come_up_leaves_the_former_and_is_told(server: Server) -> None:
    before = ready(server)
    until(lambda: server.health() == (200, {"status": "ok"}))
    copies = [path for path in server.settings.serving_folder.iterdir() if len(path.name) == 64]
    # Nothing can be loaded, nor put right, while the copies and the manifests are away.
    moved = [*copies, server.settings.root / "objects" / "versions"]
    for path in moved:
        path.rename(path.with_name(f"away-{path.name}"))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "timonel", "restart"],
            env=os.environ | server.settings.environment_variables(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 1
        assert "Worker 0 was not replaced: the new one ended" in done.stderr
        assert ready(server) == before
        assert server.predict()[0] == 200
        assert "Worker 0 was not replaced" in str(server.health())
    finally:
        for path in moved:
            path.with_name(f"away-{path.name}").rename(path)
    assert "penguins/rf" in server.said()


def test_a_worker_that_does_not_come_up_shows_in_health_and_metrics(server: Server) -> None:
    (victim, other), mark = ready(server), flag(server.settings.root)
    mark.touch()
    try:
        with Traffic(server, clients=1) as traffic:
            os.kill(victim, signal.SIGKILL)
            until(lambda: "Worker 0 does not come up: it ended 2 times" in str(server.health()))
            assert server.health()[0] == 200
            assert 'timonel_workers{state="ready"} 1.0' in metrics(server)
            assert ready(server) == [other]
        assert traffic.refused == []
    finally:
        mark.unlink()
    until(lambda: "does not come up" not in str(server.health()))


def test_metrics_tell_of_every_worker_and_of_the_champion(server: Server) -> None:
    until(lambda: 'timonel_workers{state="ready"} 2.0' in metrics(server))
    assert 'timonel_workers{state="wanted"} 2.0' in metrics(server)
    assert 'timonel_champion_info{model="rf",project="penguins",version="penguins/rf@1"} 1.0' in (
        metrics(server)
    )
    for number in "01":
        assert f'timonel_version_loaded{{version="penguins/rf@1",worker="{number}"}} 1.0' in (
            metrics(server)
        )


def test_a_second_server_on_a_home_is_refused_and_told_by_whom_it_is_served(
    server: Server,
) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "timonel", "serve", "penguins", "--port", "0"],
        env=os.environ | server.settings.environment_variables(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 6
    assert f"which process {server.process.pid} at {server.address} serves." in second.stderr
    assert server.predict()[0] == 200


def test_a_terminal_that_is_closed_ends_the_server(tmp_path: Path) -> None:
    settings = home_at(tmp_path)
    deploy(load_project("penguins"), settings)
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(settings.environment_variables())
        command = ["-m", "timonel", "serve", "penguins", "--port", "0", "--workers", "1"]
        os.execv(sys.executable, [sys.executable, *command])
    said = b""
    while b"Documentation" not in said:
        said += os.read(terminal, 1000)
    os.close(terminal)
    until(lambda: os.waitpid(child, os.WNOHANG)[0] == child)
    assert running(settings.serving_folder) is None


def roster(server: Server) -> Roster:
    found = read_roster(server.settings.serving_folder)
    assert found is not None
    return found


def ready(server: Server) -> list[int]:
    """The workers that answer."""
    workers: list[Report] = roster(server).ready()
    return [worker.pid for worker in workers if worker.pid]


def metrics(server: Server) -> str:
    return server.send("GET", "/metrics")[1].decode()


def ask(connection: http.client.HTTPConnection) -> tuple[int, str | None]:
    """Status, and what the reply says of the connection."""
    connection.request("POST", "/predict", json.dumps(ROW))
    reply = connection.getresponse()
    reply.read()
    return reply.status, reply.getheader("Connection")
