"""Graphs run: arrays in, class indices and probabilities out."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from timonel.errors import ArtifactError
from timonel.runtime import OnnxModel, open_session
from timonel.schema import Column
from timonel.signature import Binding, Label, Signature

COLUMNS = (Column("a", "number"), Column("b", "number"))


def graph(outputs: tuple[str, ...] = ("scores",), batch: int | None = None) -> bytes:
    """Scores are the inputs; the label, if asked for, is 7 where `a` is larger and 9 elsewhere."""
    nodes = [helper.make_node("Identity", ["features"], ["scores"])]
    made = {"scores": helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 2])}
    if "label" in outputs:
        nodes += [
            helper.make_node("ArgMax", ["features"], ["index"], axis=1, keepdims=0),
            helper.make_node("Gather", ["classes", "index"], ["label"]),
        ]
        made["label"] = helper.make_tensor_value_info("label", TensorProto.INT64, [batch])
    model = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 2])],
        [made[name] for name in outputs],
        [helper.make_tensor("classes", TensorProto.INT64, [2], [7, 9])],
    )
    content: bytes = helper.make_model(
        model, opset_imports=[helper.make_opsetid("", 17)], ir_version=10
    ).SerializeToString()
    return content


def model(
    content: bytes,
    classes: tuple[Label, ...] = (7, 9),
    *,
    label: str | None = None,
    scores: str | None = "scores",
    logits: bool = False,
    batch: bool = True,
) -> OnnxModel:
    binding = Binding(
        "matrix", ("features",), label=label, scores=scores, logits=logits, batch=batch
    )
    return OnnxModel(content, Signature("p", "m", COLUMNS, "t", classes, binding))


def rows(*pairs: tuple[float, float]) -> dict[str, np.ndarray]:
    values = np.array(pairs, np.float32).reshape(-1, 2)
    return {"a": values[:, 0], "b": values[:, 1]}


def test_without_a_label_the_largest_score_decides() -> None:
    indices, scores = model(graph()).predict(rows((0.9, 0.1), (0.2, 0.8)))
    assert indices.tolist() == [0, 1]
    np.testing.assert_allclose(scores, [[0.9, 0.1], [0.2, 0.8]])


def test_a_label_is_looked_up_among_the_classes() -> None:
    indices, _ = model(graph(("label", "scores")), (9, 7), label="label").predict(rows((0.9, 0.1)))
    assert indices.tolist() == [1]


def test_a_model_without_scores_is_sure_of_its_label() -> None:
    _, scores = model(graph(("label",)), label="label", scores=None).predict(rows((0.2, 0.8)))
    assert scores.tolist() == [[0, 1]]


def test_logits_become_probabilities() -> None:
    _, scores = model(graph(), logits=True).predict(rows((1000.0, 1000.0), (0.0, 1.0)))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(scores[0], [0.5, 0.5])


def test_a_graph_of_one_row_is_run_row_by_row() -> None:
    indices, _ = model(graph(batch=1), batch=False).predict(rows((1, 0), (0, 1), (1, 0)))
    assert indices.tolist() == [0, 1, 0]


def test_no_rows_give_no_answers() -> None:
    indices, scores = model(graph()).predict(rows())
    assert (len(indices), scores.shape) == (0, (0, 2))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ArtifactError, match="Expected an ONNX model"):
        open_session(b"not a model")


def test_a_graph_that_does_not_fit_its_signature_is_refused() -> None:
    with pytest.raises(ArtifactError, match="expected outputs odds, got scores"):
        model(graph(), scores="odds")
    binding = Binding("matrix", ("inputs",), label=None, scores="scores")
    with pytest.raises(ArtifactError, match="expected inputs inputs, got features"):
        OnnxModel(graph(), Signature("p", "m", COLUMNS, "t", (7, 9), binding))


def test_a_graph_that_fails_says_so_without_a_traceback() -> None:
    broken = model(graph(batch=1))
    with pytest.raises(ArtifactError, match="p/m failed"):
        broken.predict(rows((1, 0), (0, 1)))
