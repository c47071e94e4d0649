"""Which version answers: loaded once, verified before, swapped as a whole.

A swap is load → warm → route → drain → unload. A request holds the version that it was routed to;
one that is not wanted any more is freed when its last request lets go.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
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
from timonel.serving.copies import Fingerprint, fingerprint
from timonel.serving.measure import Measured, measure
from timonel.serving.shift import place_of
from timonel.serving.state import Champion, Progress, Shift, State
from timonel.signature import Signature
from timonel.tensors import Arrays, Feeder, arrays_of, feeder

__all__ = ["Routes", "Served", "blank_rows", "load_version"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # before what failed is tried again from the same files


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
        lambda rows: model.predict(blank_rows(signature.columns, rows)),
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


def blank_rows(columns: tuple[Column, ...], rows: int) -> Arrays:
    """Rows that any model of these columns takes, to warm it up."""
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


@dataclass(frozen=True)
class _Failure:
    """Why a version was not loaded, from which files, and when it is tried again regardless."""

    sentence: str
    files: Fingerprint
    again: float
    pause: float


class Routes:
    """The versions that are loaded in this process, and which of them answers for each model.

    `follow` is called on a thread of its own, and each version is loaded on another, so that one
    that takes long holds up nobody; `changed` is called there whenever something was loaded, or
    failed to be. `champion` is asked on the event loop and only ever reads a mapping that is
    replaced as a whole. What is neither wanted nor answering any more is let go; a request that
    still holds it keeps it in memory until its end.
    """

    def __init__(
        self,
        projects: Iterable[Project],
        serving_folder: Path,
        *,
        load: Callable[[Path, Champion, Project], Served] = load_version,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._projects = {project.name: project for project in projects}
        self._folder = serving_folder
        self._load = load
        self._clock = clock
        self._lock = threading.RLock()
        self._loaded: Mapping[Champion, Served] = {}
        self._loading: dict[Champion, threading.Thread] = {}
        self._failed: Mapping[Champion, _Failure] = {}
        self._served: Mapping[tuple[str, str], Served] = {}
        self._moved: Mapping[tuple[str, str], tuple[Shift, Served]] = {}
        self._slowest = 0.0
        self._closed = False
        self.changed: Callable[[], object] = lambda: None
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

    def answerer(self, project: str, model: str, key: bytes) -> Served:
        """The version that answers a request: the champion, or a challenger its share.

        `key` is the prediction id's bytes, or what the caller is recognised by.

        Raises:
            NotReady: as `champion`.
        """
        champion, moved = self.champion(project, model), self._moved.get((project, model))
        if moved is None or place_of(moved[0].id, key) >= moved[0].share:
            return champion
        return moved[1]

    def mirrored(self, project: str, model: str, key: bytes) -> Served | None:
        """The challenger that is to be asked as well, unseen; None for most requests."""
        moved = self._moved.get((project, model))
        if moved is None or place_of(moved[0].id, key) >= moved[0].mirror:
            return None
        return moved[1]

    @property
    def shifts(self) -> bool:
        """Whether a rollout is under way."""
        return bool(self._moved)

    def sticky(self, project: str) -> str | None:
        """The header that a rollout of the project recognises callers by."""
        if not self._moved:
            return None
        names = (shift.sticky for (name, _), (shift, _) in self._moved.items() if name == project)
        return next((name for name in names if name), None)

    def labels(self) -> tuple[str, ...]:
        """The versions that answer."""
        return tuple(served.label for served in self._served.values())

    def loaded(self) -> tuple[str, ...]:
        """The versions that are ready to answer, those that do included."""
        return tuple(champion.label for champion in self._loaded)

    def failures(self) -> dict[str, str]:
        """Why versions are not loaded, by their names."""
        return {champion.label: failure.sentence for champion, failure in self._failed.items()}

    def slowest(self) -> float:
        """The seconds that a row takes the slowest version that answers, in batches if it batches.

        0 while none answers.
        """
        return self._slowest

    def runs(self, project: str) -> list[Progress]:
        """The project's newest runs, newest first."""
        return [run for run in self.state.runs if run.project == project]

    def missing(self, project: str) -> list[str]:
        """The project's models that cannot answer, of those that answer when none is named."""
        names = self._projects[project].answering
        return [name for name in names if (project, name) not in self._served]

    def unanswered(self) -> list[str]:
        """The models, as "digits/cnn", that have a champion and yet nothing that answers."""
        keys = [champion.key for champion in self._own(self.state.champions)]
        return ["/".join(key) for key in keys if key not in self._served]

    def why_not(self, project: str, model: str) -> str:
        """A sentence on why a model cannot answer."""
        champion = self._chosen(project, model)
        if champion and champion in self._failed:
            return self._failed[champion].sentence
        if champion:
            return f"{champion.label} is being loaded."
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
        return [*self.state.degraded, *self.failures().values(), *waiting]

    def follow(self, state: State, *, wait: float | None = None) -> None:
        """Serve what the state says, once it is loaded; until then the former versions answer.

        Returns when all is loaded or has failed, or after `wait` seconds.
        """
        with self._lock:
            self.state = state
            before = self._served, self._loaded, self._failed
            begun = self._begin()
            self._route()
            changed = before != (self._served, self._loaded, self._failed)
            loading = list(self._loading.values())
        for thread in begun:
            thread.start()
        if changed:
            self.changed()
        deadline = None if wait is None else time.monotonic() + wait
        for thread in loading:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def close(self, patience: float) -> None:
        """Begin to load nothing more, and wait for what is being loaded.

        A process that ends while ONNX Runtime builds a session ends with a crash.
        """
        with self._lock:
            self._closed = True
            loading = list(self._loading.values())
        deadline = time.monotonic() + patience
        for thread in loading:
            thread.join(max(0.0, deadline - time.monotonic()))

    def settled(self) -> bool:
        """Whether every version of the state that this process serves is loaded."""
        return not self._failed and not self._loading

    def _begin(self) -> list[threading.Thread]:
        """Threads, yet to be started, that load what is wanted and missing."""
        if self._closed:
            return []
        wanted = self._own((*self.state.champions, *self.state.standby))
        self._failed = {c: failure for c, failure in self._failed.items() if c in wanted}
        begun = []
        for champion in wanted:
            if champion in self._loaded or champion in self._loading:
                continue
            files = fingerprint(self._folder / champion.digest)
            failure = self._failed.get(champion)
            if failure and failure.files == files and self._clock() < failure.again:
                continue
            thread = threading.Thread(
                target=self._load_one,
                args=(champion, files),
                name=f"timonel-load-{champion.label}",
                daemon=True,
            )
            self._loading[champion] = thread
            begun.append(thread)
        return begun

    def _load_one(self, champion: Champion, files: Fingerprint) -> None:
        try:
            folder = self._folder / champion.digest
            served = self._load(folder, champion, self._projects[champion.project])
        except Exception as error:  # noqa: BLE001 (no version may end the following of others)
            with self._lock:
                former = self._failed.get(champion)
                sentence = f"{champion.label} is not served: {error}"
                if former is None or former.sentence != sentence:
                    _log.error("%s", sentence)
                pause = min(2 * former.pause, _LONGEST_PAUSE) if former else _FIRST_PAUSE
                failure = _Failure(sentence, files, self._clock() + pause, pause)
                self._failed = {**self._failed, champion: failure}
                del self._loading[champion]
        else:
            with self._lock:
                self._failed = {c: f for c, f in self._failed.items() if c != champion}
                self._loaded = {**self._loaded, champion: served}
                del self._loading[champion]
                self._route()
        self.changed()

    def _route(self) -> None:
        """Let the champions answer, or what comes nearest; forget what is not needed any more."""
        champions, standby = self._own(self.state.champions), self._own(self.state.standby)
        served: dict[tuple[str, str], Served] = {}
        for champion in champions:
            spares = (self._loaded.get(spare) for spare in standby if spare.key == champion.key)
            answers = (
                self._loaded.get(champion)
                or self._served.get(champion.key)
                or next((spare for spare in spares if spare), None)
            )
            if answers:
                served[champion.key] = answers
        kept = {*champions, *standby, *(version.champion for version in served.values())}
        self._served = served
        known = [version.measured for version in served.values()]
        self._slowest = max(
            (m.batch_seconds / m.batch_rows or m.row_seconds for m in known), default=0.0
        )
        self._moved = {
            shift.challenger.key: (shift, self._loaded[shift.challenger])
            for shift in self.state.shifts
            if shift.challenger in self._loaded and shift.challenger.key in served
        }
        self._loaded = {c: version for c, version in self._loaded.items() if c in kept}

    def _own(self, champions: Iterable[Champion]) -> list[Champion]:
        """Those of the models that this process serves."""
        return [
            champion
            for champion in champions
            if champion.project in self._projects
            and champion.model in self._projects[champion.project].model_names
        ]

    def _remedy(self, project: str, model: str) -> str:
        champion = self._chosen(project, model)
        if champion and champion not in self._failed:
            return "Ask again."
        if self._run_of(project):
            return "Ask again when it is done."
        return f"Train it: timonel run {self._projects[project].reference}"

    def _run_of(self, project: str) -> Progress | None:
        running = (r for r in self.state.runs if r.project == project and r.status == "running")
        return next(running, None)

    def _chosen(self, project: str, model: str) -> Champion | None:
        for champion in self.state.champions:
            if champion.key == (project, model):
                return champion
        return None
