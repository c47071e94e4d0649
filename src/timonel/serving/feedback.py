"""`POST …/feedback`: true labels of predictions, in the journal before the reply leaves."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from timonel.errors import NotReady, TimonelError
from timonel.journal.append import Journal
from timonel.journal.feedback import FeedbackReader, RefusedFeedback
from timonel.journal.records import Feedback, encode
from timonel.project import Project
from timonel.serving.body import BadForm, UnsupportedBody, read_body, read_form
from timonel.serving.metrics import Metrics
from timonel.serving.predict import json_response
from timonel.serving.protocols.tabular import table_form
from timonel.serving.routing import Routes
from timonel.serving.threads import Threads
from timonel.signature import Label

__all__ = ["FeedbackDesk", "classes_of", "feedback_operation", "recorder"]

_BLOCK = 256  # records that are encoded in one turn of the event loop
_READ_AT_ONCE = 16_384  # bytes that are read there, in less than a millisecond

_DETAIL = (
    "Recorded. Labels are joined to predictions by their ids: timonel accuracy {project} shows "
    "what came of them, and how many name a prediction that is not known."
)


def classes_of(project: Project, routes: Routes) -> tuple[Label, ...]:
    """The labels that may be said: those declared, and those that the champions answer.

    Raises:
        NotReady: none are declared, and no version is loaded.
    """
    found = dict.fromkeys(project.labels or ())
    waits: NotReady | None = None
    for model in project.model_names:
        try:
            found |= dict.fromkeys(routes.champion(project.name, model).model.signature.classes)
        except NotReady as error:
            waits = error
    if not found and waits is not None:
        raise waits
    return tuple(found)


def recorder(journal: Journal) -> Callable[[Feedback], Awaitable[None]]:
    """What writes a label down; awaited, it is in the file."""
    return lambda said: journal.append(encode(said))


class FeedbackDesk:
    """Takes the feedback on one project's predictions.

    `classes` are the labels that may be said, `record` writes one down. Which ids there are is not
    known here: a worker does not ask the database.
    """

    def __init__(
        self,
        project: Project,
        classes: Callable[[], Sequence[Label]],
        record: Callable[[Feedback], Awaitable[None]],
        metrics: Metrics,
        *,
        max_body: int,
        max_rows: int,
        max_table_rows: int,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.project = project
        self._classes = classes
        self._record = record
        self._metrics = metrics
        self._reader = FeedbackReader(
            project.name, max_rows=max_rows, max_table_rows=max_table_rows
        )
        self._max_body = max_body
        self._threads = Threads()
        self._clock_ns = clock_ns

    async def __call__(self, request: Request) -> Response:
        """202 when all is recorded; every refusal is a 4xx or 503 with a sentence."""
        try:
            said, rows = await self._said(request)
            for start in range(0, len(said), _BLOCK):
                await asyncio.gather(*map(self._record, said[start : start + _BLOCK]))
        except ClientDisconnect:
            return Response(status_code=400)
        except RefusedFeedback as error:
            return json_response({"detail": error.detail}, error.status)
        except TimonelError as error:
            retry = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
            return json_response({"detail": str(error)}, error.status, retry)
        self._metrics.said(self.project.name, len(said))
        content = {
            "received": rows,
            "recorded": len(said),
            "detail": _DETAIL.format(project=self.project.name),
        }
        return json_response(content, 202)

    async def _said(self, request: Request) -> tuple[list[Feedback], int]:
        """What the body says, and how many rows it had."""
        kind = request.headers.get("content-type", "").lower()
        read = self._reader.json
        if kind.startswith("multipart/form-data"):
            body, read = await self._file(request), self._reader.csv
        else:
            if form := table_form(kind):
                if form != "csv":
                    raise UnsupportedBody("Expected feedback as JSON or CSV, got another table.")
                read = self._reader.csv
            body = await read_body(request, self._max_body)
        work = partial(read, body, self._classes(), self._clock_ns())
        return work() if len(body) <= _READ_AT_ONCE else await self._threads(work)

    async def _file(self, request: Request) -> bytes:
        form = await read_form(request, self._max_body)
        try:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                got = "none" if file is None else "text instead of a file"
                raise BadForm(f"Expected form field 'file' with a CSV file, got {got}.")
            return await file.read()
        finally:
            await form.close()


def feedback_operation(project: Project) -> dict[str, Any]:
    """What `/docs` says of a project's feedback route."""
    names = {"type": ["string", "integer"]}
    label = {**names, "enum": list(project.labels)} if project.labels else names
    one = {
        "type": "object",
        "properties": {
            "id": {
                "type": "string",
                "description": "The prediction's id (X-Prediction-Id), or ID.n for its row n.",
            },
            "label": {**label, "description": f"What {project.target} was."},
            "row": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
        },
        "required": ["id", "label"],
        "additionalProperties": False,
    }
    example = {
        "id": "01a1f957-f998-7000-84db-70c947e9c63e",
        "label": project.labels[0] if project.labels else "…",
    }
    file = {"type": "string", "format": "binary", "description": "CSV with columns id and label."}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [one, {"type": "array", "items": one}]},
                    "example": example,
                },
                "text/csv": {"schema": {"type": "string"}, "example": "id,label\n"},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"file": file},
                        "required": ["file"],
                    }
                },
            },
        },
        "responses": {
            "202": _response(
                "It is in the journal.",
                {
                    "type": "object",
                    "properties": {
                        "received": {"type": "integer"},
                        "recorded": {"type": "integer"},
                        "detail": {"type": "string"},
                    },
                    "required": ["received", "recorded", "detail"],
                },
            ),
            **{
                str(status): _response(
                    sentence,
                    {"type": "object", "properties": {"detail": {}}, "required": ["detail"]},
                )
                for status, sentence in _STATUSES.items()
            },
        },
    }


_STATUSES = {
    400: "The body cannot be read.",
    413: "The body or its rows are more than allowed.",
    415: "It is neither JSON nor CSV.",
    422: "An id is none, or a label is none of the classes; the reply says where.",
    503: "The classes are not known yet, or the journal cannot be written.",
}


def _response(sentence: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": sentence, "content": {"application/json": {"schema": schema}}}
