"""Named copies of a run's rows in the object store."""

import io
import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from tests.pipeline.conftest import Home, flowers
from timonel.errors import DefinitionError
from timonel.pipeline.run import Outcome
from timonel.policies import Layout

Train = Callable[..., Outcome]

FINAL = [f"data/plants/final/{name}.csv" for name in ("X_test", "X_train", "y_test", "y_train")]


def scaled() -> Any:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler()


def layout(**changes: Any) -> Layout:
    given = {"folder": "plants", "info": "plants/data_info", "name": "iris", "codes": ()}
    return Layout(**{**given, **changes})


def table(home: Home, key: str) -> pl.DataFrame:
    return pl.read_csv(io.BytesIO(home.objects.get(key)))


def test_a_run_until_the_split_leaves_the_files_and_an_mlflow_run(
    home: Home, trained: Train
) -> None:
    outcome = trained(flowers(layout=layout(transformation=scaled)), until="split")
    assert home.objects.list("data") == [
        "data/plants/data_info/data.json",
        "data/plants/data_info/pipeline.skops",
        *FINAL,
        "data/plants/iris.csv",
        "data/plants/iris_preprocessed.csv",
    ]
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=home.settings.registry_url)
    (experiment,) = client.search_experiments(filter_string="name = 'flowers'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["timonel.run"] == outcome.run
    assert run.data.tags["timonel.embedded"] == "false"
    assert run.inputs
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "flowers"
    assert json.loads(str(used.dataset.profile))["num_rows"] == 150


def test_the_parts_belong_together_and_leave_no_row_out(home: Home, trained: Train) -> None:
    trained(flowers(layout=layout()), until="split")
    sides = {name: table(home, f"data/plants/final/{name}.csv") for name in
             ("X_train", "X_test", "y_train", "y_test")}  # fmt: skip
    assert sides["X_train"].columns == ["petal_length", "petal_width"]
    assert sides["y_test"].columns == ["kind"]
    for side in ("train", "test"):
        assert sides[f"X_{side}"].height == sides[f"y_{side}"].height > 0
    assert sides["X_train"].height + sides["X_test"].height == 150
    assert table(home, "data/plants/iris_preprocessed.csv").height == 150


def test_the_transformation_is_fitted_on_training_rows_and_kept(home: Home, trained: Train) -> None:
    trained(flowers(layout=layout(transformation=scaled)), until="split")
    X = table(home, "data/plants/final/X_train.csv")
    assert X["petal_length"].mean() == pytest.approx(0.0, abs=1e-5)
    from skops.io import loads

    scaler = loads(home.objects.get("data/plants/data_info/pipeline.skops"))
    raw = table(home, "data/plants/iris_preprocessed.csv")
    whole = scaler.transform(raw.select("petal_length", "petal_width").to_numpy())
    assert whole[:, 0].min() == pytest.approx(
        min(X["petal_length"].min(), table(home, FINAL[0])["petal_length"].min()),  # type: ignore[type-var]
        abs=1e-4,
    )


def test_the_information_names_the_columns_and_the_values_of_codes(
    home: Home, trained: Train
) -> None:
    trained(flowers(layout=layout(codes=("petal_width",))), until="split")
    info = json.loads(home.objects.get("data/plants/data_info/data.json"))
    assert info["columns"] == ["petal_length", "petal_width"]
    assert info["target_col"] == "kind"
    assert info["categorical_columns"] == ["petal_width", "kind"]
    assert info["categories_values_per_categorical"]["kind"] == [0, 1, 2]
    assert len(info["categories_values_per_categorical"]["petal_width"]) == 22


def test_a_second_run_on_the_same_rows_changes_nothing(home: Home, trained: Train) -> None:
    project = flowers(layout=layout())
    trained(project, until="split")
    before = {key: home.objects.get(key) for key in home.objects.list("data")}
    trained(project, until="split")
    assert {key: home.objects.get(key) for key in home.objects.list("data")} == before
    assert any("as they were" in event.note for event in home.told)


@pytest.mark.parametrize("lost", [FINAL[0], "data/plants/data_info/data.json"])
def test_a_file_that_was_lost_or_spoiled_is_written_again(
    home: Home, trained: Train, lost: str
) -> None:
    project = flowers(layout=layout())
    trained(project, until="split")
    content = home.objects.get(FINAL[0])
    if lost == FINAL[0]:
        home.objects.delete(lost)
    else:
        home.objects.write(lost, b"no JSON")
    trained(project, until="split")
    assert home.objects.get(FINAL[0]) == content
    assert json.loads(home.objects.get("data/plants/data_info/data.json"))["target_col"] == "kind"


def test_other_rows_replace_the_files(home: Home, trained: Train) -> None:
    trained(flowers(layout=layout()), until="split")
    trained(flowers(layout=layout(), prepare=lambda frame: frame.head(120)), until="split")
    assert table(home, "data/plants/iris_preprocessed.csv").height == 120
    assert table(home, "data/plants/iris.csv").height == 150


def test_a_run_that_ends_before_the_split_leaves_no_files(home: Home) -> None:
    home.run(flowers(layout=layout()), until="validate")
    assert home.objects.list("data") == []


@pytest.mark.parametrize("wrong", [{"folder": "/abs"}, {"info": "a//b"}, {"name": "a/b"}])
def test_a_wrong_path_is_refused_where_it_is_written(wrong: dict[str, str]) -> None:
    with pytest.raises(DefinitionError, match=f"expected {next(iter(wrong))} to be made of"):
        layout(**wrong)
