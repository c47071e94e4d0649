"""A request's body as rows: one pass of validation, and refusals that say where and what."""

import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import ErrorDetails, from_json

from timonel.contract import Contract
from timonel.errors import BodyTooLarge
from timonel.project import Project

__all__ = ["Refusal", "RowReader", "refusal_of"]

_MOST_ERRORS = 20
_ROWS_AHEAD = re.compile(rb"[\s\[]*\{")


class RowReader:
    """Reads the bodies of one project, as its contract says.

    Its methods raise pydantic's ValidationError; `refusal_of` turns that into a status and detail.
    """

    def __init__(self, project: Project, max_rows: int) -> None:
        contract = project.contract
        self.row = _wire_row(project.features, contract)
        self._max_rows = max_rows
        self._contract = contract
        wrapped: Any = self.row
        if contract.under:
            wrapped = create_model(
                f"{self.row.__name__}Request", **cast(Any, {contract.under: (self.row, ...)})
            )
        self.one: TypeAdapter[Any] = TypeAdapter(wrapped)
        self.many: TypeAdapter[Any] = TypeAdapter(list[wrapped])
        image = next((c for c in project.columns if c.kind == "image"), None)
        self._image = image.name if image else ""
        self._bare = first_alias(self.row, image.name) if image else None

    def read(self, body: bytes) -> tuple[Sequence[BaseModel], bool]:
        """The rows of a JSON body, and whether it was a single one rather than a list."""
        listed = body.lstrip()[:1] == b"["
        if listed and self._bare and not _ROWS_AHEAD.match(body):
            return [self._read_bare(body)], True
        single = {"one": True, "many": False, "either": not listed}[self._contract.rows]
        if single:
            return [self._unwrap(self.one.validate_json(body))], True
        rows = self.many.validate_json(body)
        if len(rows) > self._max_rows:
            raise BodyTooLarge(
                f"Expected at most {self._max_rows} rows in a request, got {len(rows)}.",
                remedy="Send them in several requests.",
            )
        return [self._unwrap(row) for row in rows], False

    def of_picture(self, pixels: np.ndarray) -> BaseModel:
        """The row of a prepared picture, in range by construction: nothing is left to validate."""
        row: Any = self.row
        return cast(BaseModel, row.model_construct(**{self._image: pixels}))

    def _read_bare(self, body: bytes) -> BaseModel:
        """A picture's numbers without a key around them."""
        try:
            numbers = from_json(body)
        except ValueError:
            self.one.validate_json(body)  # raises the same complaint in pydantic's form
            raise
        return self.row.model_validate({self._bare: numbers})

    def _unwrap(self, value: Any) -> BaseModel:
        return (
            cast(BaseModel, getattr(value, self._contract.under, None))
            if (self._contract.under)
            else cast(BaseModel, value)
        )


def _wire_row(features: type[BaseModel], contract: Contract) -> type[BaseModel]:
    """The features as they arrive: no NaN or infinity, extra fields as the contract says."""
    config = ConfigDict(
        extra="forbid" if contract.unknown == "refuse" else "ignore", allow_inf_nan=False
    )
    namespace = {
        "model_config": config,
        "__module__": features.__module__,
        "__doc__": features.__doc__,
    }
    metaclass: Any = type(features)
    return cast(type[BaseModel], metaclass(features.__name__, (features,), namespace))


def first_alias(row: type[BaseModel], field: str) -> str:
    """The name that a field has on the wire."""
    alias = row.model_fields[field].validation_alias
    choices = getattr(alias, "choices", None)
    return str(choices[0]) if choices else str(alias or field)


class Refusal(BaseModel):
    """Why a request was not answered: a sentence, or a list with a place for each complaint."""

    detail: str | list[dict[str, Any]]


def refusal_of(error: ValidationError) -> tuple[int, Refusal]:
    """The HTTP status and body for a request that failed validation.

    A picture with the wrong number of values is 400 with a sentence; all else is 422 with the list
    of places and messages that FastAPI's clients know.
    """
    found = error.errors(include_url=False, include_context=False)
    sized = next((item for item in found if item["type"] == "image_size"), None)
    if sized:
        return 400, Refusal(detail=f"{sized['msg']}.")
    return 422, Refusal(detail=[_complaint(item) for item in found[:_MOST_ERRORS]])


def _complaint(item: ErrorDetails) -> dict[str, Any]:
    complaint: dict[str, Any] = {
        "type": item["type"],
        "loc": ["body", *item["loc"]],
        "msg": item["msg"],
    }
    given = item.get("input")
    # Only what JSON can carry and a person can read: no NaN, no megabytes.
    if isinstance(given, bool | int | str) and len(str(given)[:201]) <= 200:
        complaint["input"] = given
    return complaint
