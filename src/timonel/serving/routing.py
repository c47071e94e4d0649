"""Which version answers: loaded once, verified before, swapped as a whole.

A swap is load → warm → route → drain → unload. A request holds the version that it was routed to;
the former one is freed when its last request lets go.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from timonel import artifact
from timonel.errors import ArtifactError, NotReady
from timonel.project import Project
from timonel.runtime import OnnxModel
from timonel.schema import Column
from timonel.serving.batching import Batcher
from timonel.serving.measure import Measured, measure
from timonel.serving.state import Champion, Progress, State
from timonel.signature import Signature
from timonel.tensors import Arrays, Feeder, arrays_of, feeder

__all__ = ["Routes", "Served", "load_version"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A version in memory, and what it was measured to take.

    `feed` makes the graph's inputs of rows in the order of the project's columns. `batcher` is
    there where requests are better answered together.
    """

    champion: Champion
    model: OnnxModel
    measured: Measured
    feed: Feeder
    batcher: Batcher | None = None

    @cached_property
    def label(self) -> str:
        """The version's name, such as `digits/cnn@3`."""
        return self.champion.label

    def is_quick(self, rows: int) -> bool:
        """Whether so many rows may run on the event loop itself."""
        return self.measured.is_quick(rows)


def load_version(folder: Path, champion: Champion, project: Project) -> Served:
    """Verify, load and warm a version.

    Raises:
        ArtifactError: its files were changed, cannot run, or do not fit the project's definition.
    """
    artifact.verify(folder, champion.digest)
    signature = Signature.from_json((folder / "signature.json").read_bytes())
    _check_fits(champion, signature.columns, project)
    model = OnnxModel((folder / "model.onnx").read_bytes(), signature)
    measured = measure(
        lambda rows: model.predict(_blank_rows(signature.columns, rows)),
        batch=signature.binding.batch,
    )
    return Served(
        champion,
        model,
        measured,
        feeder(signature.binding, signature.columns, project.columns),
        Batcher(model.answer, measured.batch_rows) if measured.batches else None,
    )


def _check_fits(champion: Champion, trained: tuple[Column, ...], project: Project) -> None:
    kinds = {column.name: column.kind for column in project.columns}
    for column in trained:
        if kinds.get(column.name) != column.kind:
            now = f"has as {kinds[column.name]}" if column.name in kinds else "lacks"
            raise ArtifactError(
                f"{champion.label} was trained with {column.name} ({column.kind}), which the "
                f"definition now {now}.",
                remedy=f"Train a version for it: timonel run {project.reference}",
            )


def _blank_rows(columns: tuple[Column, ...], rows: int) -> Arrays:
    values = {
        column.name: [
            np.zeros(column.image.size, np.float32)
            if column.image
            else ((column.categories or ("",))[0] if column.kind == "category" else 0)
        ]
        * rows
        for column in columns
    }
    return arrays_of(columns, values)


class Routes:
    """The versions that answer in this process, by project and model.

    `follow` runs on a thread of its own; `champion` is asked on the event loop and only ever reads
    a mapping that is replaced as a whole.
    """

    def __init__(self, projects: Iterable[Project], serving_folder: Path) -> None:
        self._projects = {project.name: project for project in projects}
        self._folder = serving_folder
        self._served: Mapping[tuple[str, str], Served] = {}
        self._failed: Mapping[str, str] = {}  # digest → why it does not load
        self.state = State()

    def champion(self, project: str, model: str) -> Served:
        """The version that answers.

        Raises:
            NotReady: there is none yet, with the progress of the run that will make one.
        """
        served = self._served.get((project, model))
        if served is None:
            raise NotReady(self.why_not(project, model), remedy=self._remedy(project, model))
        return served

    def labels(self) -> tuple[str, ...]:
        """The versions that answer."""
        return tuple(served.label for served in self._served.values())

    def runs(self, project: str) -> list[Progress]:
        """The project's newest runs, newest first."""
        return [run for run in self.state.runs if run.project == project]

    def missing(self, project: str) -> list[str]:
        """The project's models that cannot answer, of those that answer when none is named."""
        names = self._projects[project].answering
        return [name for name in names if (project, name) not in self._served]

    def why_not(self, project: str, model: str) -> str:
        """A sentence on why a model cannot answer."""
        champion = self._chosen(project, model)
        if champion and champion.digest in self._failed:
            return self._failed[champion.digest]
        run = self._run_of(project)
        if run:
            return f"{project}/{model} has no version yet; run {run.run} is at {run.note}."
        return f"{project}/{model} has no version yet."

    def degraded(self) -> list[str]:
        """Sentences on what does not work as it should."""
        waiting = [
            self.why_not(project.name, model)
            for project in self._projects.values()
            for model in project.model_names
            if model not in project.answering and (project.name, model) not in self._served
        ]
        return [*self.state.degraded, *self._failed.values(), *waiting]

    def follow(self, state: State) -> None:
        """Serve what the state says; what fails to load leaves the former version in place."""
        wanted = {(c.project, c.model) for c in state.champions}
        served = {key: version for key, version in self._served.items() if key in wanted}
        failed: dict[str, str] = {}
        for champion in state.champions:
            project = self._projects.get(champion.project)
            key = (champion.project, champion.model)
            if project is None or champion.model not in project.model_names:
                continue
            if key in served and served[key].champion == champion:
                continue
            try:
                served[key] = load_version(self._folder / champion.digest, champion, project)
            except Exception as error:  # noqa: BLE001 (no version may end the following of others)
                if champion.digest not in self._failed:
                    _log.error("%s is not served: %s", champion.label, error)
                failed[champion.digest] = f"{champion.label} is not served: {error}"
        self._served = served
        self._failed = failed
        self.state = state

    def settled(self) -> bool:
        """Whether every version of the state that this process serves is loaded."""
        return not self._failed

    def _remedy(self, project: str, model: str) -> str:
        champion = self._chosen(project, model)
        if champion and champion.digest not in self._failed:
            return "It is being loaded; ask again."
        if self._run_of(project):
            return "Ask again when it is done."
        return f"Train it: timonel run {self._projects[project].reference}"

    def _run_of(self, project: str) -> Progress | None:
        running = (r for r in self.state.runs if r.project == project and r.status == "running")
        return next(running, None)

    def _chosen(self, project: str, model: str) -> Champion | None:
        for champion in self.state.champions:
            if (champion.project, champion.model) == (project, model):
                return champion
        return None
