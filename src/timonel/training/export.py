"""From a fitted estimator, or a file, to an ONNX graph that answers the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from timonel.errors import ArtifactError, DefinitionError, ParityError
from timonel.project import Pretrained
from timonel.runtime import OnnxModel, open_session
from timonel.schema import Column
from timonel.signature import Binding, Label, Signature
from timonel.tensors import Arrays, binding_for
from timonel.training.design import design_matrix

if TYPE_CHECKING:
    import onnx

__all__ = ["Exported", "Parity", "parity", "pretrained", "to_onnx"]

_TIE = 1e-6
_CLOSE = 1e-5
_SHOWN = 5


@dataclass(frozen=True)
class Parity:
    """How closely a graph answered as its estimator did.

    `ties` are rows where the labels differ and the estimator's two best were equal; `largest` is
    the largest difference of a probability (None without probabilities).
    """

    rows: int
    ties: int
    largest: float | None


@dataclass(frozen=True)
class Exported:
    """An ONNX file, how it is fed, and its classes in the order of its probabilities."""

    content: bytes
    binding: Binding
    classes: tuple[Label, ...]
    parity: Parity


def to_onnx(estimator: Any, columns: Sequence[Column], arrays: Arrays) -> Exported:
    """Convert a fitted classifier, and check it on the rows of `arrays`.

    Raises:
        ParityError: it cannot be converted, or answers otherwise than the estimator.
    """
    binding = binding_for(columns)
    scores = hasattr(estimator, "predict_proba")
    classes = tuple(np.asarray(estimator.classes_).tolist())
    binding = Binding(
        binding.layout,
        binding.inputs,
        shape=binding.shape,
        low=binding.low,
        high=binding.high,
        label="label",
        scores="probabilities" if scores else None,
    )
    content = _convert(estimator, columns, binding)
    found = parity(estimator, content, binding, columns, arrays)
    return Exported(content, binding, classes, found)


def parity(
    estimator: Any, content: bytes, binding: Binding, columns: Sequence[Column], arrays: Arrays
) -> Parity:
    """Compare a graph's answers with the estimator's on the rows of `arrays`.

    Labels must be identical, except where the estimator's two best are equal within 1e-6, and
    probabilities within 1e-5.

    Raises:
        ParityError: they are not; shows the worst rows.
    """
    classes = tuple(np.asarray(estimator.classes_).tolist())
    model = OnnxModel(
        content, Signature("export", "model", tuple(columns), "target", classes, binding)
    )
    X = design_matrix(columns, arrays)
    rows = len(X)
    if rows == 0:
        raise ParityError(
            "Expected rows to compare the exported model on, got none.",
            remedy="Give Split(validation=…) a share.",
        )
    indices, probabilities = model.predict(arrays)
    theirs = np.asarray(estimator.predict(X))
    labels = np.array(classes, dtype=theirs.dtype if theirs.dtype != object else object)
    wrong = labels[indices] != theirs
    close = np.zeros(rows)
    expected = None
    if binding.scores is not None:
        expected = np.asarray(estimator.predict_proba(X), np.float64)
        close = np.abs(expected - probabilities).max(axis=1)
        close[~np.isfinite(close)] = np.inf
    tied = wrong & _tied(estimator, X, expected)
    bad = np.flatnonzero((wrong & ~tied) | (close > _CLOSE))
    if bad.size:
        worst = bad[np.argsort(-(close[bad] + 10.0 * wrong[bad]), kind="stable")][:_SHOWN]
        shown = "\n".join(
            _row(int(row), columns, arrays, theirs[row], expected, classes[indices[row]],
                 probabilities)
            for row in worst
        )  # fmt: skip
        raise ParityError(
            f"Expected the exported model to answer as {type(_last(estimator)).__name__} does on "
            f"{rows:,} validation rows (labels identical, probabilities within {_CLOSE:g}), got "
            f"{bad.size:,} rows with other answers. The worst:\n{shown}\n",
            remedy="Use another estimator, or one that trains and answers in float32.",
        )
    largest = float(close.max()) if expected is not None else None
    return Parity(rows, int(tied.sum()), largest)


def pretrained(
    content: bytes, given: Pretrained, columns: Sequence[Column], classes: Sequence[Label]
) -> Binding:
    """How a pretrained ONNX file is fed, as read from the file itself.

    Raises:
        DefinitionError: its inputs or outputs do not fit the project.
    """
    where = f"Pretrained file {given.file.name}"
    try:
        session = open_session(content)
    except ArtifactError as error:
        raise DefinitionError(f"{where}: {error.message}") from None
    layout = binding_for(columns)
    inputs = {item.name: item for item in session.get_inputs()}
    if layout.layout == "columns":
        missing = [name for name in layout.inputs if name not in inputs]
        if missing or len(inputs) != len(layout.inputs):
            raise DefinitionError(
                f"{where}: expected one input a feature ({', '.join(layout.inputs)}), "
                f"got {', '.join(inputs)}."
            )
        names, batch = layout.inputs, True
        shape: tuple[int, ...] = ()
    else:
        names, shape, batch = _single_input(where, list(inputs.values()), layout, columns)
    label, scores = _outputs(where, session.get_outputs(), given, classes)
    return Binding(
        layout.layout,
        names,
        shape=shape,
        low=given.low,
        high=given.high,
        label=label,
        scores=scores,
        logits=given.logits,
        batch=batch,
    )


def _single_input(
    where: str, inputs: list[Any], layout: Binding, columns: Sequence[Column]
) -> tuple[tuple[str, ...], tuple[int, ...], bool]:
    size = layout.shape[0] if layout.layout == "image" else len(columns)
    described = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs)
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        raise DefinitionError(
            f"{where}: expected one float32 input of {size} numbers a row, got {described}."
        )
    first, *rest = inputs[0].shape or [None]
    image = columns[0].image
    if rest and all(isinstance(side, int) for side in rest):
        shape = tuple(rest)
    elif image is not None and len(rest) == 3:  # a graph may leave height and width open
        shape = (1, image.height, image.width)
    else:
        shape = (size,)
    if int(np.prod(shape)) != size:
        raise DefinitionError(
            f"{where}: expected an input of {size} numbers a row, got {described}."
        )
    return (
        (inputs[0].name,),
        shape if layout.layout == "image" else (),
        not isinstance(first, int),
    )


def _outputs(
    where: str, outputs: list[Any], given: Pretrained, classes: Sequence[Label]
) -> tuple[str | None, str | None]:
    have = {item.name: item for item in outputs}
    described = ", ".join(f"{item.name} {item.type} {item.shape}" for item in outputs)
    for role, name in (("label", given.label), ("scores", given.scores)):
        if name is not None and name not in have:
            raise DefinitionError(
                f"{where}: expected an output {name!r} for {role}, got {described}."
            )
    floats = [
        name
        for name, item in have.items()
        if item.type in ("tensor(float)", "tensor(double)") and name != given.label
    ]
    scores = given.scores or (floats[0] if len(floats) == 1 else None)
    if scores is None and (floats or given.label is None):
        raise DefinitionError(
            f"{where}: expected one float output with a score a class, got {described}.",
            remedy="Name it: Pretrained(scores=…), or Pretrained(label=…) when there is none.",
        )
    if scores is not None:
        shape = have[scores].shape
        width = shape[-1] if shape else None
        if isinstance(width, int) and width != len(classes):
            raise DefinitionError(
                f"{where}: expected {len(classes)} scores a row, one a class of the project, "
                f"got output {scores} {shape}.",
                remedy="List the classes that the file knows, in its order: Project(classes=…).",
            )
    return given.label, scores


def _convert(estimator: Any, columns: Sequence[Column], binding: Binding) -> bytes:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    if binding.layout == "columns":
        kinds = {"category": StringTensorType}
        types = [
            (column.name, kinds.get(column.kind, FloatTensorType)([None, 1])) for column in columns
        ]
    else:
        size = binding.shape[0] if binding.layout == "image" else len(columns)
        types = [(binding.inputs[0], FloatTensorType([None, size]))]
    exact = _exact(estimator)
    try:
        options = {id(exact): {"zipmap": False}} if binding.scores else None
        graph = convert_sklearn(exact, initial_types=types, options=options)
    except Exception as error:  # skl2onnx raises whatever its converters do
        raise ParityError(
            f"Expected {type(_last(estimator)).__name__} to convert to ONNX, got "
            f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}",
            remedy="Use an estimator that skl2onnx supports: "
            "https://onnx.ai/sklearn-onnx/supported.html",
        ) from error
    return _renamed(graph, [name for name in (binding.label, binding.scores) if name])


def _last(estimator: Any) -> Any:
    steps = getattr(estimator, "steps", None)
    return steps[-1][1] if steps else estimator


def _exact(estimator: Any) -> Any:
    """The estimator in a form that converts exactly.

    skl2onnx gives a binary LDA wrong probabilities. A logistic regression with the same
    coefficients has the same decision and the same probabilities, and converts exactly.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    if type(estimator) is Pipeline:
        last = _exact(estimator.steps[-1][1])
        if last is estimator.steps[-1][1]:
            return estimator
        return Pipeline([*estimator.steps[:-1], (estimator.steps[-1][0], last)])
    if type(estimator) is LinearDiscriminantAnalysis and len(estimator.classes_) == 2:
        same = LogisticRegression()
        same.classes_ = estimator.classes_
        same.coef_ = np.asarray(estimator.coef_)
        same.intercept_ = np.asarray(estimator.intercept_)
        same.n_features_in_ = estimator.n_features_in_
        same.n_iter_ = np.array([0])
        return same
    return estimator


def _renamed(graph: "onnx.ModelProto", names: list[str]) -> bytes:
    """The file with its first outputs called `names`, and no others."""
    outputs = graph.graph.output
    del outputs[len(names) :]
    for output, name in zip(outputs, names, strict=True):
        if output.name == name:
            continue
        old, taken = output.name, f"_{name}"
        for node in graph.graph.node:
            for values in (node.input, node.output):
                for position, value in enumerate(values):
                    if value == name:
                        values[position] = taken
                    elif value == old:
                        values[position] = name
        output.name = name
    content: bytes = graph.SerializeToString()
    return content


def _tied(estimator: Any, X: Any, expected: np.ndarray | None) -> np.ndarray:
    if expected is None:
        decision = np.asarray(estimator.decision_function(X), np.float64)
        expected = np.column_stack([-decision, decision]) if decision.ndim == 1 else decision
    best = np.sort(expected, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0] <= _TIE)


def _row(
    row: int,
    columns: Sequence[Column],
    arrays: Arrays,
    theirs: Any,
    expected: np.ndarray | None,
    ours: Label,
    probabilities: np.ndarray,
) -> str:
    values = ", ".join(
        f"{column.name}={'…' if column.kind == 'image' else arrays[column.name][row]}"
        for column in columns[:8]
    )
    left, right = str(theirs), str(ours)
    if expected is not None:
        left += f" {np.round(expected[row][:8], 6).tolist()}"
        right += f" {np.round(probabilities[row][:8].astype(float), 6).tolist()}"
    return f"  row {row} ({values}): trained {left}, exported {right}"
