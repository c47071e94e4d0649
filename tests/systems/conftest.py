"""The bundled systems, served in this process."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.homes import app_of, deploy, deploy_digits, deploy_embedded, home_at
from tests.pipeline.conftest import registry_template
from timonel.project import load_project
from timonel.settings import Settings

__all__ = ["golden", "home", "registry_template", "servers"]

NAMES = ("crimes", "digits", "penguins", "titanic")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home in which every model of the bundled projects has a champion."""
    settings = home_at(tmp_path_factory.mktemp("systems"))
    deploy(load_project("penguins"), settings)
    deploy_digits(settings)
    deploy_digits(settings, model="clf")
    for name in ("crimes", "titanic"):
        deploy_embedded(load_project(name), settings)
    return settings


@pytest.fixture(scope="session")
def servers(home: Settings) -> Iterator[dict[str, TestClient]]:
    """Clients by what is served: each project at the root, and `all` of them mounted."""
    projects = {name: load_project(name) for name in NAMES}
    with ExitStack() as stack:
        yield {
            "all": stack.enter_context(TestClient(app_of([*projects.values()], home))),
            **{
                name: stack.enter_context(TestClient(app_of([project], home, at_root=True)))
                for name, project in projects.items()
            },
        }


@pytest.fixture
def golden() -> Path:
    """The folder of golden exchanges."""
    return Path(__file__).parent / "golden"
