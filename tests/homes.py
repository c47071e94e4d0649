"""Homes for tests: trained versions in a moment, without MLflow or the whole pipeline."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from fastapi import FastAPI
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from timonel.data.pictures import enlarge
from timonel.monitoring.reference import Reference
from timonel.project import Project, Read, load_project
from timonel.serving.upkeep import Upkeep
from timonel.serving.worker import worker_app
from timonel.settings import Settings
from timonel.signature import Binding, Label, Signature
from timonel.stores.artifacts import save_version
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.versions import Version, Versions
from timonel.tensors import Arrays, arrays_of_frame
from timonel.training.design import design_matrix
from timonel.training.export import Exported, to_onnx

__all__ = [
    "app_of",
    "deploy",
    "deploy_digits",
    "deploy_embedded",
    "deploy_trained",
    "digit_rows",
    "home_at",
    "penguin_rows",
    "store_version",
    "tiny_digits",
]

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


@cache
def digit_rows() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits as the digits project sees them: uint8 (n, 784), labels."""
    digits = load_digits()
    return enlarge(digits.images).reshape(-1, 784), digits.target


@cache
def tiny_digits() -> Exported:
    """A linear model of a digit, fitted in a moment; right on most of what it has seen."""
    project = load_project("digits")
    pixels, labels = digit_rows()
    estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=15, tol=0.1))
    arrays = {"pixels": pixels[:600].astype(np.float32)}
    estimator.fit(arrays["pixels"], labels[:600])
    return to_onnx(estimator, project.columns, arrays)


def deploy(
    project: Project,
    settings: Settings,
    number: int = 1,
    seed: int = 0,
    *,
    champion: bool = True,
) -> Version:
    """Train the project's first model on made-up penguins and make it champion if asked.

    It carries the sketch of a thousand such rows, which windows can be compared with.
    """
    arrays, labels = penguin_rows(seed=seed)
    estimator = make_pipeline(StandardScaler(), LogisticRegression())
    frame = pl.DataFrame(penguin_rows(1_000, seed=99)[0])
    reference = Reference.of_frame(frame, project.columns, sorted(set(labels)), project.drift)
    return deploy_trained(
        project,
        settings,
        estimator,
        arrays,
        labels,
        number=number,
        champion=champion,
        sketch=reference.to_bytes(),
    )


def deploy_trained(
    project: Project,
    settings: Settings,
    estimator: Any,
    arrays: Arrays,
    labels: Sequence[Label],
    *,
    model: str | None = None,
    number: int = 1,
    champion: bool = True,
    sketch: bytes | None = None,
) -> Version:
    """Fit an estimator on rows of the project and make it champion if asked."""
    estimator.fit(design_matrix(project.columns, arrays), labels)
    exported = to_onnx(estimator, project.columns, arrays)
    name = model or project.model_names[0]
    content, classes, binding = exported.content, exported.classes, exported.binding
    return store_version(
        project,
        settings,
        name,
        content,
        classes,
        binding,
        number=number,
        champion=champion,
        sketch=sketch,
    )


def deploy_digits(
    settings: Settings,
    content: bytes | None = None,
    binding: Binding | None = None,
    *,
    model: str = "cnn",
    number: int = 1,
) -> Version:
    """Make an ONNX file (default: `tiny_digits`) champion of a model of the digits."""
    if content is None or binding is None:
        content, binding = tiny_digits().content, tiny_digits().binding
    project = load_project("digits")
    return store_version(project, settings, model, content, range(10), binding, number=number)


def deploy_embedded(
    project: Project, settings: Settings, *, rows: int = 3_000, number: int = 1
) -> None:
    """Train each model once, unsearched, on rows that ship with the project; make it champion."""
    source: Any = project.source
    read = source.sources[-1].read(Read(None, settings.cache_folder, settings.database_url))
    prepared, _ = project.prepared(read.frame)
    frame = prepared.head(rows)
    arrays, labels = arrays_of_frame(project.columns, frame), frame[project.target].to_list()
    for model in project.models:
        recipe: Any = model.recipe
        deploy_trained(project, settings, recipe(), arrays, labels, model=model.name, number=number)


def store_version(
    project: Project,
    settings: Settings,
    model: str,
    content: bytes,
    classes: Sequence[Label],
    binding: Binding,
    *,
    number: int = 1,
    champion: bool = True,
    sketch: bytes | None = None,
) -> Version:
    """Put an ONNX file into the stores as a version, and make it champion if asked."""
    folder = settings.root / "made" / f"{project.name}-{model}-{number}"
    folder.mkdir(parents=True)
    signature = Signature(
        project.name, model, project.columns, project.target, tuple(classes), binding
    )
    (folder / "model.onnx").write_bytes(content)
    (folder / "signature.json").write_bytes(signature.to_json())
    if sketch is not None:
        (folder / "sketch.bin").write_bytes(sketch)
    objects = ObjectStore.open(settings.objects_url)
    versions = Versions(Database.open(settings.database_url))
    names = (project.name, model, number)
    versions.add(*names, digest=save_version(folder, objects), who="test", reason="made by a test")
    versions.move(*names, "challenger", who="test", reason="made by a test")
    if not champion:
        return versions.get(*names)
    return versions.move(*names, "champion", who="test", reason="made by a test")


def app_of(projects: Sequence[Project], settings: Settings, *, at_root: bool = False) -> FastAPI:
    """A worker's application in this process, told once what the home's database says."""
    settings.serving_folder.mkdir(parents=True, exist_ok=True)
    upkeep = Upkeep(settings, projects)
    upkeep.follow()
    return worker_app(projects, settings, at_root=at_root)


def home_at(folder: Path, **given: Any) -> Settings:
    """Settings of a home in a test's folder, untouched by the environment's variables."""
    return Settings(home=folder / "home", **given)
