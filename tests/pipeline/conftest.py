"""A small project whose pipeline runs in a moment, and the stores of a home."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from timonel.pipeline.run import Outcome, run_project
from timonel.pipeline.runner import Event
from timonel.policies import Gate, Grid
from timonel.project import Model, Project
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.runs import Runs
from timonel.stores.versions import Versions


class Flower(BaseModel):
    petal_length: float = Field(gt=0, lt=20)
    petal_width: float = Field(gt=0, lt=20)


def regression(C: float = 1.0) -> Any:  # noqa: N803 (scikit-learn's name)
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C)


def iris() -> dict[str, Any]:
    from sklearn.datasets import load_iris

    found = load_iris()
    return {
        "petal_length": found.data[:, 2],
        "petal_width": found.data[:, 3],
        "kind": found.target,
    }


def flowers(**changes: Any) -> Project:
    """The project, with other choices."""
    from timonel.data.sources import Python
    from timonel.policies import Quality

    project = Project(
        name="flowers",
        source=Python(iris),
        features=Flower,
        target="kind",
        models=[Model("lr", regression, search=Grid(C=[0.1, 1.0]), folds=2)],
        quality=Quality(duplicates="keep"),
        gate=Gate(floor=0.8),
    )
    return replace(project, **changes)


class Home:
    """Runs projects in one home and keeps what they told."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder, jobs=1)
        self.told: list[Event] = []

    def run(self, project: Project, **options: Any) -> Outcome:
        """One run of the pipeline; `told` then has its events."""
        self.told = []
        return run_project(project, self.settings, who="test", tell=self.told.append, **options)

    def statuses(self) -> dict[str, str]:
        """The last status told of each step."""
        return {event.name: event.status for event in self.told if event.kind == "step"}

    @property
    def database(self) -> Database:
        return Database.open(self.settings.database_url)

    @property
    def objects(self) -> ObjectStore:
        return ObjectStore.open(self.settings.objects_url)

    @property
    def runs(self) -> Runs:
        return Runs(self.database)

    @property
    def versions(self) -> Versions:
        return Versions(self.database)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture(scope="session")
def registry_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database migrated once, since that takes seconds."""
    from timonel.stores.registry import Registry

    path = tmp_path_factory.mktemp("registry") / "mlflow.db"
    Registry.open(f"sqlite:///{path}")
    return path


@pytest.fixture
def trained(home: Home, registry_template: Path) -> Callable[..., Outcome]:
    """`home.run` where MLflow is ready from the start."""
    import shutil

    home.settings.root.mkdir(parents=True, exist_ok=True)
    for part in registry_template.parent.glob("mlflow.db*"):
        shutil.copy(part, home.settings.root / part.name)
    return home.run
