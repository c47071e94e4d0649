"""The last steps, for each model: train, evaluate, register."""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from timonel.data.files import locate
from timonel.pipeline.context import Context, Part, indices
from timonel.pipeline.runner import Report, Runner, code_of
from timonel.project import Model, Pretrained
from timonel.runtime import OnnxModel
from timonel.signature import Label, Signature, compatible
from timonel.stores.aliases import Aliases
from timonel.stores.artifacts import fetch_version, save_version
from timonel.stores.versions import EMBEDDED, Version
from timonel.training import gate as gates
from timonel.training import search
from timonel.training.card import card
from timonel.training.design import design_matrix
from timonel.training.evaluate import Evaluation, confusion_figure, evaluate
from timonel.training.export import pretrained, to_onnx
from timonel.training.reference import reference_rows
from timonel.training.report import report_figure

__all__ = ["Judged", "judge", "register", "train", "unchanged", "write_files"]


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


@dataclass(frozen=True)
class Judged:
    """A candidate's results on the held-out rows, the gate's decision, and whom it was held to."""

    evaluation: Evaluation
    decision: gates.Decision
    champion: Version | None

    @property
    def passed(self) -> bool:
        """Whether it may become champion."""
        return self.decision.passed


def judge(
    runner: Runner,
    context: Context,
    model: Model,
    split: Mapping[str, Any],
    trained: Mapping[str, Any],
    seed: int,
) -> Judged:
    """Evaluate the candidate on the test rows, beside the champion of this moment."""
    project = context.project
    found: list[Judged] = []

    def act(report: Report) -> Mapping[str, Any]:
        test = context.part(split["key"], "test")
        signature = Signature.from_json(trained["signature"].encode())
        classes = _all_classes(context.classes(split["key"]), signature.classes, test.y)
        content = context.objects.get(trained["onnx_key"])
        predicted, scores = _answers(content, signature, test, classes)
        y = indices(test.y, classes)
        evaluation = evaluate(y, predicted, scores, classes, model.metric, seed=seed)
        champion = context.versions.champion(project.name, model.name)
        held = _held(context, champion, signature, test, classes) if champion else None
        decision = gates.judge(
            project.gate,
            candidate=gates.Held("the candidate", predicted),
            champion=held,
            metric=model.metric,
            y=y,
            classes=classes,
            spread=trained.get("spread"),
            champion_spread=champion.metrics.get("spread") if champion and held else None,
            seed=seed,
        )
        found.append(Judged(evaluation, decision, champion))
        return {
            "evaluation": evaluation.to_dict(),
            "passed": decision.passed,
            "evidence": decision.evidence,
            "note": decision.sentence,
        }

    runner.step(f"evaluate/{model.name}", act)
    return found[0]


def _held(
    context: Context,
    champion: Version,
    signature: Signature,
    test: Part,
    classes: tuple[Label, ...],
) -> gates.Held | None:
    """The champion's answers on the same rows; None when it takes other fields by now."""
    folder = fetch_version(champion.digest, context.objects, context.settings.serving_folder)
    former = Signature.from_json((folder / "signature.json").read_bytes())
    if any(d.breaking for d in compatible(signature, former)):
        return None
    content = (folder / "model.onnx").read_bytes()
    predicted, _ = _answers(content, former, test, classes)
    return gates.Held(champion.label, predicted)


def _answers(
    content: bytes, signature: Signature, part: Part, classes: tuple[Label, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """A graph's answers as indices into `classes`, and its probabilities in their order."""
    graph = OnnxModel(content, signature, threads=0)
    own, scores = graph.predict(part.arrays)
    place = np.array([classes.index(label) for label in signature.classes], dtype=np.int64)
    spread = np.zeros((len(own), len(classes)), np.float32)
    spread[:, place] = scores
    return place[own], spread


def _all_classes(*lists: Any) -> tuple[Label, ...]:
    return tuple(dict.fromkeys(label for labels in lists for label in labels))


def register(
    runner: Runner,
    context: Context,
    model: Model,
    ingested: Mapping[str, Any],
    split: Mapping[str, Any],
    trained: Mapping[str, Any],
    judged: Judged,
    seed: int,
) -> Version:
    """Seal the version, record it in MLflow and the database, and let it serve if it passed."""
    made: list[Version] = []

    def act(report: Report) -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_files(folder, context, model, ingested, split, trained, judged, seed)
            digest = save_version(folder, context.objects)
            report("recording it in MLflow", None)
            number = _register_in_mlflow(context, model, folder, digest, ingested, trained, judged)
        version = _settle(context, model, number, digest, ingested, trained, judged)
        made.append(version)
        return {
            "version": version.label,
            "state": version.state,
            "digest": digest,
            "note": f"{version.label} is {version.state}: {judged.decision.sentence}",
        }

    runner.step(f"register/{model.name}", act)
    return made[0]


def write_files(
    folder: Path,
    context: Context,
    model: Model,
    ingested: Mapping[str, Any],
    split: Mapping[str, Any],
    trained: Mapping[str, Any],
    judged: Judged,
    seed: int,
) -> None:
    """Write a version's files into an empty folder."""
    project = context.project
    signature = Signature.from_json(trained["signature"].encode())
    (folder / "model.onnx").write_bytes(context.objects.get(trained["onnx_key"]))
    (folder / "signature.json").write_text(trained["signature"])
    reference_rows(
        context.part(split["key"], "train").frame,
        project.columns,
        project.target,
        limit=2_000 if project.columns[0].image else 20_000,
    ).write_parquet(folder / "reference.parquet", compression="zstd")
    (folder / "metrics.json").write_text(
        json.dumps(_metrics(ingested, split, trained, judged, seed), indent=2) + "\n"
    )
    score = trained.get("score")
    (folder / "card.md").write_text(
        card(
            signature=signature,
            version=f"{project.name}/{model.name}",
            description=project.description,
            evaluation=judged.evaluation,
            origin=ingested["origin"],
            dataset=split["key"],
            rows=split["counts"],
            notes=ingested["notes"],
            embedded=ingested["embedded"],
            estimator=trained["estimator"],
            parameters=trained["parameters"],
            cross_validation=None if score is None else (score, trained["spread"]),
            seed=seed,
            gate=judged.decision.sentence,
            made=datetime.fromtimestamp(context.clock(), UTC).date().isoformat(),
        )
    )
    recipe = model.recipe
    if isinstance(recipe, Pretrained) and recipe.card:
        with (folder / "card.md").open("a") as file:
            file.write(f"\n{recipe.card.read_text()}")


def _origin(ingested: Mapping[str, Any]) -> dict[str, str]:
    """Where a version's rows came from, as tags of its run."""
    embedded = str(ingested["embedded"]).lower()
    return {"timonel.origin": ingested["origin"], "timonel.embedded": embedded}


def _metrics(
    ingested: Mapping[str, Any],
    split: Mapping[str, Any],
    trained: Mapping[str, Any],
    judged: Judged,
    seed: int,
) -> dict[str, Any]:
    return {
        "evaluation": judged.evaluation.to_dict(),
        "score": trained.get("score"),
        "spread": trained.get("spread"),
        "parameters": trained["parameters"],
        "parity": trained.get("parity"),
        "seed": seed,
        "dataset": split["key"],
        "rows": split["counts"],
        "origin": ingested["origin"],
        "embedded": ingested["embedded"],
        "notes": ingested["notes"],
    }


def _register_in_mlflow(
    context: Context,
    model: Model,
    folder: Path,
    digest: str,
    ingested: Mapping[str, Any],
    trained: Mapping[str, Any],
    judged: Judged,
) -> int:
    project, registry = context.project, context.registry
    metrics = {name: found.value for name, found in judged.evaluation.metrics.items()}
    tested = {f"test_{name}": value for name, value in metrics.items()}
    run, uri = trained.get("mlflow_run"), trained.get("mlflow_model")
    if run is None or uri is None:
        signature = Signature.from_json(trained["signature"].encode())
        run = registry.start(
            project.experiment or project.name,
            f"{project.name}/{model.name}",
            tags={"timonel.run": context.run_id, "timonel.model": model.name},
        )
        uri = registry.log_onnx(
            run,
            (folder / "model.onnx").read_bytes(),
            signature.columns,
            signature.binding,
            metrics=tested,
        )
        registry.finish(run)
    registry.log(run, metrics=tested, tags=_origin(ingested))
    registry.log_file(run, "figures/confusion.png", confusion_figure(judged.evaluation))
    registry.log_file(run, "figures/report.png", report_figure(judged.evaluation))
    registry.log_folder(run, folder, "timonel")
    return registry.register(
        project.registered(model.name),
        run,
        uri,
        tags={
            "timonel.artifact": digest,
            "timonel.run": context.run_id,
            "timonel.gate": "passed" if judged.passed else "refused",
        },
        description=judged.decision.sentence,
    )


def _settle(
    context: Context,
    model: Model,
    number: int,
    digest: str,
    ingested: Mapping[str, Any],
    trained: Mapping[str, Any],
    judged: Judged,
) -> Version:
    project = context.project
    names = (project.name, model.name, number)
    who, reason = f"run {context.run_id}", judged.decision.sentence
    context.versions.add(
        *names,
        digest=digest,
        who=who,
        reason=reason,
        run_id=context.run_id,
        metrics={
            "metric": model.metric,
            "evaluation": judged.evaluation.to_dict(),
            "score": trained.get("score"),
            "spread": trained.get("spread"),
            "embedded": ingested["embedded"],
        },
    )
    evidence = judged.decision.evidence
    if not judged.passed:
        return context.versions.move(*names, "refused", who=who, reason=reason, evidence=evidence)
    context.versions.move(*names, "challenger", who=who, reason=reason, evidence=evidence)
    # Its files are on the disk before it is named, so that workers of this home follow at once.
    fetch_version(digest, context.objects, context.settings.serving_folder)
    champion = context.versions.move(
        *names, "champion", who=who, reason=reason, evidence={"rollout": "all-at-once"}
    )
    Aliases(context.database).put(context.registry, project, model.name, number, who=who)
    return champion


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
