"""A table's columns as a model takes them, with the very verdicts that its rows would get.

What is surely fit is told column by column. Every row that is not goes to the project's pydantic
model, which alone refuses: a table means what the same rows mean as JSON, only sooner.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import annotated_types
import numpy as np
from pydantic import AliasChoices, BaseModel, ValidationError

from timonel.errors import BadRequest
from timonel.journal.records import Value
from timonel.project import Project
from timonel.schema import Column, Image
from timonel.serving.rows import Inputs, OutOfRange, RowReader, first_alias, refusal_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Complaint", "MissingColumns", "Table", "TableReader"]

_FLOAT32 = float(np.finfo(np.float32).max)
_EXACT = 2.0**53
_KNOWN = (
    annotated_types.Gt,
    annotated_types.Ge,
    annotated_types.Lt,
    annotated_types.Le,
    annotated_types.Interval,
    annotated_types.MinLen,
    annotated_types.MaxLen,
    annotated_types.Len,
    Image,
)


class MissingColumns(BadRequest):
    """A table without columns that every row must have, or with some that none may have."""

    status = 422


@dataclass(frozen=True)
class Complaint:
    """What is wrong with one value: `row` from 0, and where and why as a refused JSON row has it.

    `field` is empty when the whole row is meant.
    """

    row: int
    field: str
    message: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The fit rows of a table, and what is wrong with the others.

    `inputs` holds the fit rows only; `fit` bool (n,) says which of the table's those are.
    """

    inputs: Inputs
    fit: np.ndarray
    complaints: Sequence[Complaint]


@dataclass
class _Judged:
    """A column as far as columns can tell: `values` where `sure`, bool (n,)."""

    array: np.ndarray
    sure: np.ndarray
    values: "Callable[[], list[Any]]"
    patches: dict[int, Value] = field(default_factory=dict)


class TableReader:
    """Reads the tables of one project; `unknown` says what columns it does not know are."""

    def __init__(self, project: Project, reader: RowReader) -> None:
        self._columns = project.columns
        self._reader = reader
        self._refuses_unknown = project.contract.unknown == "refuse"
        fields = project.features.model_fields
        self._names = {name: _names_of(reader.row, name) for name in fields}
        self._wire = {name: first_alias(reader.row, name) for name in fields}
        self._plain = {
            name: _is_plain(info.annotation, info.metadata) for name, info in fields.items()
        }
        # What a definition adds to its types by functions and options only pydantic can judge.
        decorators = project.features.__pydantic_decorators__
        lists = ("validators", "field_validators", "root_validators", "model_validators")
        config = set(project.features.model_config) - _HARMLESS
        self._by_row = bool(config) or any(getattr(decorators, name) for name in lists)

    def found(self, given: Sequence[str], *, strict: bool = False) -> dict[str, str]:
        """The table's column for each feature that it has; `strict`: as the contract says of more.

        Raises:
            MissingColumns: a feature that every row must have has none, or strict found others.
        """
        found = {
            name: next(option for option in options if option in given)
            for name, options in self._names.items()
            if any(option in given for option in options)
        }
        fields = self._reader.row.model_fields
        absent = [
            self._wire[name]
            for name, info in fields.items()
            if name not in found and info.is_required()
        ]
        if absent:
            raise MissingColumns(
                f"Expected the columns {', '.join(self._wire.values())}; {', '.join(absent)} "
                f"{'is' if len(absent) == 1 else 'are'} missing, got {', '.join(given) or 'none'}."
            )
        others = [name for name in given if name not in found.values()]
        if strict and self._refuses_unknown and others:
            raise MissingColumns(
                f"Expected only the columns {', '.join(self._wire.values())}, got also "
                f"{', '.join(others)}.",
                remedy="Leave them out.",
            )
        return found

    def read(self, frame: "pl.DataFrame", *, strict: bool = False) -> Table:
        """The rows of a table; values may be texts, as those of a CSV file are.

        An empty value is a missing one, and left out where the field may not be null.

        Raises:
            MissingColumns: as `found` does.
        """
        found = self.found(frame.columns, strict=strict)
        judged = {column.name: self._judge(column, frame, found) for column in self._columns}
        sure = np.ones(frame.height, bool)
        for column in judged.values():
            sure &= column.sure
        if self._by_row:
            sure[:] = False
        complaints: list[Complaint] = []
        fit = sure.copy()
        doubted = np.flatnonzero(~sure)
        if doubted.size:
            self._ask(frame, found, doubted, judged, fit, complaints)
        arrays = {name: column.array for name, column in judged.items()}
        if not fit.all():
            arrays = {name: array[fit] for name, array in arrays.items()}

        def values() -> list[tuple[Value, ...]]:
            lists = []
            for column in judged.values():
                given = column.values()
                for row, value in column.patches.items():
                    given[row] = value
                lists.append(given)
            rows = list(zip(*lists, strict=True))
            return rows if fit.all() else [row for row, good in zip(rows, fit, strict=True) if good]

        inputs = Inputs(arrays, int(fit.sum()), values, single=False)
        return Table(inputs, fit, complaints)

    def _ask(
        self,
        frame: "pl.DataFrame",
        found: Mapping[str, str],
        doubted: np.ndarray,
        judged: Mapping[str, _Judged],
        fit: np.ndarray,
        complaints: list[Complaint],
    ) -> None:
        """Let pydantic judge the doubted rows."""
        given = frame.select(list(found.values()))[doubted.tolist()]
        nullable = {column.name for column in self._columns if column.nullable}
        columns = [
            (self._wire[name], _pythonic(column, given[found[name]]), name in nullable)
            for name, column in ((c.name, c) for c in self._columns)
            if name in found
        ]
        rows: list[BaseModel] = []
        places: list[int] = []
        for position, row in enumerate(doubted.tolist()):
            values = {
                wire: listed[position]
                for wire, listed, may_be_null in columns
                if listed[position] is not None or may_be_null
            }
            try:
                read = self._reader.row.model_validate(values)
                self._reader.arrays([read])
            except ValidationError as error:
                complaints += _complaints(row, error)
            except OutOfRange as error:
                complaints.append(Complaint(row, "", error.message, {"msg": error.message}))
            else:
                rows.append(read)
                places.append(row)
        if not rows:
            return
        fit[places] = True
        arrays = self._reader.arrays(rows)
        kept = self._reader.values(rows)
        for number, (name, column) in enumerate(judged.items()):
            column.array[places] = arrays[name]
            column.patches.update(
                {row: kept[i][number] for i, row in enumerate(places)},
            )

    def _judge(self, column: Column, frame: "pl.DataFrame", found: Mapping[str, str]) -> _Judged:
        import polars as pl

        if column.name not in found:
            default = self._reader.row.model_fields[column.name].get_default(
                call_default_factory=True
            )
            given = pl.repeat(getattr(default, "value", default), frame.height, eager=True)
        else:
            given = frame[found[column.name]]
        if not self._plain[column.name]:
            return _nothing(column, frame.height)
        if column.image is not None:
            return _pictures(column, column.image, given)
        value = _certain(column, given)
        if value is None:
            return _nothing(column, frame.height)
        allowed = _within(column, value)
        sure = value.is_not_null() & allowed
        if column.nullable:
            sure |= given.is_null()
        return _Judged(
            array=_array(column, value),
            sure=sure.fill_null(False).to_numpy().copy(),
            values=value.to_list,
        )


_HARMLESS = {"title", "extra", "populate_by_name", "validate_by_name", "validate_by_alias",
             "json_schema_extra", "protected_namespaces", "frozen"}  # fmt: skip


def _names_of(row: type[BaseModel], field_name: str) -> list[str]:
    """What a feature's column may be called: its names on the wire, and its own."""
    alias = row.model_fields[field_name].validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return list(dict.fromkeys([*(c for c in choices if isinstance(c, str)), field_name]))


def _is_plain(annotation: object, metadata: Sequence[object]) -> bool:
    """Whether a field's type says no more than its column does."""
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = [*metadata, *more]
    if not all(isinstance(item, (*_KNOWN, str)) or _is_field(item) for item in metadata):
        return False
    if get_origin(annotation) in (Union, UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        return len(options) == 1 and _is_plain(options[0], ())
    return True


def _is_field(item: object) -> bool:
    inner = getattr(item, "metadata", None)  # Field(…) inside Annotated
    return inner is not None and all(isinstance(part, _KNOWN) for part in inner)


def _nothing(column: Column, rows: int) -> _Judged:
    """A column that has to be asked for row by row."""
    array: np.ndarray
    if column.image is not None:
        array = np.zeros((rows, column.image.size), np.float32)
    elif column.kind == "category":
        array = np.full(rows, "", object)
    else:
        array = np.full(rows, np.nan, np.float32)
    return _Judged(array, np.zeros(rows, bool), lambda: [None] * rows)


def _certain(column: Column, given: "pl.Series") -> "pl.Series | None":
    """The values in their final type, null where that is not certain; None if it never is."""
    import polars as pl

    kind = given.dtype
    if column.kind == "category":
        text = kind in (pl.String, pl.Categorical, pl.Enum, pl.Null)
        return given.cast(pl.String) if text else None
    if column.kind == "boolean":
        if kind == pl.Boolean:
            return given
        if kind == pl.String:
            texts = {"true": True, "false": False, "True": True, "False": False}
            return given.replace_strict(texts, default=None, return_dtype=pl.Boolean)
        if kind.is_integer():
            return given.replace_strict({0: False, 1: True}, default=None, return_dtype=pl.Boolean)
        return None
    if kind == pl.String:
        # What polars takes for a number is one to pydantic as well, but not the other way round.
        given = given.cast(pl.Float64 if column.kind == "number" else pl.Int64, strict=False)
    elif not kind.is_integer() and not kind.is_float() and kind != pl.Null:
        return None
    if column.kind == "number":
        number = given.cast(pl.Float64)
        return number.set(~(number.abs() <= _FLOAT32).fill_null(False), None)
    if given.dtype.is_float():
        number = given.cast(pl.Float64)
        whole = (number == number.floor()) & (number.abs() < _EXACT)
        given = number.set(~whole.fill_null(False), None)
    return given.cast(pl.Int64, strict=False)


def _within(column: Column, value: "pl.Series") -> "pl.Series":
    import polars as pl

    allowed = pl.repeat(True, len(value), eager=True)
    compared = {"ge": value.__ge__, "gt": value.__gt__, "le": value.__le__, "lt": value.__lt__}
    for bound, compare in compared.items():
        if (limit := getattr(column, bound)) is not None:
            allowed &= compare(limit)
    if column.categories is not None:
        allowed &= value.is_in(list(column.categories))
    if column.min_length is not None:
        allowed &= value.str.len_chars() >= column.min_length
    if column.max_length is not None:
        allowed &= value.str.len_chars() <= column.max_length
    return allowed


def _array(column: Column, value: "pl.Series") -> np.ndarray:
    import polars as pl

    if column.kind == "category":
        return np.array(value.fill_null("").to_numpy(), dtype=object)
    return np.array(value.cast(pl.Float64).fill_null(float("nan")).to_numpy(), dtype=np.float32)


def _pictures(column: Column, image: Image, given: "pl.Series") -> _Judged:
    """Pictures as lists of numbers; those of 0..1 and odd ones are asked for row by row."""
    import polars as pl

    rows, kind = len(given), given.dtype
    judged = _nothing(column, rows)
    if not isinstance(kind, pl.List | pl.Array) or not rows:
        return judged
    flat = kind.inner
    if flat is None or not (flat.is_integer() or flat.is_float()) or given.null_count():
        return judged
    listed = given.arr.to_list() if isinstance(kind, pl.Array) else given
    if not (listed.list.len() == image.size).all():
        return judged
    numbers = listed.explode()
    if numbers.null_count():
        return judged
    with np.errstate(over="ignore"):
        judged.array[:] = numbers.to_numpy().astype(np.float32).reshape(rows, -1)
    low, high = judged.array.min(axis=1), judged.array.max(axis=1)
    shares = (image.low == 0.0) & (high <= 1.0) & (image.high > 1.0)
    judged.sure[:] = (low >= image.low) & (high <= image.high) & ~shares
    from timonel.journal.records import image_bytes

    judged.values = lambda: [image_bytes(pixels) for pixels in judged.array]
    return judged


def _pythonic(column: Column, given: "pl.Series") -> list[Any]:
    """A column's values as pydantic is given them; a picture's text is its JSON."""
    from pydantic_core import from_json

    values = given.to_list()
    if column.image is None:
        return values
    lists: list[Any] = []
    for value in values:
        try:
            lists.append(from_json(value) if isinstance(value, str) else value)
        except ValueError:
            lists.append(value)
    return lists


def _complaints(row: int, error: ValidationError) -> list[Complaint]:
    detail = refusal_of(error)[1].detail
    if isinstance(detail, str):
        return [Complaint(row, "", detail, {"msg": detail})]
    return [
        Complaint(row, ".".join(str(part) for part in item["loc"][1:]), item["msg"], item)
        for item in detail
    ]
