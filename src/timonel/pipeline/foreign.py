"""A model that was made elsewhere, as a graph that takes and answers what the project does."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from timonel.errors import ArtifactError, ParityError, TimonelError
from timonel.pipeline.context import Context
from timonel.project import File, Model, Pretrained
from timonel.runtime import OnnxModel, open_session
from timonel.schema import Column
from timonel.signature import Signature
from timonel.training.export import pretrained, to_onnx

__all__ = ["folder_digest", "graph_of"]

_TIE = 1e-6


def graph_of(
    context: Context, model: Model, found: Any, split: Mapping[str, Any]
) -> tuple[Signature, bytes, dict[str, Any]]:
    """The signature, the ONNX file, and how it came to be: `estimator`, `parity`, `checked`.

    `found` is a fitted estimator, or the bytes of an ONNX file. Both are tried on the validation
    rows of the dataset that `split` describes.

    Raises:
        ArtifactError: it is no classifier of the project's columns.
        ParityError: it cannot be converted, or answers otherwise once it is.
        DefinitionError: an ONNX file's inputs or outputs do not fit the project.
    """
    if isinstance(found, bytes):
        return _of_file(context, model, found, split)
    return _of_estimator(context, model, found, split)


def folder_digest(folder: Path) -> str:
    """A SHA-256 over all files of a folder, by their names."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return total.hexdigest()


def _of_estimator(
    context: Context, model: Model, estimator: Any, split: Mapping[str, Any]
) -> tuple[Signature, bytes, dict[str, Any]]:
    project = context.project
    kind = type(estimator).__name__
    _check_inputs(estimator, project.columns)
    held = context.part(split["key"], "validation")
    try:
        with warnings.catch_warnings():
            # Trained on a frame or not, it is given what serving gives.
            warnings.filterwarnings("ignore", "X (does not have valid|has) feature names")
            exported = to_onnx(estimator, project.columns, held.arrays)
    except TimonelError:
        raise
    except Exception as error:  # an estimator that someone made may raise anything
        raise ParityError(
            f"Expected {kind} to answer the project's rows, got {type(error).__name__}: {error}"
        ) from error
    signature = Signature(
        project.name,
        model.name,
        project.columns,
        project.target,
        exported.classes,
        exported.binding,
    )
    rows = exported.parity.rows
    return signature, exported.content, {
        "estimator": str(estimator).replace("\n", " "),
        "parity": asdict(exported.parity),
        "checked": f"in ONNX it answers all {rows:,} held-out rows as {kind} did",
    }  # fmt: skip


def _of_file(
    context: Context, model: Model, content: bytes, split: Mapping[str, Any]
) -> tuple[Signature, bytes, dict[str, Any]]:
    project = context.project
    classes = context.classes(split["key"])
    named = File(f"of {project.registered(model.name)}")
    recipe = model.recipe
    given = recipe if isinstance(recipe, Pretrained) else Pretrained(file=named)
    labels = [
        output.name
        for output in open_session(content).get_outputs()
        if output.type in ("tensor(int64)", "tensor(string)")
    ]
    label = given.label or (labels[0] if len(labels) == 1 else None)
    binding = pretrained(content, replace(given, file=named, label=label), project.columns, classes)
    signature = Signature(
        project.name, model.name, project.columns, project.target, classes, binding
    )
    held = context.part(split["key"], "validation")
    try:
        answered, scores = OnnxModel(content, signature).predict(held.arrays)
    except KeyError as error:
        raise ArtifactError(
            f"Expected answers among {', '.join(map(str, classes))}, got {error}."
        ) from error
    best = np.sort(scores, axis=1)[:, -2:]
    sure = best[:, -1] - best[:, 0] > _TIE
    if (scores.argmax(axis=1) != answered)[sure].any():
        raise ArtifactError(
            "Expected one score a class, in the project's order "
            f"({', '.join(map(str, classes))}), got scores that disagree with the labels."
        )
    return signature, content, {
        "estimator": "ONNX file registered in MLflow",
        "checked": f"an ONNX file, it answers all {held.rows:,} held-out rows",
    }  # fmt: skip


def _check_inputs(estimator: Any, columns: Sequence[Column]) -> None:
    """Raise ArtifactError for what is no classifier of these columns in this order."""
    if not hasattr(estimator, "predict") or not hasattr(estimator, "classes_"):
        raise ArtifactError(f"Expected a fitted classifier, got {type(estimator).__name__}.")
    names = [column.name for column in columns]
    known = getattr(estimator, "feature_names_in_", None)
    given = None if known is None else [str(name) for name in np.asarray(known).tolist()]
    if given is not None and given != names and not columns[0].image:
        raise ArtifactError(
            f"Expected a model of {', '.join(names)}, in this order, got one of {', '.join(given)}."
        )
    wanted = columns[0].image.size if columns[0].image else len(columns)
    count = getattr(estimator, "n_features_in_", wanted)
    if count != wanted:
        raise ArtifactError(
            f"Expected a model of {wanted} numbers a row ({', '.join(names)}), got one of {count}."
        )
