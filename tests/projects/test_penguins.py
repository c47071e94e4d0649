"""penguins: what `timonel run penguins` leaves in the tables and in MLflow."""

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import Home
from timonel.data.sources import Csv, Python
from timonel.pipeline.run import Outcome
from timonel.policies import Grid
from timonel.project import File, Project, load_project

Train = Callable[..., Outcome]

# What MLflow and its parts warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


def tables(home: Home) -> sqlite3.Connection:
    return sqlite3.connect(home.settings.root / "timonel.db")


def packaged() -> Project:
    """The project with the rows of the palmerpenguins package."""
    pytest.importorskip("palmerpenguins")
    return replace(load_project("penguins"), source=Python("palmerpenguins:load_penguins"))


def test_the_raw_table_is_as_it_came_and_the_processed_one_complete_and_encoded(
    home: Home,
) -> None:
    for _ in range(2):
        home.run(packaged(), until="split")
        with tables(home) as connection:
            ((rows,),) = connection.execute("SELECT count(*) FROM penguins_raw")
            assert rows == 344
            ((holes,),) = connection.execute(
                "SELECT count(*) FROM penguins_raw WHERE bill_length_mm IS NULL"
            )
            assert holes == 2
            species = connection.execute("SELECT DISTINCT species FROM penguins_raw").fetchall()
            assert {name for (name,) in species} == {"Adelie", "Chinstrap", "Gentoo"}
            found = connection.execute(
                "SELECT species, count(*), min(typeof(bill_length_mm)), min(typeof(species)) "
                "FROM penguins_processed GROUP BY species ORDER BY species"
            ).fetchall()
            assert found == [
                (0, 151, "real", "integer"),
                (1, 68, "real", "integer"),
                (2, 123, "real", "integer"),
            ]


def test_a_csv_and_the_package_give_the_same_processed_rows(home: Home, test_data: Path) -> None:
    query = "SELECT * FROM penguins_processed ORDER BY row_id"
    home.run(packaged(), until="ingest")
    with tables(home) as connection:
        from_package = connection.execute(query).fetchall()
    file = Csv(File(str(test_data / "penguins" / "penguins.csv")), nulls=("NA",))
    home.run(replace(packaged(), source=file), until="split")
    with tables(home) as connection:
        assert connection.execute(query).fetchall() == from_package


def test_a_run_leaves_what_the_workshop_expects_in_mlflow(home: Home, trained: Train) -> None:
    import mlflow

    project = packaged()
    search = project.models[0].search
    assert isinstance(search, Grid)
    combinations = 1
    for values in search.space.values():
        combinations *= len(values)
    assert combinations >= 20
    # The same with fewer trees and folds, so that it takes seconds.
    quick = replace(
        project.models[0], search=Grid(max_features=[1, 2], n_estimators=[5, 8]), repeats=1, folds=2
    )
    (version,) = trained(replace(project, models=[quick])).versions
    assert (version.label, version.state) == ("penguins/rf@1", "champion")
    client = mlflow.MlflowClient(
        tracking_uri=home.settings.registry_url, registry_uri=home.settings.registry_url
    )
    experiment = client.get_experiment_by_name("penguins_experiment")
    assert experiment is not None
    trials = [
        run
        for run in client.search_runs([experiment.experiment_id])
        if "mlflow.parentRunId" in run.data.tags
    ]
    assert len(trials) == 4
    for run in trials:
        assert {"max_features", "n_estimators"} <= set(run.data.params)
        assert run.data.metrics["accuracy"] > 0.8
        assert run.outputs is not None
        assert len(run.outputs.model_outputs) == 1
    found: Any = client.get_model_version_by_alias("penguins_rf", "champion")
    assert (int(found.version), found.current_stage) == (1, "Production")
    assert client.get_registered_model("penguins_rf").aliases.keys() == {"champion", "production"}
