"""A server with three projects: at an address for real clients, and in this process."""

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.homes import app_of, deploy, deploy_digits, home_at
from tests.serving.boats import boat, launch
from tests.serving.processes import until
from timonel.project import load_project
from timonel.settings import Settings


@pytest.fixture(scope="session")
def home_of_three(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with champions of digits, penguins and boat; boat answers with both its models."""
    settings = home_at(tmp_path_factory.mktemp("protocols"), max_rows=1_000)
    deploy(load_project("penguins"), settings, number=3)
    deploy_digits(settings)
    deploy_digits(settings, model="clf")
    launch(boat(2, models="all"), settings)
    return settings


@pytest.fixture(scope="session")
def app(home_of_three: Settings) -> FastAPI:
    """The application that answers for the three."""
    names = ("digits", "penguins")
    projects = [*(load_project(name) for name in names), boat(2, models="all")]
    return app_of(projects, home_of_three)


@pytest.fixture(scope="session")
def address(app: FastAPI) -> Iterator[str]:
    """Host and port of a server on a thread, stopped at the end."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        until(lambda: server.started)
        yield "{}:{}".format(*listener.getsockname())
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="session")
def client(app: FastAPI, address: str) -> TestClient:
    """Requests without a network to the application, which the server above has started."""
    return TestClient(app, raise_server_exceptions=False)
