"""The native protocol: a JSON body or a picture's form in, the contract's reply out."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from timonel.errors import TimonelError
from timonel.serving.answer import Answerer
from timonel.serving.body import BadForm, UnsupportedBody, read_body, read_form
from timonel.serving.identity import caller_of, identifier_of
from timonel.serving.protocols.tabular import RefusedRows, Tabular, table_form
from timonel.serving.rows import Inputs, RowReader, refusal_of
from timonel.serving.threads import Threads
from timonel.tensors import picture_of

__all__ = ["Predictor", "json_response"]

# A decoded picture takes hundreds of megabytes at worst: more at once than this would be felt.
_PICTURES_AT_ONCE = 2

# Reading takes 15 ns a byte of numbers, and 0.1 µs of what makes many rows: some milliseconds.
_READ_AT_ONCE = 65_536


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON reply."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


class Predictor:
    """Answers `POST …/predict` of one project."""

    def __init__(
        self,
        answerer: Answerer,
        reader: RowReader,
        *,
        max_body: int,
        max_pixels: int,
        max_table_rows: int = 100_000,
    ) -> None:
        self.project = answerer.project
        self.reader = reader
        self.answerer = answerer
        self.max_body = max_body
        self._max_pixels = max_pixels
        self._timer = answerer.timer
        self._tables = Tabular(answerer, reader, max_body=max_body, max_rows=max_table_rows)
        self._threads = Threads()
        self._pictures = anyio.CapacityLimiter(_PICTURES_AT_ONCE)

    async def __call__(self, request: Request) -> Response:
        """The reply to one request; every refusal is a 4xx or 503 with a sentence."""
        started = self._timer()
        status = 500
        try:
            kind = request.headers.get("content-type", "")
            if kind.lower().startswith("multipart/form-data"):
                response = await self._picture(request, started)
            elif kind and (form := table_form(kind)):
                response = await self._table(request, form, started)
            else:
                response = await self._json(request, started)
            status = response.status_code
        except ClientDisconnect:
            status = 400
            response = Response(status_code=status)
        finally:
            self.answerer.metrics.request(self.project.name, status, self._timer() - started)
        return response

    async def _json(self, request: Request, started: float) -> Response:
        try:
            body = await read_body(request, self.max_body)
            read = partial(self._inputs, body)
            inputs = read() if len(body) <= _READ_AT_ONCE else await self._threads(read)
            models = self.answerer.models(request.query_params.get("model"))
            answer, headers = await self.answerer.answer(
                inputs,
                models,
                "json",
                started,
                identifier_of(request, self.answerer),
                request.scope.get("timonel.deadline"),
                caller_of(request, self.answerer),
            )
            content = self.project.contract.reply(answer)
        except ValidationError as error:
            status, refusal = refusal_of(error)
            return json_response(refusal.model_dump(), status)
        except TimonelError as error:
            return self.refused(error)
        return json_response(content, headers=headers)

    def _inputs(self, body: bytes) -> Inputs:
        rows, single = self.reader.read(body)
        return self.reader.inputs(rows, single=single)

    async def _table(self, request: Request, form: str, started: float) -> Response:
        try:
            return await self._tables(request, form, started)
        except RefusedRows as error:
            return json_response({"detail": error.detail}, error.status)
        except TimonelError as error:
            return self.refused(error)

    def refused(self, error: TimonelError) -> Response:
        """The reply to a JSON request that cannot be answered."""
        return json_response({"detail": str(error)}, error.status, _retry(error))

    async def _picture(self, request: Request, started: float) -> Response:
        upload = self.project.contract.upload
        identifier = identifier_of(request, self.answerer)
        try:
            row, model = await self._read_picture(request)
            answer, headers = await self.answerer.answer(
                self.reader.inputs([row], single=True),
                self.answerer.models(model or self.project.model(None).name),
                "upload",
                started,
                identifier,
                request.scope.get("timonel.deadline"),
                caller_of(request, self.answerer),
            )
            content = (upload.reply if upload else self.project.contract.reply)(answer)
            return json_response(content, headers=headers)
        except ValidationError as error:
            status, refusal = refusal_of(error)
            sentence, headers = str(refusal.detail), {}
        except TimonelError as error:
            status, sentence, headers = error.status, str(error), _retry(error)
        if upload:
            seconds = self._timer() - started
            content = upload.refusal(status, sentence, str(identifier), seconds)
        else:
            content = {"detail": sentence}
        return json_response(content, status, headers)

    async def _read_picture(self, request: Request) -> tuple[BaseModel, str | None]:
        """The prepared picture of a form, as a row, and the name of the model asked."""
        column = self.project.columns[0]
        if column.image is None:
            raise UnsupportedBody(
                f"Project {self.project.name} takes no pictures; expected a JSON body."
            )
        form = await read_form(request, self.max_body)
        try:
            return await self._picture_in(form)
        finally:
            await form.close()

    async def _picture_in(self, form: FormData) -> tuple[BaseModel, str | None]:
        upload = self.project.contract.upload
        model = form.get("model")
        if isinstance(model, UploadFile):
            raise BadForm("Expected form field 'model' to be a name, got a file.")
        if not model and upload and upload.model_required:
            raise BadForm(
                "Expected form field 'model' with a model's name, got none.",
                remedy=f"Models: {', '.join(self.project.model_names)}.",
            )
        self.project.model(model or None)  # an unknown model is said before the picture is read
        image = form.get("image")
        if not isinstance(image, UploadFile):
            got = "none" if image is None else "text instead of a file"
            raise BadForm(f"Expected form field 'image' with a picture file, got {got}.")
        content = await image.read()
        row = await anyio.to_thread.run_sync(self._prepare, content, limiter=self._pictures)
        return row, model or None

    def _prepare(self, content: bytes) -> BaseModel:
        from timonel.data.pictures import prepare

        column = self.project.columns[0]
        if column.image is None:  # _read_picture has refused these
            raise TypeError(column.kind)
        pixels = prepare(
            content,
            height=column.image.height,
            width=column.image.width,
            max_pixels=self._max_pixels,
        )
        return self.reader.of_picture(picture_of(column, pixels))


def _retry(error: TimonelError) -> dict[str, str]:
    return {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
