"""Served homes for the tests of serving."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.homes import app_of, deploy, deploy_digits, home_at
from timonel.project import load_project
from timonel.settings import Settings


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home in which every model of digits and penguins has a champion."""
    settings = home_at(tmp_path_factory.mktemp("serving"))
    deploy(load_project("penguins"), settings)
    deploy_digits(settings)
    deploy_digits(settings, model="clf")
    return settings


@pytest.fixture(scope="session")
def mounted(home: Settings) -> Iterator[TestClient]:
    """Both projects, each under its name."""
    projects = [load_project(name) for name in ("digits", "penguins")]
    with TestClient(app_of(projects, home)) as client:
        yield client


@pytest.fixture(scope="session")
def rooted(home: Settings) -> Iterator[dict[str, TestClient]]:
    """Each project alone at the root."""
    digits, penguins = load_project("digits"), load_project("penguins")
    with (
        TestClient(app_of([digits], home, at_root=True)) as first,
        TestClient(app_of([penguins], home, at_root=True)) as second,
    ):
        yield {"digits": first, "penguins": second}
