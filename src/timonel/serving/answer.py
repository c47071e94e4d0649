"""From validated rows to an answer that is in the journal: route → run → record → count."""

import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import anyio.to_thread
import numpy as np

from timonel.contract import Answer
from timonel.ids import Ids
from timonel.project import Project
from timonel.serving.cache import AnswerCache
from timonel.serving.metrics import Metrics
from timonel.serving.routing import Routes, Served
from timonel.serving.rows import Inputs
from timonel.tensors import Arrays

__all__ = ["Answerer", "Entry", "Recorder"]


@dataclass(frozen=True)
class Entry:
    """What the journal is told of one answered request; `via` is the way in (json, upload, …)."""

    id: bytes
    time_ns: int
    project: Project
    inputs: Inputs
    answers: Sequence[tuple[Served, Sequence[int], np.ndarray]]
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
    ) -> tuple[Answer, dict[str, str]]:
        """The answer, recorded and counted, and what the headers say of it.

        `started` is the timer's reading when the request came.

        Raises:
            NotReady: a model has no version yet.
            JournalFull: it cannot be recorded.
        """
        served = [self._routes.champion(self.project.name, model) for model in models]
        arrays, count = inputs.arrays, inputs.count
        headers = {
            "X-Prediction-Id": str(identifier),
            "X-Model-Version": ", ".join(version.label for version in served),
        }
        if self._cache is None:
            results = [(v, *await self._run(v, arrays, count)) for v in served]
        else:
            results, headers["X-Cache"] = await self._ask(self._cache, served, arrays, count)
        answer = Answer(
            id=headers["X-Prediction-Id"],
            labels={
                version.champion.model: [version.model.signature.classes[i] for i in indices]
                for version, indices, _ in results
            },
            scores={version.champion.model: scores for version, _, scores in results},
            classes={v.champion.model: v.model.signature.classes for v in served},
            versions={version.champion.model: version.label for version in served},
            seconds=self.timer() - started,
            single=inputs.single,
        )
        if count:
            await self._record(
                Entry(
                    id=identifier.bytes,
                    time_ns=self._clock_ns(),
                    project=self.project,
                    inputs=inputs,
                    answers=results,
                    via=via,
                )
            )
        for version in served:
            self.metrics.predicted(version.label, count)
        return answer, headers

    async def _ask(
        self, cache: AnswerCache, served: Sequence[Served], arrays: Arrays, rows: int
    ) -> tuple[list[tuple[Served, list[int], np.ndarray]], str]:
        """The answers by way of the cache, and its outcome: a hit if no model had to run."""
        results, hit = [], True
        for version in served:
            indices, scores, found = await cache.answer(
                version, arrays, rows, partial(self._run, version, arrays, rows)
            )
            results.append((version, indices, scores))
            hit = hit and found
        outcome = "hit" if hit else "miss"
        self.metrics.cached(self.project.name, outcome)
        return results, outcome

    async def _run(
        self, version: Served, arrays: Arrays, rows: int
    ) -> tuple[list[int], np.ndarray]:
        if version.is_quick(rows):
            indices, scores = version.model.predict(arrays)
        else:
            indices, scores = await anyio.to_thread.run_sync(version.model.predict, arrays)
        return indices.tolist(), scores
