"""A candidate on the held-out rows, beside the champion of the moment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from timonel.pipeline.context import Context, Part, indices
from timonel.pipeline.feedback import LIVE
from timonel.pipeline.runner import Report, Runner
from timonel.project import Model
from timonel.runtime import OnnxModel
from timonel.signature import Label, Signature, compatible
from timonel.stores.artifacts import fetch_version
from timonel.stores.versions import Version
from timonel.training import gate as gates
from timonel.training.calibration import Calibration, calibrate
from timonel.training.evaluate import Evaluation, evaluate
from timonel.training.recent import Rivals, judge_recent_first

if TYPE_CHECKING:
    import polars

__all__ = ["Judged", "judge"]


@dataclass(frozen=True)
class Judged:
    """A candidate's results on the held-out rows, the gate's decision, and whom it was held to.

    `evaluation`, `calibration` and `answers` are of the rows that are expected from now on: of live
    ones only, where the run has enough of these. `calibration` says how far its probabilities can
    be trusted; None where rows were too few. `answers` has its `prediction` and `probability` for
    each row, in their order.
    """

    evaluation: Evaluation
    decision: gates.Decision
    champion: Version | None
    calibration: Calibration | None
    answers: "polars.DataFrame"

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
    """Evaluate the candidate on the test rows, beside the champion of this moment.

    Where live rows are among them, these are judged first.
    """
    project = context.project
    found: list[Judged] = []

    def act(report: Report) -> Mapping[str, Any]:
        test = context.part(split["key"], "test")
        signature = Signature.from_json(trained["signature"].encode())
        champion = context.versions.champion(project.name, model.name)
        former = _comparable(context, champion, signature) if champion else None
        known = former.classes if former else ()
        classes = _all_classes(context.classes(split["key"]), signature.classes, test.y, known)
        content = context.objects.get(trained["onnx_key"])
        predicted, scores = _answers(content, signature, test, classes)
        y = indices(test.y, classes)
        live = np.zeros(test.rows, bool)
        if LIVE in test.frame.columns:
            live = test.frame[LIVE].to_numpy()
        shown = live if split.get("expects_live") else np.ones(test.rows, bool)
        evaluation = evaluate(
            y[shown], predicted[shown], scores[shown], classes, model.metric, seed=seed
        )
        calibration = calibrate(scores[shown].max(axis=1), (predicted == y)[shown])
        held = _held(context, champion, former, test, classes) if champion and former else None
        rivals = Rivals(
            candidate=gates.Held("the candidate", predicted),
            champion=held,
            metric=model.metric,
            y=y,
            classes=classes,
            spread=trained.get("spread"),
            champion_spread=champion.metrics.get("spread") if champion and held else None,
            seed=seed,
        )
        decision = judge_recent_first(project.gate, rivals, live)
        answers = _told(test, predicted, scores, classes, project.drift.dated).filter(shown)
        found.append(Judged(evaluation, decision, champion, calibration, answers))
        return {
            "evaluation": evaluation.to_dict(),
            "passed": decision.passed,
            "evidence": decision.evidence,
            "note": decision.sentence,
        }

    runner.step(f"evaluate/{model.name}", act)
    return found[0]


def _told(
    test: Part,
    predicted: np.ndarray,
    scores: np.ndarray,
    classes: tuple[Label, ...],
    dated: str | None,
) -> "polars.DataFrame":
    """Answers as the journal has them, and when their rows were."""
    import polars as pl

    probability = scores[np.arange(len(predicted)), predicted]
    labels = [str(classes[place]) for place in predicted.tolist()]
    answers = pl.DataFrame(
        {
            "prediction": pl.Series(labels, dtype=pl.String),
            "probability": pl.Series(np.where(scores.any(axis=1), probability, np.nan)),
        }
    )
    return answers.with_columns(test.frame[dated]) if dated else answers


def _comparable(context: Context, champion: Version, signature: Signature) -> Signature | None:
    """The champion's signature; None when it takes other fields by now.

    It may know classes that the candidate does not: of the rows that it was trained on few may be
    left, and that is no reason to judge the candidate alone.
    """
    folder = _folder(context, champion)
    former = Signature.from_json((folder / "signature.json").read_bytes())
    asked = replace(signature, classes=former.classes)
    return None if any(d.breaking for d in compatible(asked, former)) else former


def _held(
    context: Context,
    champion: Version,
    signature: Signature,
    test: Part,
    classes: tuple[Label, ...],
) -> gates.Held:
    """The champion's answers on the same rows."""
    content = (_folder(context, champion) / "model.onnx").read_bytes()
    predicted, _ = _answers(content, signature, test, classes)
    return gates.Held(champion.label, predicted)


def _folder(context: Context, version: Version) -> Path:
    return fetch_version(version.digest, context.objects, context.settings.serving_folder)


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
