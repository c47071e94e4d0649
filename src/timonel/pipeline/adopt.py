"""A version that a person registered in MLflow: converted, checked, and made champion or refused.

It is the person's choice that counts: the gate's opinion is recorded, and does not decide. What
must hold is that the model can be read without running its code, answers in ONNX as it did before,
and takes and answers what the champion does.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from timonel.errors import ArtifactError, DefinitionError, NotFound, ParityError
from timonel.ids import Ids
from timonel.pipeline.context import Context
from timonel.pipeline.foreign import folder_digest, graph_of
from timonel.pipeline.judge import Judged, judge
from timonel.pipeline.register import write_files
from timonel.pipeline.rows import ingest, split_rows, validate
from timonel.pipeline.runner import Event, Report, Runner
from timonel.project import Model, Project
from timonel.settings import Settings
from timonel.signature import Signature, compatible
from timonel.stores.aliases import Aliases
from timonel.stores.artifacts import fetch_version, save_version
from timonel.stores.database import Database
from timonel.stores.events import record
from timonel.stores.flavours import read_model
from timonel.stores.marks import watch
from timonel.stores.objects import ObjectStore
from timonel.stores.registry import Registered
from timonel.stores.runs import Runs
from timonel.stores.versions import EMBEDDED, Version

__all__ = ["Adopted", "adopt"]

_RUNS = 50  # how far back a dataset is looked for
_REFUSALS = (ArtifactError, DefinitionError, ParityError)


@dataclass(frozen=True)
class Adopted:
    """What came of it, as a sentence; `version` is the one asked for, `run` what worked on it."""

    sentence: str
    version: Version | None = None
    run: str | None = None

    @property
    def refused(self) -> bool:
        """Whether a version was asked for and does not serve."""
        return self.version is not None and self.version.state != "champion"


def adopt(
    project: Project,
    settings: Settings,
    *,
    model: str,
    who: str,
    number: int | None = None,
    allow_pickle: bool = False,
    tell: Callable[[Event], None] = lambda event: None,
    ids: Callable[[], Any] | None = None,
    clock: Callable[[], float] = time.time,
) -> Adopted:
    """Make a version of MLflow's registry champion, or refuse it.

    Without a `number`, what MLflow's marks ask for: a version, or nothing more than to be put where
    the database says. `allow_pickle` also reads pickles, which run their code.

    Raises:
        Busy: a run of the project is going on, naming it.
        NotFound: there is no such model, or no such version in MLflow.
        StoreError: MLflow, the database or the object store does not answer.
    """
    chosen = project.model(model)
    database = Database.open(settings.database_url, clock=clock)
    run_id = str((ids or Ids())())
    objects = ObjectStore.open(settings.objects_url)
    context = Context(project, settings, database, objects, run_id, clock)
    name = project.registered(chosen.name)
    why = f"{who} asked for it"
    if number is None:
        marks = watch(settings.registry_url, [name], timeout=10)[name]
        wish = Aliases(database).wish(project, chosen.name, marks)
        if wish is None:
            return Adopted(f"MLflow and the database agree about {project.name}/{chosen.name}.")
        if wish.act == "put" or wish.number is None:
            return Adopted(_put(context, chosen, who, wish.number, wish.asked))
        number, why = wish.number, f"it was marked by hand in MLflow's {name}"
    runner = Runner(
        project.name,
        Runs(database),
        objects,
        run_id=run_id,
        who=who,
        parameters={"adopt": f"{chosen.name}@{number}"},
        tell=tell,
    )
    with runner:
        version = _Adoption(runner, context, chosen, number, why, allow_pickle).go()
        refused = version.state != "champion"
        sentence = f"{version.label} is {version.state}: {version.reason}"
        runner.conclude("refused" if refused else "succeeded", sentence)
    return Adopted(sentence, version, run_id)


def _put(context: Context, model: Model, who: str, number: int | None, asked: int | None) -> str:
    name = context.project.registered(model.name)
    where = f"{name} {number}" if number is not None else f"no version of {name}"
    reason = "the champion changed here"
    if asked is not None:
        reason = f"the champion changed here and in MLflow (to {asked}): the database wins"
    Aliases(context.database).put(
        context.registry, context.project, model.name, number, who=who, reason=reason, asked=asked
    )
    return f"MLflow's marks are on {where}: {reason}."


@dataclass
class _Adoption:
    """One version on its way."""

    runner: Runner
    context: Context
    model: Model
    number: int
    why: str
    allow_pickle: bool
    source_digest: str = ""

    def __post_init__(self) -> None:
        project, versions = self.context.project, self.context.versions
        self.names = (project.name, self.model.name, self.number)
        self.who = f"run {self.context.run_id}"
        self.champion = versions.champion(*self.names[:2])
        known = [v for v in versions.list(*self.names[:2]) if v.number == self.number]
        self.known = known[0] if known else None

    def go(self) -> Version:
        """The version in the state that it ends in; MLflow's marks then say who serves."""
        version = self._known(self.known) if self.known else self._new(self._registered())
        champion = self.context.versions.champion(*self.names[:2])
        number = champion.number if champion and champion.number != EMBEDDED else None
        Aliases(self.context.database).put(
            self.context.registry,
            self.context.project,
            self.model.name,
            number,
            who=self.who,
            reason=f"version {self.number} was asked for: {self.why}",
            asked=None if number == self.number else self.number,
        )
        return version

    def _registered(self) -> Registered:
        name = self.context.project.registered(self.model.name)
        found = self.context.registry.versions(name)
        for version in found:
            if version.number == self.number:
                return version
        numbers = ", ".join(str(version.number) for version in found) or "none"
        raise NotFound(f"MLflow's {name} has no version {self.number}; it has: {numbers}.")

    def _known(self, version: Version) -> Version:
        """One that the database has: its files are sealed, so only who serves is to be changed."""
        if version.state == "champion":
            return version
        if version.state in ("refused", "rolled_back"):
            self.runner.note(
                f"{version.label} stays {version.state}, which is an end. Register its run's model "
                "again, as a new version, to ask for it nevertheless."
            )
            return self._decline(version)
        folder = self._fetch(version)
        signature = Signature.from_json((folder / "signature.json").read_bytes())
        try:
            self._compatible(signature)
        except ArtifactError as error:
            self.runner.note(f"{version.label} stays {version.state}: {error}")
            return self._decline(version)
        return self._promote(version, f"{self.why}; its files and signature are as they must be")

    def _decline(self, version: Version) -> Version:
        with self.context.database.begin() as connection:
            record(
                connection,
                at=self.context.database.clock(),
                who=self.who,
                kind="promotion",
                subject=version.label,
                before=version.state,
                after=version.state,
                evidence={"reason": f"declined: {version.reason}", "why": self.why},
            )
        return version

    def _new(self, registered: Registered) -> Version:
        ingested, split = _rows(self.runner, self.context)
        try:
            trained = self._trained(registered, split)
        except _REFUSALS as error:
            return self._refuse(registered, str(error))
        seed = self.model.seed
        judged = judge(self.runner, self.context, self.model, split, trained, seed)
        reason = (
            f"adopted because {self.why}; {trained['checked']}. The gate, for information: "
            f"{judged.decision.sentence}"
        )
        judged = replace(judged, decision=replace(judged.decision, sentence=reason))
        made: list[Version] = []

        def act(report: Report) -> Mapping[str, Any]:
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                write_files(
                    folder, self.context, self.model, ingested, split, trained, judged, seed
                )
                digest = save_version(folder, self.context.objects)
            version = self._add(digest, reason, judged)
            self._tag(registered, "timonel.artifact", digest)
            made.append(self._promote(version, reason))
            return {"version": version.label, "digest": digest, "note": reason}

        self.runner.step(f"register/{self.model.name}", act)
        return made[0]

    def _trained(self, registered: Registered, split: Mapping[str, Any]) -> dict[str, Any]:
        """The model as a graph that fits the project; raises one of _REFUSALS."""
        context = self.context

        def act(report: Report) -> Mapping[str, Any]:
            report(f"fetching {registered.name} {registered.number} from MLflow", None)
            with tempfile.TemporaryDirectory() as temporary:
                folder = context.registry.download(registered, Path(temporary))
                self.source_digest = folder_digest(folder)
                found = read_model(folder, allow_pickle=self.allow_pickle)
            report("converting", None)
            signature, content, made = graph_of(context, self.model, found, split)
            self._compatible(signature)
            return {
                **made,
                "onnx_key": context.objects.put(content),
                "signature": signature.to_json().decode(),
                "parameters": {},
                "source": registered.model,
                "note": made["checked"],
            }

        return self.runner.step(f"adopt/{self.model.name}", act)

    def _compatible(self, signature: Signature) -> None:
        """Raise ArtifactError when clients of the champion would notice."""
        project = self.context.project
        label = f"project {project.name}"
        former = replace(
            signature, columns=project.columns, classes=project.labels or signature.classes
        )
        if self.champion:
            label = self.champion.label
            folder = self._fetch(self.champion)
            former = Signature.from_json((folder / "signature.json").read_bytes())
        if broken := [d.sentence for d in compatible(former, signature) if d.breaking]:
            raise ArtifactError(
                f"Expected a version that takes and answers what {label} does. {' '.join(broken)}"
            )

    def _fetch(self, version: Version) -> Path:
        settings = self.context.settings
        return fetch_version(version.digest, self.context.objects, settings.serving_folder)

    def _add(self, digest: str, reason: str, judged: Judged | None) -> Version:
        evaluation = judged.evaluation.to_dict() if judged else {}
        return self.context.versions.add(
            *self.names,
            digest=digest,
            who=self.who,
            reason=reason,
            run_id=self.context.run_id,
            metrics={"metric": self.model.metric, "evaluation": evaluation} if judged else {},
        )

    def _promote(self, version: Version, reason: str) -> Version:
        context = self.context
        evidence = {"asked": self.why, "rollout": "all-at-once"}
        now = context.versions.champion(*self.names[:2])
        if (now and now.number) != (self.champion and self.champion.number):
            self.runner.note(f"{version.label} was asked for, but the champion changed meanwhile.")
            return self._decline(version)
        if version.state == "candidate":
            context.versions.move(*self.names, "challenger", who=self.who, reason=reason)
        # Its files are on the disk before it is named, so that workers of this home follow at once.
        self._fetch(version)
        return context.versions.move(
            *self.names, "champion", who=self.who, reason=reason, evidence=evidence
        )

    def _refuse(self, registered: Registered, sentence: str) -> Version:
        # Without files of its own, what was judged is named by the hash of what MLflow holds.
        self._add(self.source_digest, sentence, None)
        self._tag(registered, "timonel.refused", sentence)
        return self.context.versions.move(*self.names, "refused", who=self.who, reason=sentence)

    def _tag(self, registered: Registered, key: str, value: str) -> None:
        tags = {key: value[:5_000], "timonel.run": self.context.run_id}
        self.context.registry.set_tags(registered.name, registered.number, tags)


def _rows(runner: Runner, context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the newest dataset's `ingest` and `split` gave; made now where there is none."""
    runs = Runs(context.database)
    needed = {*(column.name for column in context.project.columns), context.project.target}
    for run in runs.list(context.project.name, limit=_RUNS):
        steps = {step.name: step.output for step in runs.steps(run.id) if step.output}
        ingested, split = steps.get("ingest"), steps.get("split")
        if ingested and split and context.objects.exists(split["key"]):
            part = context.part(split["key"], "test")
            if part.rows and needed <= set(part.frame.columns):
                return ingested, split
    ingested = ingest(runner, context)
    return ingested, split_rows(runner, context, validate(runner, context, ingested))
