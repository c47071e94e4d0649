"""Homes for tests: a trained version in a moment, without MLflow or the whole pipeline."""

from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from timonel.project import Project
from timonel.settings import Settings
from timonel.signature import Signature
from timonel.stores.artifacts import save_version
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.versions import Version, Versions
from timonel.tensors import Arrays
from timonel.training.design import design_matrix
from timonel.training.export import to_onnx

__all__ = ["deploy", "penguin_rows"]

# Typical measurements of the three species: bill length and depth, flipper (mm), mass (g).
_TYPICAL = np.array([[38.8, 18.3, 190, 3700], [48.8, 18.4, 196, 3730], [47.5, 15.0, 217, 5080]])


def penguin_rows(count: int = 120, seed: int = 0) -> tuple[Arrays, list[int]]:
    """Made-up but learnable rows: arrays and species 0, 1, 2."""
    rng = np.random.default_rng(seed)
    species = rng.integers(0, 3, count)
    rows = _TYPICAL[species] * rng.normal(1.0, 0.03, (count, 4))
    names = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    arrays = {name: rows[:, i].astype(np.float32) for i, name in enumerate(names)}
    return arrays, species.tolist()


def deploy(project: Project, settings: Settings, number: int = 1, seed: int = 0) -> Version:
    """Train the project's first model on made-up penguins and make it champion."""
    arrays, labels = penguin_rows(seed=seed)
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    estimator.fit(design_matrix(project.columns, arrays), labels)
    exported = to_onnx(estimator, project.columns, arrays)
    model = project.model_names[0]
    folder = settings.root / "made" / f"{model}-{number}"
    _write(folder, project, model, exported.content, exported.classes, exported.binding)
    objects = ObjectStore.open(settings.objects_url)
    versions = Versions(Database.open(settings.database_url))
    names = (project.name, model, number)
    versions.add(*names, digest=save_version(folder, objects), who="test", reason="made by a test")
    versions.move(*names, "challenger", who="test", reason="made by a test")
    return versions.move(*names, "champion", who="test", reason="made by a test")


def _write(
    folder: Path, project: Project, model: str, content: bytes, classes: object, binding: object
) -> None:
    folder.mkdir(parents=True)
    signature = Signature(
        project.name,
        model,
        project.columns,
        project.target,
        classes,  # type: ignore[arg-type]
        binding,  # type: ignore[arg-type]
    )
    (folder / "model.onnx").write_bytes(content)
    (folder / "signature.json").write_bytes(signature.to_json())
