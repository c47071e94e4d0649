"""From validated rows to an answer that is in the journal: route → run → record → count."""

import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import numpy as np

from timonel.contract import Answer
from timonel.ids import Ids
from timonel.journal.records import Value
from timonel.project import Project
from timonel.serving.batching import Result, check_deadline
from timonel.serving.cache import AnswerCache
from timonel.serving.metrics import Metrics
from timonel.serving.routing import Routes, Served
from timonel.serving.rows import Inputs
from timonel.serving.threads import Threads
from timonel.tensors import Arrays

__all__ = ["Answerer", "Entry", "Recorder", "Results"]

Results = Sequence[tuple[Served, list[int], np.ndarray]]
"""For each version that answered, its class indices and probabilities (rows, classes)."""


class Entry(msgspec.Struct, frozen=True):
    """What the journal is told of one answered request; `via` is the way in (json, upload, …).

    `rows` hold the inputs in the order of the project's columns.
    """

    id: bytes
    time_ns: int
    project: Project
    rows: Sequence[tuple[Value, ...]]
    answers: Results
    via: str


class Recorder(Protocol):
    """Writes an entry down; the reply leaves only when that is done."""

    def __call__(self, entry: Entry) -> Awaitable[None]:
        """Raises JournalFull when it cannot, and answers must not go unrecorded."""
        ...


class Answerer:
    """Answers the validated rows of one project, whatever protocol brought them."""

    def __init__(
        self,
        project: Project,
        routes: Routes,
        record: Recorder,
        metrics: Metrics,
        *,
        cache: AnswerCache | None = None,
        ids: Callable[[], uuid.UUID] | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.project = project
        self.new_id = ids or Ids()
        self.timer = timer
        self.metrics = metrics
        self._routes = routes
        self._record = record
        self._cache = cache
        self._threads = Threads()
        self._clock_ns = clock_ns

    def models(self, asked: str | None) -> list[str]:
        """The models that answer: the one asked for, or those that the contract says.

        Raises:
            NotFound: the project has no model of that name.
        """
        if asked is not None:
            return [self.project.model(asked).name]
        return list(self.project.answering)

    async def answer(
        self,
        inputs: Inputs,
        models: Sequence[str],
        via: str,
        started: float,
        identifier: uuid.UUID,
        deadline: float | None = None,
    ) -> tuple[Answer, dict[str, str]]:
        """The answer, recorded and counted, and what the headers say of it.

        `started` is the timer's reading when the request came; `deadline` the monotonic clock's
        after which nobody waits for the answer.

        Raises:
            NotReady: a model has no version yet.
            Overloaded: too many wait for a model already.
            DeadlinePassed: it is too late to run a model.
            JournalFull: it cannot be recorded.
        """
        served = [self._routes.champion(self.project.name, model) for model in models]
        check_deadline(deadline, time.monotonic())
        arrays, count = inputs.arrays, inputs.count
        outcome = None
        results: Results
        if self._cache is None:
            results = [
                (version, *await self._run(version, arrays, count, deadline)) for version in served
            ]
        else:
            results, outcome = await self._ask(self._cache, served, arrays, count)
        answer = self._answer(results, str(identifier), started, single=inputs.single)
        if count:
            await self.record(inputs.values(), results, via, identifier)
        self.count(results, count)
        headers = {
            "X-Prediction-Id": answer.id,
            "X-Model-Version": ", ".join(version.label for version in served),
        }
        return answer, headers if outcome is None else headers | {"X-Cache": outcome}

    @property
    def cached(self) -> bool:
        """Whether answers are given again, so that finding one may take a while."""
        return self._cache is not None

    def quick(self, models: Sequence[str], rows: int) -> list[Served] | None:
        """The versions that answer, when they may run so many rows on the event loop.

        Raises:
            NotReady: a model has no version yet.
        """
        served = [self._routes.champion(self.project.name, model) for model in models]
        for version in served:
            if not version.is_quick(rows):
                return None
        return served

    def at_once(
        self,
        served: Sequence[Served],
        rows: Sequence[tuple[Any, ...]],
        started: float,
        identifier: uuid.UUID,
        *,
        single: bool,
    ) -> tuple[Answer, Results]:
        """The answer of `quick` versions to rows in the order of the project's columns.

        It is not yet recorded.
        """
        results = [(version, *version.model.run(version.feed(rows))) for version in served]
        return self._answer(results, str(identifier), started, single=single), results

    def record(
        self, rows: Sequence[tuple[Value, ...]], results: Results, via: str, identifier: uuid.UUID
    ) -> Awaitable[None]:
        """Done when what was answered `at_once` is written down.

        Raises (when awaited):
            JournalFull: it cannot be.
        """
        return self._record(
            Entry(identifier.bytes, self._clock_ns(), self.project, rows, results, via)
        )

    def count(self, results: Results, rows: int) -> None:
        """Count rows that were answered."""
        for version, _, _ in results:
            self.metrics.predicted(version.label, rows)

    def _answer(self, results: Results, name: str, started: float, *, single: bool) -> Answer:
        labels, scores, classes, versions = {}, {}, {}, {}
        for version, indices, odds in results:
            model, known = version.champion.model, version.model.signature.classes
            labels[model] = [known[index] for index in indices]
            scores[model] = odds
            classes[model] = known
            versions[model] = version.label
        return Answer(name, labels, scores, classes, versions, self.timer() - started, single)

    async def _ask(
        self, cache: AnswerCache, served: Sequence[Served], arrays: Arrays, rows: int
    ) -> tuple[Results, str]:
        """The answers by way of the cache, and its outcome: a hit if no model had to run."""
        results, hit = [], True
        for version in served:
            # Several may share one run, so it must not end with the patience of one of them.
            run = partial(self._run, version, arrays, rows, None)
            indices, scores, found = await cache.answer(version, arrays, rows, run)
            results.append((version, indices, scores))
            hit = hit and found
        outcome = "hit" if hit else "miss"
        self.metrics.cached(self.project.name, outcome)
        return results, outcome

    async def _run(
        self, version: Served, arrays: Arrays, rows: int, deadline: float | None
    ) -> Result:
        if version.is_quick(rows):
            return version.model.answer(arrays)
        if version.batcher is not None:
            return await version.batcher(arrays, rows, deadline)
        return await self._threads(partial(version.model.answer, arrays), deadline)
