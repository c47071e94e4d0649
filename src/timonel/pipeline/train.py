"""One model's graph: searched, fitted and exported, or taken from a pretrained file."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from timonel.data.files import locate
from timonel.pipeline.context import Context
from timonel.pipeline.runner import Report, Runner, code_of
from timonel.project import Model, Pretrained
from timonel.signature import Signature
from timonel.stores.artifacts import fetch_version
from timonel.stores.versions import EMBEDDED, Version
from timonel.training import search
from timonel.training.design import design_matrix
from timonel.training.export import pretrained, to_onnx

__all__ = ["train", "unchanged"]


def train(
    runner: Runner, context: Context, model: Model, split: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """A graph and how it came to be: `onnx_key`, `signature`, `parameters`, MLflow's ids."""
    recipe = model.recipe
    depends: dict[str, Any] = {
        "rows": split["key"],
        "classes": list(context.classes(split["key"])),
        "model": model.name,
    }
    if isinstance(recipe, Pretrained):
        path = locate(recipe.file, context.read(lambda phrase, share: None))
        depends |= {"file": _sha256(path), "binding": asdict(recipe) | {"card": str(recipe.card)}}
    else:
        depends |= {
            "recipe": code_of(recipe),
            "augment": code_of(model.augment),
            "search": repr(model.search),
            "scoring": [model.metric, model.folds, model.repeats, model.log_models],
            "registry": context.settings.registry_url,
            "seed": seed,
            "code": [code_of(search.fit), code_of(to_onnx)],
        }

    def act(report: Report) -> Mapping[str, Any]:
        if isinstance(recipe, Pretrained):
            return _take(context, model, recipe, split)
        return _fit(context, model, split, seed, report)

    return runner.step(f"train/{model.name}", act, depends=depends)


def _take(
    context: Context, model: Model, recipe: Pretrained, split: Mapping[str, Any]
) -> Mapping[str, Any]:
    project = context.project
    content = locate(recipe.file, context.read(lambda phrase, share: None)).read_bytes()
    classes = context.classes(split["key"])
    binding = pretrained(content, recipe, project.columns, classes)
    signature = Signature(
        project.name, model.name, project.columns, project.target, classes, binding
    )
    return {
        "onnx_key": context.objects.put(content),
        "signature": signature.to_json().decode(),
        "estimator": f"pretrained file {Path(recipe.file.name).name}",
        "parameters": {},
        "note": "pretrained: nothing to train",
    }


def _fit(
    context: Context, model: Model, split: Mapping[str, Any], seed: int, report: Report
) -> Mapping[str, Any]:
    project = context.project
    rows, held = (context.part(split["key"], side) for side in ("train", "validation"))
    classes = context.classes(split["key"])
    experiment = project.experiment or project.name
    registry = context.registry
    parent = registry.start(
        experiment,
        f"{project.name}/{model.name}",
        parameters={"seed": seed, "folds": model.folds, "repeats": model.repeats},
        tags={"timonel.run": context.run_id, "timonel.model": model.name},
    )
    registry.log_dataset(
        parent,
        project.name,
        split["key"].rpartition("/")[2],
        source=split["key"],
        columns=project.columns,
        rows=rows.rows,
    )
    logged: dict[int, tuple[str, str | None]] = {}
    tracking = 0.0

    def on_trial(trial: search.Trial) -> None:
        nonlocal tracking
        started = time.perf_counter()
        logged[trial.number] = _log_trial(context, model, parent, trial)
        tracking += time.perf_counter() - started

    started = time.perf_counter()
    try:
        fitted = search.fit(
            model,
            design_matrix(project.columns, rows.arrays),
            rows.y,
            classes,
            validation=(design_matrix(project.columns, held.arrays), held.y),
            seed=seed,
            jobs=context.settings.jobs,
            on_trial=on_trial,
            report=report,
        )
        seconds = time.perf_counter() - started
        report("exporting to ONNX", None)
        exported = to_onnx(fitted.estimator, project.columns, held.arrays)
        best = next(t for t in fitted.trials if t.parameters == fitted.parameters)
        run, uri = logged[best.number]
        started = time.perf_counter()
        if uri is None:
            uri = registry.log_estimator(run, fitted.estimator, project.columns)
        scores = {model.metric: fitted.score, f"{model.metric}_spread": fitted.spread}
        registry.log(parent, metrics=scores, parameters=fitted.parameters)
        registry.finish(parent)
        tracking += time.perf_counter() - started
    except BaseException:
        registry.finish(parent, "FAILED")
        raise
    signature = Signature(
        project.name,
        model.name,
        project.columns,
        project.target,
        exported.classes,
        exported.binding,
    )
    return {
        "onnx_key": context.objects.put(exported.content),
        "signature": signature.to_json().decode(),
        "estimator": str(fitted.estimator).replace("\n", " "),
        "parameters": fitted.parameters,
        "score": fitted.score,
        "spread": fitted.spread,
        "fold_scores": fitted.fold_scores,
        "trials": len(fitted.trials),
        "parity": asdict(exported.parity),
        "seconds": round(seconds, 2),
        "tracking_seconds": round(tracking, 2),
        "mlflow_run": run,
        "mlflow_model": uri,
        "note": f"{model.metric} {fitted.score:.4f} ± {fitted.spread:.4f} over "
        f"{len(fitted.fold_scores)} folds, best of {len(fitted.trials)} trials in {seconds:.1f} s",
    }


def _log_trial(
    context: Context, model: Model, parent: str, trial: search.Trial
) -> tuple[str, str | None]:
    """A trial as a run nested in the pipeline's; its id and, when its model is kept, that's URI."""
    project, registry = context.project, context.registry
    run = registry.start(
        project.experiment or project.name,
        f"{model.name} trial {trial.number}",
        parent=parent,
        parameters=trial.parameters,
        tags={"timonel.run": context.run_id, "timonel.state": trial.state},
    )
    metrics = {}
    if trial.state == "complete":
        metrics = {
            model.metric: trial.score,
            f"{model.metric}_spread": trial.spread,
            "seconds": trial.seconds,
        }
    registry.log(run, metrics=metrics)
    uri = None
    if trial.estimator is not None:
        uri = registry.log_estimator(run, trial.estimator, project.columns, metrics=metrics)
        trial.estimator = None if model.log_models == "all" else trial.estimator
    registry.finish(run, "FAILED" if trial.state == "failed" else "FINISHED")
    return run, uri


def unchanged(context: Context, model: Model, trained: Mapping[str, Any]) -> Version | None:
    """The champion, when it is the very graph that was just trained; what ships does not count."""
    champion = context.versions.champion(context.project.name, model.name)
    if champion is None or champion.number == EMBEDDED:
        return None
    folder = fetch_version(champion.digest, context.objects, context.settings.serving_folder)
    same = trained["onnx_key"].endswith(_sha256(folder / "model.onnx"))
    return champion if same else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
