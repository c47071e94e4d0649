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

__all__ = ["Answerer", "Entry", "Mirrors", "Recorder", "Results"]

Results = Sequence[tuple[Served, list[int], np.ndarray]]
"""For each version that answered, its class indices and probabilities (rows, classes)."""


class Entry(msgspec.Struct, frozen=True):
    """What the journal is told of one answered request; `via` is the way in (json, upload, …).

    `rows` hold the inputs in the order of the project's columns, `seconds` is how long it took, and
    `failed` names versions that were asked and could not answer, with what they said.
    """

    id: bytes
    time_ns: int
    project: Project
    rows: Sequence[tuple[Value, ...]]
    answers: Results
    via: str
    seconds: float = 0.0
    failed: Sequence[tuple[Served, str]] = ()


class Mirrors(Protocol):
    """Asks a challenger what was answered already; see `timonel.serving.mirror`."""

    def __call__(
        self,
        project: Project,
        challenger: Served,
        run: Callable[[], Result],
        rows: Sequence[tuple[Value, ...]],
        identifier: bytes,
    ) -> None:
        """Returns at once."""
        ...


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
        mirror: Mirrors | None = None,
        ids: Callable[[], uuid.UUID] | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.project = project
        self.new_id = ids or Ids()
        self.timer = timer
        self.metrics = metrics
        self.record = record
        self._routes = routes
        self._cache = cache
        self._mirror = mirror
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
        caller: bytes | None = None,
    ) -> tuple[Answer, dict[str, str]]:
        """The answer, recorded and counted, and what the headers say of it.

        `started` is the timer's reading when the request came; `deadline` the monotonic clock's
        after which nobody waits for the answer; `caller` what `sticky` recognises a caller by.
        Where a challenger fails, the champion answers instead.

        Raises:
            NotReady: a model has no version yet.
            Overloaded: too many wait for a model already.
            DeadlinePassed: it is too late to run a model.
            JournalFull: it cannot be recorded.
        """
        name, key = self.project.name, caller or identifier.bytes
        served = [self._routes.answerer(name, model, key) for model in models]
        check_deadline(deadline, time.monotonic())
        arrays, count = inputs.arrays, inputs.count
        failed: list[tuple[Served, str]] = []
        ask = partial(self._answer_one, arrays=arrays, rows=count, deadline=deadline, failed=failed)
        found = [await ask(version) for version in served]
        results: Results = [(version, indices, scores) for version, indices, scores, _ in found]
        answer = self._answer(results, str(identifier), started, single=inputs.single)
        if count:
            kept = inputs.values()
            entry = self.entry(kept, results, via, identifier, answer.seconds, failed)
            await self.record(entry)
            self.mirror(models, key, identifier.bytes, kept, arrays=arrays)
        self.count(results, count)
        headers = {
            "X-Prediction-Id": answer.id,
            "X-Model-Version": ", ".join(version.label for version, *_ in results),
        }
        outcome = None
        if self._cache is not None:
            outcome = "hit" if all(hit for *_, hit in found) else "miss"
            self.metrics.cached(name, outcome)
        return answer, headers if outcome is None else headers | {"X-Cache": outcome}

    @property
    def cached(self) -> bool:
        """Whether answers are given again, so that finding one may take a while."""
        return self._cache is not None

    @property
    def mirrors(self) -> bool:
        """Whether some requests just now may be mirrored."""
        return self._mirror is not None and self._routes.shifts

    @property
    def sticky(self) -> str | None:
        """The header that callers are recognised by just now."""
        return self._routes.sticky(self.project.name)

    def quick(self, models: Sequence[str], rows: int, key: bytes) -> list[Served] | None:
        """The versions that answer, when they may run so many rows on the event loop.

        `key` is the prediction id's bytes; None too while callers are recognised by a header.

        Raises:
            NotReady: a model has no version yet.
        """
        routes, name = self._routes, self.project.name
        if routes.shifts:
            if self.sticky is not None:
                return None
            served = [routes.answerer(name, model, key) for model in models]
        else:
            served = [routes.champion(name, model) for model in models]
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

    def entry(
        self,
        rows: Sequence[tuple[Value, ...]],
        results: Results,
        via: str,
        identifier: uuid.UUID,
        seconds: float,
        failed: Sequence[tuple[Served, str]] = (),
    ) -> Entry:
        """What is to be recorded of an answer."""
        return Entry(
            identifier.bytes, self._clock_ns(), self.project, rows, results, via, seconds, failed
        )

    def mirror(
        self,
        models: Sequence[str],
        key: bytes,
        identifier: bytes,
        rows: Sequence[tuple[Value, ...]],
        *,
        fed: Sequence[tuple[Any, ...]] = (),
        arrays: Arrays | None = None,
    ) -> None:
        """Have challengers asked as well, of what was answered just now.

        `rows` are as the journal keeps them; the models take `arrays`, or `fed` without them.
        """
        if self._mirror is None:
            return
        for model in models:
            challenger = self._routes.mirrored(self.project.name, model, key)
            if challenger is not None:
                run = (
                    partial(challenger.model.answer, arrays)
                    if arrays is not None
                    else partial(_run_fed, challenger, fed)
                )
                self._mirror(self.project, challenger, run, rows, identifier)

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

    async def _answer_one(
        self,
        version: Served,
        *,
        arrays: Arrays,
        rows: int,
        deadline: float | None,
        failed: list[tuple[Served, str]],
    ) -> tuple[Served, list[int], np.ndarray, bool]:
        """A version's answer, or the champion's where a challenger fails; whether it was cached."""
        try:
            return version, *await self._ask(version, arrays, rows, deadline)
        except Exception as error:
            names = version.champion.key
            champion = self._routes.champion(*names)
            if champion is version:
                raise
            failed.append((version, f"{type(error).__name__}: {error}"))
            return champion, *await self._ask(champion, arrays, rows, deadline)

    async def _ask(
        self, version: Served, arrays: Arrays, rows: int, deadline: float | None
    ) -> tuple[list[int], np.ndarray, bool]:
        """A version's answer by way of the cache, if there is one; whether it was found there."""
        if self._cache is None:
            return *await self._run(version, arrays, rows, deadline), False
        # Several may share one run, so it must not end with the patience of one of them.
        run = partial(self._run, version, arrays, rows, None)
        return await self._cache.answer(version, arrays, rows, run)

    async def _run(
        self, version: Served, arrays: Arrays, rows: int, deadline: float | None
    ) -> Result:
        if version.is_quick(rows):
            return version.model.answer(arrays)
        if version.batcher is not None:
            return await version.batcher(arrays, rows, deadline)
        return await self._threads(partial(version.model.answer, arrays), deadline)


def _run_fed(version: Served, rows: Sequence[tuple[Any, ...]]) -> Result:
    return version.model.run(version.feed(rows))
