"""The one way from a protocol's rows to an answer: limits, validation, the journal, the counts."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from timonel.contract import Answer
from timonel.errors import BodyTooLarge, TimonelError
from timonel.schema import Column
from timonel.serving.answer import Answerer
from timonel.serving.body import read_body
from timonel.serving.identity import caller_of, identifier_of
from timonel.serving.predict import json_response
from timonel.serving.protocols.refusals import headers_of, refusal_content, sentence_of
from timonel.serving.rows import Inputs, RowReader

__all__ = ["Asked", "Entrance"]


@dataclass(frozen=True)
class Asked:
    """What a request asks: rows, of which models, and how the answer is to be written."""

    inputs: Inputs
    models: Sequence[str]
    reply: Callable[[Answer], Response]


class Entrance:
    """Takes the rows of one project from any protocol, as mappings from field to value."""

    def __init__(
        self, answerer: Answerer, reader: RowReader, *, max_body: int, max_rows: int
    ) -> None:
        self.project = answerer.project
        self.answerer = answerer
        self.reader = reader
        self.max_body = max_body
        self.max_rows = max_rows
        self._many: TypeAdapter[list[BaseModel]] = TypeAdapter(list[reader.row])  # type: ignore[name-defined]
        self._columns = {
            name: column
            for column in self.project.columns
            for name in _wire_names(reader.row, column.name)
        }
        self._nullable = [name for name, column in self._columns.items() if column.nullable]
        checks = reader.row.__pydantic_decorators__
        self._plain = not (checks.field_validators or checks.model_validators)

    def column(self, name: str) -> Column | None:
        """The column that has this name on the wire, under any of its names."""
        return self._columns.get(name)

    def check_count(self, count: int) -> None:
        """Refuse more rows than a request may have.

        Raises:
            BodyTooLarge: there are more.
        """
        if count > self.max_rows:
            raise BodyTooLarge(
                f"Expected at most {self.max_rows} rows in a request, got {count}.",
                remedy="Send them in several requests.",
            )

    def inputs(self, rows: Sequence[Any]) -> Inputs:
        """Validated rows; what is no mapping is refused as such, NaN is missing where that may be.

        Raises:
            BodyTooLarge: there are more rows than a request may have.
            ValidationError: with the row's number, from 0, and the field.
            OutOfRange: a number is larger than float32 holds.
        """
        self.check_count(len(rows))
        for name in self._nullable:
            for row in rows:
                if isinstance(row, dict) and _is_nan(row.get(name)):
                    row[name] = None
        return self.reader.inputs(self._many.validate_python(rows), single=False)

    def pictures(self, name: str, pixels: np.ndarray) -> Inputs:
        """Validated rows of pictures, an array (n, pixels) of any numbers; raises as `inputs`."""
        self.check_count(len(pixels))
        flat = pixels.astype(np.float32, copy=False)
        if self._plain and self._as_they_are(self._columns[name], flat):
            return self.reader.inputs([self.reader.of_picture(row) for row in flat], single=False)
        return self.inputs([{name: row} for row in flat])

    async def __call__(
        self, request: Request, via: str, read: Callable[[bytes], Awaitable[Asked]]
    ) -> Response:
        """The reply to a request whose body `read` understands; refused with a sentence if not."""
        timer, metrics = self.answerer.timer, self.answerer.metrics
        started, status = timer(), 500
        try:
            response = await self._answer(request, via, read, started)
            status = response.status_code
        except ClientDisconnect:
            status = 400
            response = Response(status_code=status)
        finally:
            metrics.request(self.project.name, status, timer() - started)
        return response

    async def _answer(
        self, request: Request, via: str, read: Callable[[bytes], Awaitable[Asked]], started: float
    ) -> Response:
        try:
            asked = await read(await read_body(request, self.max_body))
            answer, headers = await self.answerer.answer(
                asked.inputs,
                asked.models,
                via,
                started,
                identifier_of(request, self.answerer),
                request.scope.get("timonel.deadline"),
                caller_of(request, self.answerer),
            )
            response = asked.reply(answer)
        except (ValidationError, TimonelError) as error:
            status, sentence = sentence_of(error)
            content = refusal_content(request.scope["path"], status, sentence)
            return json_response(content, status, headers_of(error))
        response.headers.update(headers)
        return response

    @staticmethod
    def _as_they_are(column: Column, pixels: np.ndarray) -> bool:
        """Whether validation would change nothing: right size, in range, and not within 0..1."""
        image = column.image
        if image is None or pixels.shape[1] != image.size or not len(pixels):
            return False
        brightest = pixels.max(axis=1)  # NaN fails the comparisons
        in_range = pixels.min() >= image.low and brightest.max() <= image.high
        return bool(in_range and (brightest.min() > 1.0 or image.low != 0.0 or image.high <= 1.0))


def _wire_names(row: type[BaseModel], field: str) -> list[str]:
    info = row.model_fields[field]
    alias = info.validation_alias or field
    names = [str(choice) for choice in getattr(alias, "choices", [alias])]
    return [*names, field] if row.model_config.get("populate_by_name") else names


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value  # noqa: PLR0124 (what makes it one)
