"""A request's body as rows: one pass of validation, and refusals that say where and what."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Annotated, Any, Literal, cast

import numpy as np
from annotated_types import Len
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import ErrorDetails, from_json

from timonel.contract import Contract
from timonel.errors import BadRequest, BodyTooLarge
from timonel.journal.records import Value, image_bytes
from timonel.project import Project
from timonel.schema import Column
from timonel.tensors import Arrays, arrays_of

__all__ = ["Inputs", "OutOfRange", "Refusal", "RowReader", "refusal_of"]

_MOST_ERRORS = 20
_ROWS_AHEAD = re.compile(rb"[\s\[]*+\{")


class OutOfRange(BadRequest):
    """A number that no model can be given."""

    status = 422


@dataclass(frozen=True)
class Inputs:
    """The validated rows of one request: as a model takes them, and as the journal keeps them.

    `values` is asked once, when the answer is recorded; a row's values stand in the order of the
    project's columns. `single` says that the request was one row and not a list.
    """

    arrays: Arrays
    count: int
    values: Callable[[], Sequence[tuple[Value, ...]]]
    single: bool


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
                f"{self.row.__name__}Request",
                __config__=ConfigDict(extra=_extra(contract)),
                row=(self.row, Field(alias=contract.under)),
            )
        self.one: TypeAdapter[Any] = TypeAdapter(wrapped)
        # Bounded in the schema: complaints about each of millions of rows would take half a minute.
        self.many: TypeAdapter[Any] = TypeAdapter(Annotated[list[wrapped], Len(0, max_rows)])
        self._columns = project.columns
        self.unbounded = [column.name for column in project.columns if _may_overflow(column)]
        """columns whose declared bounds leave room for numbers that float32 does not hold"""
        self._plain = _getter(project.columns)
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
        try:
            rows = self.many.validate_json(body)
        except ValidationError as error:
            self._check_length(error)
            raise
        return [self._unwrap(row) for row in rows], False

    def _check_length(self, error: ValidationError) -> None:
        if error.error_count() > 1:
            return
        (found,) = error.errors(include_url=False, include_input=False)
        if found["type"] == "too_long" and not found["loc"]:
            raise BodyTooLarge(
                f"Expected at most {self._max_rows} rows in a request, got "
                f"{found['ctx']['actual_length']}.",
                remedy="Send them in several requests.",
            ) from None

    def inputs(self, rows: Sequence[BaseModel], *, single: bool) -> Inputs:
        """What a model and the journal are given of validated rows.

        Raises:
            OutOfRange: a number is larger than float32 holds.
        """
        return Inputs(self.arrays(rows), len(rows), partial(self.values, rows), single)

    def values(self, rows: Sequence[BaseModel]) -> list[tuple[Value, ...]]:
        """What the journal keeps of validated rows, in the order of the project's columns."""
        if self._plain is not None:
            return [self._plain(row.__dict__) for row in rows]
        columns = self._columns
        return [tuple(_value(column, row.__dict__) for column in columns) for row in rows]

    def arrays(self, rows: Sequence[BaseModel]) -> Arrays:
        """The rows as a model takes them.

        Raises:
            OutOfRange: a number is larger than float32 holds.
        """
        values = {
            column.name: [getattr(row, column.name) for row in rows] for column in self._columns
        }
        try:
            with np.errstate(over="ignore"):
                arrays = arrays_of(self._columns, values)
        except OverflowError:  # a whole number beyond the largest float
            raise _too_large(self.unbounded) from None
        large = [name for name in self.unbounded if np.isinf(arrays[name]).any()]
        if large:
            raise _too_large(large)
        return arrays

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
        return cast(BaseModel, value.row if self._contract.under else value)


def _getter(
    columns: Sequence[Column],
) -> Callable[[Mapping[str, Any]], tuple[Value, ...]] | None:
    """All values of a row at once, where none is to be converted."""
    if len(columns) < 2 or any(c.image or c.categories is not None for c in columns):
        return None
    return itemgetter(*(column.name for column in columns))


def _value(column: Column, row: Mapping[str, Any]) -> Value:
    value = row[column.name]
    if column.image:
        return image_bytes(value)
    plain: Value = getattr(value, "value", value)  # an Enum's member is kept as its text
    return plain


def _extra(contract: Contract) -> Literal["forbid", "ignore"]:
    return "forbid" if contract.unknown == "refuse" else "ignore"


def _may_overflow(column: Column) -> bool:
    """Whether the declared bounds leave room for numbers that float32 does not hold."""
    if column.kind not in ("number", "integer"):
        return False
    least, most = (column.ge, column.gt), (column.le, column.lt)
    return all(bound is None for bound in least) or all(bound is None for bound in most)


def _too_large(names: Sequence[str]) -> OutOfRange:
    return OutOfRange(
        f"Expected numbers within ±{np.finfo(np.float32).max:.4g} in {', '.join(names)}, got a "
        "larger one."
    )


def _wire_row(features: type[BaseModel], contract: Contract) -> type[BaseModel]:
    """The features as they arrive: no NaN or infinity, extra fields as the contract says."""
    config = ConfigDict(extra=_extra(contract), allow_inf_nan=False)
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
    if (
        isinstance(given, bool)
        or (isinstance(given, int) and abs(given) < 2**53)
        or (isinstance(given, str) and len(given) <= 200)
    ):
        complaint["input"] = given
    return complaint
