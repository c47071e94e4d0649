"""Keys of a real server: made, used and revoked while it runs, also without its database."""

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.homes import deploy, home_at
from tests.serving.processes import ROW, Server, connect, serving, until
from timonel.project import load_project
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.keys import Keys


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = home_at(tmp_path, keys=True)
    deploy(load_project("penguins"), settings)
    return settings


@pytest.fixture
def keys(settings: Settings) -> Iterator[Keys]:
    database = Database.open(settings.database_url)
    yield Keys(database)
    database.close()


def status(server: Server, token: str | None, path: str = "/predict", **headers: str) -> int:
    with closing(connect(server.address)) as connection:
        given = {"Authorization": f"Bearer {token}"} if token else {}
        method = "POST" if path.endswith(("predict", "runs")) else "GET"
        connection.request(method, path, json.dumps(ROW), given | headers)
        return connection.getresponse().status


def refused(server: Server, token: str) -> set[str]:
    """The reasons that were counted."""
    with closing(connect(server.address)) as connection:
        connection.request("GET", "/metrics", headers={"X-Api-Key": token})
        counted = connection.getresponse().read().decode()
    return set(re.findall(r'timonel_refused_total\{reason="([^"]+)"\}', counted))


def test_a_key_is_learnt_and_forgotten_while_the_server_runs(
    settings: Settings, keys: Keys
) -> None:
    _, first = keys.create("first", who="test")
    with serving(["penguins"], settings) as server:
        assert [status(server, token) for token in (None, first, first + "0")] == [401, 200, 401]
        assert status(server, first, "/api/projects/penguins/runs") == 403
        assert status(server, None, "/health") == 200
        assert status(server, None, "/metrics") == 401

        _, second = keys.create("second", who="test", projects=["digits"])
        until(lambda: status(server, second) == 403)
        _, rotated = keys.rotate("first", who="test", overlap=3_600)
        until(lambda: status(server, rotated) == 200)
        assert status(server, first) == 200

        file = settings.root / "timonel.db"
        file.rename(file.with_suffix(".away"))
        until(lambda: "degraded" in server.health()[1])
        assert [status(server, token) for token in (None, rotated)] == [401, 200]
        file.with_suffix(".away").rename(file)

        keys.revoke("first", who="test")
        # What is promised is a second; a busy machine may take longer.
        until(lambda: all(status(server, token) == 401 for token in (first, rotated) * 4))

        _, third = keys.create("third", who="test", rate=2)
        until(lambda: status(server, third) == 200)
        answered = [status(server, third) for _ in range(4)]
        assert 429 in answered
        # The other worker's counts are seen a moment later.
        until(lambda: {"key", "rate", "not allowed"} <= refused(server, second))
        said = server.said()
        assert not any(token in said for token in (first, second, rotated, third))


def test_a_deadline_and_a_refused_body_keep_the_connection(settings: Settings, keys: Keys) -> None:
    _, token = keys.create("first", who="test")
    with (
        serving(["penguins"], settings, workers=1) as server,
        closing(connect(server.address)) as connection,
    ):

        def send(body: bytes, **headers: str) -> tuple[int, http.client.HTTPMessage]:
            connection.request("POST", "/predict", body, headers)
            reply = connection.getresponse()
            reply.read()
            return reply.status, reply.headers

        assert send(b" " * 500_000)[0] == 401
        held = connection.sock
        assert send(json.dumps(ROW).encode(), **{"X-Api-Key": token})[0] == 200
        timed = {"X-Api-Key": token, "X-Request-Timeout": "20"}
        assert send(json.dumps(ROW).encode(), **timed)[0] == 200
        late = timed | {"X-Request-Timeout": "soon"}
        assert send(json.dumps(ROW).encode(), **late)[0] == 400
        assert connection.sock is held
