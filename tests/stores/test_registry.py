"""MLflow behind the registry."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel

from timonel.errors import StoreError
from timonel.schema import Image, Pixels, columns_of
from timonel.signature import Binding
from timonel.stores.flavours import trusted_types
from timonel.stores.registry import Registry

# What MLflow and its parts warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


class Measurements(BaseModel):
    bill_length_mm: float
    bill_depth_mm: float
    body_mass_g: int | None


class Passenger(BaseModel):
    age: float | None
    sex: Literal["male", "female"]


class Digit(BaseModel):
    pixels: Annotated[Pixels, Image(28, 28)]


class Small(BaseModel):
    pixels: Annotated[Pixels, Image(3, 3)]


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def registry(url: str) -> Registry:
    return Registry.open(url)


@pytest.fixture
def tracking(url: str) -> Iterator[str]:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(url)
    yield url
    mlflow.set_tracking_uri(before)


def client(url: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=url, registry_uri=url)


def forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)).astype(np.float32)
    return RandomForestClassifier(5, random_state=0).fit(X, (X[:, 0] > 0).astype(int))


def test_it_is_made_once_with_a_write_ahead_log_and_opens_quickly_after(
    registry: Registry, url: str
) -> None:
    registry.experiment("first")
    path = url.removeprefix("sqlite:///")
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    started = time.perf_counter()
    assert Registry.open(url).experiment("first") == registry.experiment("first")
    assert time.perf_counter() - started < 5


def test_many_processes_may_open_a_new_one_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from timonel.stores.registry import Registry\n"
        "print(Registry.open(sys.argv[1]).experiment('shared'))"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ids = {process.communicate(timeout=120)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert len(ids) == 1


def test_one_that_was_killed_while_it_was_made_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.db import utils

    def killed(engine: Any) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE latest_metrics (x INTEGER)")
        raise KeyboardInterrupt

    url = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with monkeypatch.context() as patched:
        patched.setattr(utils, "_initialize_tables", killed)
        with pytest.raises(KeyboardInterrupt):
            Registry.open(url)
    assert Registry.open(url).experiment("after") == "1"


def test_runs_nest_and_hold_what_was_logged(registry: Registry, url: str) -> None:
    parent = registry.start("penguins_experiment", "run", tags={"who": "me"})
    child = registry.start(
        "penguins_experiment", "trial 0", parent=parent,
        parameters={"n": 5, "long": "x" * 9_000, **{f"p{n}": n for n in range(120)}},
    )  # fmt: skip
    registry.log(child, {"accuracy": 0.97}, {"late": None}, {"state": "complete"})
    registry.finish(child)
    registry.finish(parent, "FAILED")
    run = client(url).get_run(child)
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["state"] == "complete"
    assert run.data.metrics == {"accuracy": 0.97}
    assert run.data.params["n"] == "5"
    assert len(run.data.params) == 123
    assert run.info.status == "FINISHED"
    assert client(url).get_run(parent).info.status == "FAILED"


def test_files_and_folders_are_kept_beside_the_database(
    registry: Registry, url: str, tmp_path: Path
) -> None:
    run = registry.start("files", "run")
    registry.log_file(run, "card.md", "# A card")
    registry.log_file(run, "figures/confusion.png", b"\x89PNG")
    (tmp_path / "a.txt").write_text("a")
    registry.log_folder(run, tmp_path, "folder")
    assert registry.read_file(run, "figures/confusion.png") == b"\x89PNG"
    assert registry.read_file(run, "folder/a.txt") == b"a"
    home = Path(url.removeprefix("sqlite:///")).parent
    assert list((home / "mlflow-artifacts").rglob("card.md"))


def test_the_data_of_a_run_is_recorded(registry: Registry, url: str) -> None:
    run = registry.start("files", "run")
    registry.log_dataset(
        run, "penguins", "ab" * 32, source="penguins.csv", columns=columns_of(Measurements), rows=9
    )
    (found,) = client(url).get_run(run).inputs.dataset_inputs
    assert found.dataset.name == "penguins"
    assert json.loads(found.dataset.source)["digest"] == "ab" * 32


def test_a_registered_estimator_loads_and_answers_by_its_alias(
    registry: Registry, tracking: str
) -> None:
    import mlflow
    import pandas as pd

    columns = columns_of(Measurements)
    estimator = forest()
    run = registry.start("penguins_experiment", "run")
    numbers = []
    for _ in range(2):
        uri = registry.log_estimator(run, estimator, columns, metrics={"accuracy": 0.9})
        numbers.append(
            registry.register(
                "penguins_rf", run, uri, tags={"timonel.artifact": "abc"}, description="why"
            )
        )
    assert numbers == [1, 2]
    registry.set_alias("penguins_rf", "champion", 2)
    registry.set_tags("penguins_rf", 1, {"note": "old"})
    assert registry.aliases("penguins_rf") == {"champion": 2}
    first, second = registry.versions("penguins_rf")
    assert (first.number, first.aliases, first.tags["note"]) == (1, (), "old")
    assert (second.number, second.aliases, second.run_id) == (2, ("champion",), run)
    assert second.tags["timonel.artifact"] == "abc"
    assert second.description == "why"
    assert second.model == "models:/penguins_rf/2"

    model = mlflow.pyfunc.load_model("models:/penguins_rf@champion")
    rows = pd.DataFrame(
        [
            {"body_mass_g": 4000, "bill_length_mm": 20, "bill_depth_mm": 40},
            {"body_mass_g": 1, "bill_length_mm": -3, "bill_depth_mm": 4},
        ]
    )
    expected = estimator.predict(rows[[c.name for c in columns]].to_numpy(np.float32))
    assert model.predict(rows).tolist() == expected.tolist()
    assert model.predict(rows.astype(float)).tolist() == expected.tolist()
    with pytest.raises(mlflow.MlflowException, match="bill_depth_mm"):
        model.predict(rows.drop(columns="bill_depth_mm"))
    registry.delete_alias("penguins_rf", "champion")
    registry.delete_alias("penguins_rf", "champion")
    assert registry.aliases("penguins_rf") == {}
    assert tracking


def test_a_pipeline_with_text_loads_too(registry: Registry, tracking: str) -> None:
    import mlflow
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame(
        {"age": [22.0, np.nan] * 10, "sex": pd.Series(["male", "female"] * 10, dtype=object)}
    )
    encode = ColumnTransformer(
        [("age", SimpleImputer(), ["age"]), ("sex", OneHotEncoder(), ["sex"])]
    )
    pipeline = Pipeline([("encode", encode), ("model", LogisticRegression())])
    pipeline.fit(frame, np.array(["no", "yes"] * 10))
    run = registry.start("titanic", "run")
    uri = registry.log_estimator(run, pipeline, columns_of(Passenger))
    number = registry.register("titanic_lr", run, uri)
    model = mlflow.pyfunc.load_model(f"models:/titanic_lr/{number}")
    assert model.predict(pd.DataFrame({"sex": ["female"], "age": [30.0]})).tolist() == ["yes"]
    assert tracking


def test_an_estimator_of_pictures_takes_a_matrix(registry: Registry, tracking: str) -> None:
    import mlflow
    from sklearn.tree import DecisionTreeClassifier

    X = np.random.default_rng(0).random((20, 9)).astype(np.float32)
    tree = DecisionTreeClassifier().fit(X, (X[:, 0] > 0.5).astype(int))
    run = registry.start("digits", "run")
    uri = registry.log_estimator(run, tree, columns_of(Small))
    model = mlflow.pyfunc.load_model(uri)
    assert model.predict(X).tolist() == tree.predict(X).tolist()
    assert tracking


def test_a_pretrained_file_loads_with_the_onnx_flavour(
    registry: Registry, tracking: str, test_data: Path
) -> None:
    import mlflow

    content = (test_data / "models" / "mnist-8.onnx").read_bytes()
    columns = columns_of(Digit)
    binding = Binding("image", ("Input3",), shape=(1, 28, 28), label=None, scores="x", batch=False)
    run = registry.start("digits", "run")
    number = registry.register("digits_cnn", run, registry.log_onnx(run, content, columns, binding))
    registry.set_alias("digits_cnn", "champion", number)
    model = mlflow.pyfunc.load_model("models:/digits_cnn@champion")
    (answer,) = model.predict({"Input3": np.zeros((1, 1, 28, 28), np.float32)}).values()
    assert np.asarray(answer).shape == (1, 10)
    assert tracking


def test_numbers_through_the_onnx_flavour_come_from_a_frame(
    registry: Registry, tracking: str, tmp_path: Path
) -> None:
    import mlflow
    import pandas as pd

    from timonel.tensors import arrays_of
    from timonel.training.export import to_onnx

    columns = columns_of(Measurements)
    rng = np.random.default_rng(0)
    arrays = arrays_of(columns, {c.name: rng.normal(size=8).tolist() for c in columns})
    estimator = forest()
    found = to_onnx(estimator, columns, arrays)
    run = registry.start("penguins_experiment", "run")
    uri = registry.log_onnx(run, found.content, columns, found.binding)
    model = mlflow.pyfunc.load_model(uri)
    frame = pd.DataFrame(arrays)
    answer = model.predict(frame.to_numpy(np.float32))
    assert np.ravel(answer["label"]).tolist() == estimator.predict(frame.to_numpy()).tolist()
    number = registry.register("penguins_onnx", run, uri)
    folder = registry.download(registry.versions("penguins_onnx")[number - 1], tmp_path / "copy")
    assert list(folder.rglob("model.onnx"))
    assert tracking


class Strange:
    """Not of scikit-learn."""


def test_only_known_types_are_trusted() -> None:
    assert all(name.startswith(("sklearn.", "numpy.")) for name in trusted_types(forest()))
    odd = forest()
    odd.extra = Strange()
    with pytest.raises(StoreError, match="Strange"):
        trusted_types(odd)


def test_threads_may_share_it(registry: Registry, url: str) -> None:
    def one(number: int) -> str:
        run = registry.start("threads", f"run {number}", parameters={"n": number})
        registry.log(run, {"value": number})
        registry.finish(run)
        return run

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(one, range(12)))
    assert [client(url).get_run(run).data.metrics["value"] for run in runs] == list(range(12))


def test_what_is_not_there_is_a_store_error_or_nothing(registry: Registry) -> None:
    assert registry.versions("nobody") == []
    assert registry.aliases("nobody") == {}
    for wrong in (
        lambda: registry.finish("0" * 32),
        lambda: registry.log("0" * 32, {"a": 1}),
        lambda: registry.set_alias("nobody", "champion", 1),
        lambda: registry.read_file("0" * 32, "x"),
    ):
        with pytest.raises(StoreError, match="MLflow"):
            wrong()


@pytest.mark.parametrize("wrong", ["./mlruns", "file:///tmp/mlruns"])
def test_a_plain_folder_is_refused_with_the_remedy(wrong: str) -> None:
    with pytest.raises(StoreError, match="TIMONEL_REGISTRY"):
        Registry.open(wrong)


def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to look like a file")
    with pytest.raises(StoreError, match="MLflow"):
        Registry.open(f"sqlite:///{tmp_path / 'mlflow.db'}")
