"""A judged candidate as a version: sealed, recorded, and on its way to serve if it passed."""

import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from timonel.data import datasets
from timonel.monitoring.reference import FILE as SKETCH
from timonel.monitoring.reference import Reference
from timonel.pipeline.context import Context
from timonel.pipeline.feedback import expected
from timonel.pipeline.judge import Judged
from timonel.pipeline.runner import Report, Runner
from timonel.project import Model, Pretrained
from timonel.rollouts import AllAtOnce
from timonel.signature import Signature
from timonel.stores.aliases import Aliases
from timonel.stores.artifacts import fetch_version, save_version
from timonel.stores.versions import Version
from timonel.training.card import card
from timonel.training.evaluate import confusion_figure
from timonel.training.reference import reference_rows
from timonel.training.report import report_figure

__all__ = ["register", "write_files"]


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
    # Of all its rows, not of the training side only: neighbours must be those that came together.
    reference = Reference.of_frame(
        expected(datasets.load(split["key"], context.objects), split),
        project.columns,
        signature.classes,
        project.drift,
        answers=judged.answers,
    )
    (folder / SKETCH).write_bytes(reference.to_bytes())
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
        "calibration": judged.calibration.to_dict() if judged.calibration else None,
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
    challenger = context.versions.move(
        *names, "challenger", who=who, reason=reason, evidence=evidence
    )
    # Its files are on the disk before it is named, so that workers of this home follow at once.
    fetch_version(digest, context.objects, context.settings.serving_folder)
    compared = context.versions.champion(project.name, model.name) is not None
    if compared and project.rollout != AllAtOnce():
        return challenger  # the controller begins its rollout
    champion = context.versions.move(
        *names, "champion", who=who, reason=reason, evidence={"rollout": "all at once"}
    )
    Aliases(context.database).put(context.registry, project, model.name, number, who=who)
    return champion
