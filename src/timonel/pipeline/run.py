"""A project's pipeline from end to end: one run, all of its models."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from timonel.errors import NotFound
from timonel.ids import Ids
from timonel.pipeline.context import Context
from timonel.pipeline.feedback import add_feedback
from timonel.pipeline.judge import judge
from timonel.pipeline.layout import lay_out
from timonel.pipeline.register import register
from timonel.pipeline.rows import ingest, split_rows, validate
from timonel.pipeline.runner import Event, Runner
from timonel.pipeline.train import train, unchanged
from timonel.project import Model, Project
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.objects import ObjectStore
from timonel.stores.runs import Runs
from timonel.stores.versions import Version

__all__ = ["STEPS", "Outcome", "run_project"]

STEPS = ("ingest", "validate", "split", "train", "evaluate", "register")

# A retry after a refusal must not meet the seeds of its first try or of other models.
_NEXT_SEED = 7919


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `versions` are what it made, champions and refused ones."""

    run: str
    status: Literal["succeeded", "refused"]
    sentence: str
    versions: tuple[Version, ...]


def run_project(
    project: Project,
    settings: Settings,
    *,
    who: str,
    until: str | None = None,
    models: Sequence[str] = (),
    seed: int | None = None,
    fresh: bool = False,
    with_feedback: bool = False,
    feedback_since: float | None = None,
    tell: Callable[[Event], None] = lambda event: None,
    ids: Callable[[], Any] | None = None,
    clock: Callable[[], float] = time.time,
) -> Outcome:
    """Run the steps up to and including `until`, for the named models or all of them.

    `fresh` does every step anew. `seed` replaces the models' own. `with_feedback` adds the labelled
    live rows that the project's `Retrain` asks for, or those since `feedback_since` (s since 1970).

    Raises:
        Busy: a run of the project is going on, naming it.
        NotFound: there is no step or model of that name.
        TimonelError: a step failed.
    """
    if until is not None and until not in STEPS:
        raise NotFound(f"There is no step {until!r}; expected one of: {', '.join(STEPS)}.")
    chosen = [project.model(name) for name in models] or list(project.models)
    database = Database.open(settings.database_url, clock=clock)
    objects = ObjectStore.open(settings.objects_url)
    run_id = str((ids or Ids())())
    runner = Runner(
        project.name,
        Runs(database),
        objects,
        run_id=run_id,
        who=who,
        parameters={
            "models": [model.name for model in chosen],
            "until": until,
            "seed": seed,
            "fresh": fresh,
            "with_feedback": with_feedback,
            "feedback_since": feedback_since,
        },
        fresh=fresh,
        tell=tell,
    )
    with runner:
        context = Context(project, settings, database, objects, run_id, clock)
        feedback = _Feedback(feedback_since) if with_feedback else None
        outcome = _run(runner, context, chosen, STEPS.index(until or STEPS[-1]), seed, feedback)
        runner.conclude(outcome.status, outcome.sentence)
    return outcome


@dataclass(frozen=True)
class _Feedback:
    """Live rows are wanted: since when, or None for as long as the policy says."""

    since: float | None


def _run(
    runner: Runner,
    context: Context,
    models: Sequence[Model],
    last: int,
    seed: int | None,
    feedback: _Feedback | None,
) -> Outcome:
    layout = context.project.layout is not None and last >= STEPS.index("split")
    if layout or last >= STEPS.index("train"):
        context.open_registry()
    ingested = ingest(runner, context)
    if last < STEPS.index("validate"):
        return Outcome(runner.id, "succeeded", f"{ingested['rows']:,} rows ingested.", ())
    validated = validate(runner, context, ingested)
    if last < STEPS.index("split"):
        return Outcome(runner.id, "succeeded", "The rows are validated.", ())
    split = split_rows(runner, context, validated)
    if layout:
        lay_out(runner, context, ingested, split)
    if feedback is not None:
        split = add_feedback(runner, context, split, feedback.since)
    versions: list[Version] = []
    sentences: list[str] = []
    for model in models:
        if last < STEPS.index("train"):
            break
        version, sentence = _candidate(runner, context, model, ingested, split, last, seed)
        sentences.append(sentence)
        if version:
            versions.append(version)
    refused = [version for version in versions if version.state == "refused"]
    return Outcome(
        runner.id,
        "refused" if refused else "succeeded",
        " ".join(sentences) or "The rows are split.",
        tuple(versions),
    )


def _candidate(
    runner: Runner,
    context: Context,
    model: Model,
    ingested: dict[str, Any],
    split: dict[str, Any],
    last: int,
    seed: int | None,
) -> tuple[Version | None, str]:
    """One model's last steps; after a refusal with other seeds, as often as the gate says."""
    first = model.seed if seed is None else seed
    attempts = 1 if not callable(model.recipe) else context.project.gate.retries + 1
    for attempt in range(attempts):
        chosen = first + attempt * _NEXT_SEED
        trained = train(runner, context, replace(model, seed=chosen), split, chosen)
        if last < STEPS.index("evaluate"):
            return None, f"{context.project.name}/{model.name} is trained."
        kept = None if runner.fresh else unchanged(context, model, trained)
        if kept:
            return None, f"{kept.label} stays champion: same rows, recipe and seed as before."
        judged = judge(runner, context, model, split, trained, chosen)
        if not judged.passed and attempt + 1 < attempts:
            runner.note(f"{judged.decision.sentence} Trying again with seed {chosen + _NEXT_SEED}.")
            continue
        break
    if last < STEPS.index("register"):
        return None, judged.decision.sentence
    version = register(runner, context, model, ingested, split, trained, judged, chosen)
    return version, f"{version.label} is {version.state}: {judged.decision.sentence}"
