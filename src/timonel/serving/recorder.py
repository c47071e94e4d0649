"""What was answered, as the journal keeps it."""

import asyncio
from collections.abc import Callable

import numpy as np

from timonel.journal.append import Journal
from timonel.journal.records import Answered, Meta, Record, Value, encode, kinds_of
from timonel.project import Project
from timonel.serving.answer import Entry
from timonel.serving.routing import Served

__all__ = ["JournalRecorder"]

_FLOATS = np.dtype("<f4")


class JournalRecorder:
    """Turns entries into journal records; used from one event loop."""

    def __init__(self, journal: Journal, environment: str) -> None:
        self._journal = journal
        self._environment = environment
        self._announced: set[str] = set()

    def __call__(self, entry: Entry) -> "asyncio.Future[None]":
        """Done when the entry is in the file."""
        return self._journal.append(self._encoded(entry))

    def then(self, entry: Entry, done: Callable[[BaseException | None], object]) -> None:
        """Call `done` when the entry is in the file; see `Journal.append_then`."""
        self._journal.append_then(self._encoded(entry), done)

    def _encoded(self, entry: Entry) -> bytes:
        for served, _, _ in entry.answers:
            if served.label not in self._announced:
                self._announce(entry.project, served)
        answers = [
            Answered(
                served.champion.model,
                served.label,
                [served.model.signature.classes[index] for index in indices],
                (scores if scores.dtype is _FLOATS else scores.astype(_FLOATS)).tobytes(),
            )
            for served, indices, scores in entry.answers
        ]
        for served, error in entry.failed:
            if served.label not in self._announced:
                self._announce(entry.project, served)
            answers.append(Answered(served.champion.model, served.label, [], b"", error))
        record = Record(
            id=entry.id,
            time_ns=entry.time_ns,
            project=entry.project.name,
            rows=_kept(entry) if entry.project.unrecorded else entry.rows,
            answers=answers,
            via=entry.via,
            environment=self._environment,
            seconds=entry.seconds,
        )
        return encode(record)

    def _announce(self, project: Project, served: Served) -> None:
        self._journal.announce(_meta(project, served))
        self._announced.add(served.label)


def _kept(entry: Entry) -> list[tuple[Value, ...]]:
    """The rows without what is kept out of the journal."""
    hidden = [column.name in entry.project.unrecorded for column in entry.project.columns]
    return [
        tuple(None if out else value for out, value in zip(hidden, row, strict=True))
        for row in entry.rows
    ]


def _meta(project: Project, served: Served) -> Meta:
    return Meta(
        project=project.name,
        columns=kinds_of(project.columns),
        model=served.champion.model,
        version=served.label,
        classes=served.model.signature.classes,
        text_log=project.text_log,
    )
