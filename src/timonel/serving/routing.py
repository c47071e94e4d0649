"""Which version answers: loaded once, verified before, swapped as a whole.

A swap is load → warm → route → drain → unload. A request holds the version that it was routed to;
the former one is freed when its last request lets go.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from timonel import artifact
from timonel.errors import ArtifactError, NotReady, TimonelError
from timonel.project import Project
from timonel.runtime import OnnxModel
from timonel.schema import Column
from timonel.serving.state import Champion, State
from timonel.signature import Signature
from timonel.tensors import Arrays, arrays_of

__all__ = ["Routes", "Served", "load_version"]

_log = logging.getLogger(__name__)

# A model call that takes longer would hold up the other requests of this process's event loop.
_INLINE_SECONDS = 0.002


@dataclass(frozen=True)
class Served:
    """A version in memory; `row_seconds` is what one row was measured to take."""

    champion: Champion
    model: OnnxModel
    row_seconds: float

    @property
    def label(self) -> str:
        """The version's name, such as `digits/cnn@3`."""
        return self.champion.label

    def is_quick(self, rows: int) -> bool:
        """Whether so many rows may run on the event loop itself."""
        return rows * self.row_seconds < _INLINE_SECONDS


def load_version(folder: Path, champion: Champion, project: Project) -> Served:
    """Verify, load and warm a version.

    Raises:
        ArtifactError: its files were changed, cannot run, or do not fit the project's definition.
    """
    artifact.verify(folder, champion.digest)
    signature = Signature.from_json((folder / "signature.json").read_bytes())
    _check_fits(champion, signature.columns, project.columns)
    model = OnnxModel((folder / "model.onnx").read_bytes(), signature)
    row = _blank_row(signature.columns)
    model.predict(row)
    started = time.perf_counter()
    for _ in range(3):
        model.predict(row)
    return Served(champion, model, (time.perf_counter() - started) / 3)


def _check_fits(
    champion: Champion, trained: tuple[Column, ...], defined: tuple[Column, ...]
) -> None:
    kinds = {column.name: column.kind for column in defined}
    for column in trained:
        if kinds.get(column.name) != column.kind:
            now = f"has as {kinds[column.name]}" if column.name in kinds else "lacks"
            raise ArtifactError(
                f"{champion.label} was trained with {column.name} ({column.kind}), which the "
                f"definition now {now}.",
                remedy=f"Train a version for it: timonel run {champion.project}",
            )


def _blank_row(columns: tuple[Column, ...]) -> Arrays:
    values = {
        column.name: [
            np.zeros(column.image.size, np.float32)
            if column.image
            else ((column.categories or ("",))[0] if column.kind == "category" else 0)
        ]
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
        self._failed: dict[str, str] = {}  # digest → why it does not load
        self.state = State()

    def champion(self, project: str, model: str) -> Served:
        """The version that answers.

        Raises:
            NotReady: there is none yet, with the progress of the run that will make one.
        """
        served = self._served.get((project, model))
        if served is None:
            raise NotReady(self.why_not(project, model), remedy=f"Train it: timonel run {project}")
        return served

    def missing(self, project: str) -> list[str]:
        """The project's models that cannot answer."""
        names = self._projects[project].model_names
        return [name for name in names if (project, name) not in self._served]

    def why_not(self, project: str, model: str) -> str:
        """A sentence on why a model cannot answer."""
        champion = self._chosen(project, model)
        if champion and champion.digest in self._failed:
            return self._failed[champion.digest]
        for run in self.state.runs:
            if run.project == project and run.status == "running":
                return f"{project}/{model} has no version yet; run {run.run} is at {run.note}."
        return f"{project}/{model} has no version yet."

    def degraded(self) -> list[str]:
        """Sentences on what does not work as it should."""
        wanted = {c.digest for c in self.state.champions}
        failed = [why for digest, why in self._failed.items() if digest in wanted]
        return [*self.state.degraded, *failed]

    def follow(self, state: State) -> None:
        """Serve what the state says; what fails to load leaves the former version in place."""
        served = dict(self._served)
        for champion in state.champions:
            project = self._projects.get(champion.project)
            key = (champion.project, champion.model)
            if project is None or champion.model not in project.model_names:
                continue
            if key in served and served[key].champion == champion:
                continue
            try:
                served[key] = load_version(self._folder / champion.digest, champion, project)
                self._failed.pop(champion.digest, None)
            except (TimonelError, OSError) as error:
                if champion.digest not in self._failed:
                    _log.error("%s is not served: %s", champion.label, error)
                self._failed[champion.digest] = f"{champion.label} is not served: {error}"
        self._served = served
        self.state = state

    def settled(self) -> bool:
        """Whether every version of the state is loaded."""
        return (
            all(
                self._served[(c.project, c.model)].champion == c
                for c in self.state.champions
                if (c.project, c.model) in self._served
            )
            and not self._failed
        )

    def _chosen(self, project: str, model: str) -> Champion | None:
        for champion in self.state.champions:
            if (champion.project, champion.model) == (project, model):
                return champion
        return None
