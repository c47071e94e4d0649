"""A version's trees by our kernel, beside ONNX Runtime and scikit-learn."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier
from sklearn.ensemble import RandomForestClassifier as Forest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tests.homes import penguin_rows
from timonel.compiled import kernel as kernel_module
from timonel.compiled.bulk import BulkModel
from timonel.compiled.ensemble import Unsuited, split
from timonel.compiled.kernel import Kernel
from timonel.project import load_project
from timonel.runtime import OnnxModel
from timonel.signature import Signature
from timonel.tensors import Arrays
from timonel.training.export import to_onnx

PENGUINS = load_project("penguins")
ROWS = 30_000


def fitted(estimator: Any, *, classes: int = 3, rows: int = 600) -> tuple[bytes, Signature, Any]:
    arrays, species = penguin_rows(rows)
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(rows) < 0.2, rng.integers(0, 3, rows), species) % classes
    estimator.fit(np.column_stack(list(arrays.values())), labels)
    exported = to_onnx(estimator, PENGUINS.columns, arrays)
    signature = Signature(
        "penguins", "rf", PENGUINS.columns, "species", exported.classes, exported.binding
    )
    return exported.content, signature, estimator


FORESTS: dict[str, Callable[[], Any]] = {
    "a forest": lambda: Forest(20, random_state=0),
    "a forest behind a scaler": lambda: make_pipeline(
        SimpleImputer(), StandardScaler(), Forest(20, random_state=0)
    ),
    "shallow extra trees": lambda: ExtraTreesClassifier(20, max_depth=3, random_state=0),
    "one tree": lambda: DecisionTreeClassifier(random_state=0),
    "a stump": lambda: DecisionTreeClassifier(max_depth=1, random_state=0),
    "boosted trees": lambda: GradientBoostingClassifier(n_estimators=8, random_state=0),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", FORESTS)
def test_trees_answer_as_the_runtime_does(name: str, classes: int) -> None:
    content, signature, _ = fitted(FORESTS[name](), classes=classes)
    before, ensemble = split(content, "label", "probabilities")
    arrays, _ = penguin_rows(5_000, seed=3)
    rows = np.column_stack(list(arrays.values()))
    if before is not None:
        from timonel.runtime import open_session

        rows = open_session(before).run([ensemble.source], {"features": rows})[0]
    indices, scores = Kernel(ensemble, 4).predict(rows)
    expected, theirs = OnnxModel(content, signature).predict(arrays)
    assert np.abs(scores - theirs).max() <= 1e-5
    votes = np.sort(theirs, axis=1)
    assert ((indices == expected) | (votes[:, -1] - votes[:, -2] < 1e-6)).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_every_label_is_that_of_scikit_learn_also_where_votes_are_equal(classes: int) -> None:
    content, _, forest = fitted(Forest(10, random_state=0), classes=classes)
    _, ensemble = split(content, "label", "probabilities")
    arrays, _ = penguin_rows(ROWS, seed=4)
    rows = np.column_stack(list(arrays.values()))
    votes = np.sort(forest.predict_proba(rows), axis=1)
    assert (votes[:, -1] == votes[:, -2]).sum() > 10, "there are ties to break"
    assert (Kernel(ensemble, 4).predict(rows)[0] == forest.predict(rows)).all()


def large() -> Arrays:
    return penguin_rows(ROWS, seed=5)[0]


def test_a_forest_is_answered_by_its_compiled_trees() -> None:
    content, signature, _ = fitted(Forest(30, random_state=0))
    model = BulkModel(content, signature, threads=2)
    indices, scores = model.predict(large())
    expected, theirs = OnnxModel(content, signature).predict(large())
    assert (model.engine, model.note) == ("trees", "")
    assert (indices == expected).all()
    assert np.abs(scores - theirs).max() <= 1e-5


def test_other_models_are_answered_by_the_runtime_with_a_sentence() -> None:
    content, signature, _ = fitted(LinearDiscriminantAnalysis())
    model = BulkModel(content, signature, threads=2)
    indices, scores = model.predict(large())
    expected, theirs = OnnxModel(content, signature).predict(large())
    assert (model.engine, model.note) == (
        "onnxruntime",
        "ONNX Runtime answers: its graph has no trees.",
    )
    assert (indices == expected).all()
    assert (scores == theirs).all()


def test_without_a_compiler_the_runtime_answers_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    kernel_module.compiled.cache_clear()
    content, signature, _ = fitted(Forest(5, random_state=0))
    model = BulkModel(content, signature)
    model.predict(large())
    kernel_module.compiled.cache_clear()
    assert model.engine == "onnxruntime"
    assert "C compiler failed" in model.note


def test_trees_that_answer_otherwise_on_a_sample_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(self: Kernel, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(rows), np.int64), np.full((len(rows), 3), 1 / 3, np.float32)

    monkeypatch.setattr(Kernel, "predict", wrong)
    content, signature, _ = fitted(Forest(5, random_state=0))
    model = BulkModel(content, signature)
    model.predict(large())
    assert model.engine == "onnxruntime"
    assert "otherwise" in model.note


def changed(**values: Any) -> bytes:
    """A forest's file with some of its trees' lists replaced."""
    model = onnx.load_model_from_string(fitted(Forest(3, random_state=0))[0])
    (node,) = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
    given_lists = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    for name, change in values.items():
        found = next(item for item in node.attribute if item.name == name)
        found.CopyFrom(onnx.helper.make_attribute(name, change(list(given_lists[name]))))
    content: bytes = model.SerializeToString()
    return content


@cache
def with_strays() -> tuple[bytes, Signature]:
    """A forest that sends missing values to the left at some nodes, and to the right at others."""

    def sides(ids: list[int]) -> list[int]:
        return [int(side) for side in np.random.default_rng(0).integers(0, 2, len(ids))]

    content = changed(nodes_missing_value_tracks_true=sides)
    return content, fitted(Forest(3, random_state=0))[1]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.lists(st.floats(width=32, allow_nan=True), min_size=4, max_size=4),
        min_size=1,
        max_size=150,
    )
)
def test_missing_infinite_and_odd_values_go_where_the_runtime_sends_them(
    rows: list[list[float]],
) -> None:
    content, signature = with_strays()
    given_rows = np.array(rows, np.float32)
    names = [column.name for column in PENGUINS.columns]
    arrays = {name: given_rows[:, i] for i, name in enumerate(names)}
    indices, scores = Kernel(split(content, "label", "probabilities")[1], 4).predict(given_rows)
    expected, theirs = OnnxModel(content, signature).predict(arrays)
    assert np.abs(scores - theirs).max() <= 1e-5
    assert (indices == expected).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("nodes_truenodeids", lambda ids: [0] * len(ids)),
        ("nodes_truenodeids", lambda ids: [10_000, *ids[1:]]),
        ("nodes_falsenodeids", lambda ids: [-1, *ids[1:]]),
        ("nodes_featureids", lambda ids: [-4, *ids[1:]]),
        ("nodes_treeids", lambda ids: ids[:-1]),
        ("class_ids", lambda ids: [9, *ids[1:]]),
        ("class_nodeids", lambda ids: [0, *ids[1:]]),
        ("nodes_modes", lambda modes: [b"BRANCH_GT", *modes[1:]]),
        ("nodes_values", lambda values: values[:-1]),
        ("base_values", None),
    ],
)
def test_trees_that_lead_nowhere_are_refused_before_they_are_walked(
    name: str, change: Callable[[list[Any]], list[Any]] | None
) -> None:
    if change is None:
        model = onnx.load_model_from_string(fitted(Forest(3, random_state=0))[0])
        (node,) = [n for n in model.graph.node if n.op_type == "TreeEnsembleClassifier"]
        node.attribute.append(onnx.helper.make_attribute("base_values", [0.5]))
        content = model.SerializeToString()
    else:
        content = changed(**{name: change})
    with pytest.raises((Unsuited, ValueError, LookupError)):
        split(content, "label", "probabilities")


def test_rows_narrower_than_the_trees_ask_for_are_refused() -> None:
    content, _, _ = fitted(Forest(3, random_state=0))
    _, ensemble = split(content, "label", "probabilities")
    with pytest.raises(Unsuited, match="column 4 of 3"):
        Kernel(ensemble, 3)
