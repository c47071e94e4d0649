"""MLflow's model folders, read without running their code."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from timonel.errors import ArtifactError, StoreError
from timonel.schema import columns_of
from timonel.stores.flavours import read_model, save_estimator, trusted_types

# What MLflow and its parts warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


class Row(BaseModel):
    a: float
    b: float


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    X = np.random.default_rng(0).random((20, 2))
    return RandomForestClassifier(2, random_state=0).fit(X, X[:, 0] > 0.5)


def folder_of(folder: Path, flavour: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(f"flavors:\n  {flavour}\n")
    return folder


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    estimator = forest()
    known = save_estimator(estimator, columns_of(Row), tmp_path / "m")
    assert known == ["sklearn.tree._tree.Tree"]
    again = read_model(tmp_path / "m")
    X = np.random.default_rng(1).random((5, 2))
    assert again.predict(X).tolist() == estimator.predict(X).tolist()
    assert save_estimator(estimator, columns_of(Row), tmp_path / "n", []) == known


def test_a_list_in_the_file_that_trusts_another_type_counts_for_nothing(tmp_path: Path) -> None:
    from skops.io import dump

    from tests.stores.processes import together

    estimator = forest()
    estimator.hook = together
    folder = folder_of(
        tmp_path / "m",
        "sklearn: {pickled_model: model.skops, serialization_format: skops, "
        "skops_trusted_types: [tests.stores.processes.together, sklearn.tree._tree.Tree]}",
    )
    dump(estimator, folder / "model.skops")
    with pytest.raises(ArtifactError, match=r"got tests\.stores\.processes\.together"):
        read_model(folder)
    with pytest.raises(StoreError, match="together"):
        trusted_types(estimator)


@pytest.mark.parametrize("kind", ["pickle", "cloudpickle"])
def test_a_pickle_is_not_opened_unless_asked_for(tmp_path: Path, kind: str) -> None:
    sprung = tmp_path / "sprung"
    folder = folder_of(
        tmp_path / "m", f"sklearn: {{pickled_model: model.pkl, serialization_format: {kind}}}"
    )
    (folder / "model.pkl").write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(ArtifactError, match="runs whatever code it holds"):
        read_model(folder)
    assert not sprung.exists()
    read_model(folder, allow_pickle=True)
    assert sprung.exists()


def test_a_folder_that_says_nothing_of_its_format_counts_as_a_pickle(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", "sklearn: {pickled_model: model.pkl}")
    (folder / "model.pkl").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="got a pickle file"):
        read_model(folder)
    with pytest.raises(ArtifactError, match="Expected a pickle file, got"):
        read_model(folder, allow_pickle=True)


def test_other_flavours_and_damaged_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="got xgboost"):
        read_model(folder_of(tmp_path / "m", "xgboost: {}"))
    with pytest.raises(ArtifactError, match="Expected a model of MLflow's"):
        read_model(tmp_path / "none")
    (tmp_path / "secret").write_text("x")
    outside = folder_of(tmp_path / "m", "onnx: {data: ../secret}")
    with pytest.raises(ArtifactError, match="in its folder, got no such file"):
        read_model(outside)
    skops = "sklearn: {pickled_model: model.skops, serialization_format: skops}"
    broken = folder_of(tmp_path / "m", skops)
    (broken / "model.skops").write_bytes(b"no zip")
    with pytest.raises(ArtifactError, match="written with skops"):
        read_model(broken)


def test_an_onnx_file_is_read_as_bytes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", "onnx: {data: model.onnx}")
    (folder / "model.onnx").write_bytes(b"graph")
    assert read_model(folder) == b"graph"
