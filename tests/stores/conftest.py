"""What tests of the stores share: a database of their own, and a clock that stands still."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from timonel.stores.database import Database


class Clock:
    """A clock that moves when told."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, of each kind in turn."""
    return {"sqlite": f"sqlite:///{tmp_path / 'state.db'}"}[request.param]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy, which is quicker than to migrate."""
    path = tmp_path_factory.mktemp("migrated") / "state.db"
    Database.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def database(database_url: str, migrated: Path, clock: Clock) -> Iterator[Database]:
    """The database at `database_url`, open and empty."""
    if database_url.startswith("sqlite:///"):
        shutil.copy(migrated, database_url.removeprefix("sqlite:///"))
    database = Database.open(database_url, clock=clock)
    yield database
    database.close()
