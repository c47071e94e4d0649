"""The short way from a body to rows: good bodies only, and the very values of `RowReader`.

Whoever is told None asks `RowReader`, which takes more and knows how to refuse.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from timonel.errors import BadRequest
from timonel.journal.records import Value, image_bytes
from timonel.project import Project
from timonel.schema import Column, Image
from timonel.serving.rows import RowReader

__all__ = ["QuickReader", "QuickRows"]

_LARGEST = float(np.finfo(np.float32).max)
_DARK = bytes((0, 1))


class QuickRows(msgspec.Struct, frozen=True):
    """Rows in the order of the project's columns, as `Served.feed` and as the journal take them."""

    fed: Sequence[tuple[Any, ...]]
    kept: Sequence[tuple[Value, ...]]
    single: bool


class QuickReader:
    """Reads the bodies of one project whose rows need no more than one look."""

    def __init__(self, project: Project, reader: RowReader) -> None:
        columns = project.columns
        self._reader = reader
        self._unbounded = [
            place for place, column in enumerate(columns) if column.name in reader.unbounded
        ]
        self._one = _row_reader(project, reader)
        self._image = columns[0].name if columns[0].image else None
        self._picture = _picture_reader(project)

    def __call__(self, body: bytes) -> QuickRows | None:
        """The rows of a JSON body, or None: not for this way."""
        if self._picture is not None:
            return self._picture(body)
        rows: Sequence[BaseModel]
        try:
            if self._one is not None:
                rows, single = [self._one(body)], True
            else:
                rows, single = self._reader.read(body)
        except (ValidationError, BadRequest):
            return None
        values = self._reader.values(rows)
        if self._image is not None:
            return QuickRows([(row.__dict__[self._image],) for row in rows], values, single)
        for place in self._unbounded:
            for row in values:
                number: Any = row[place]
                if number is not None and not -_LARGEST <= number <= _LARGEST:
                    return None
        return QuickRows(values, values, single)


def _row_reader(project: Project, reader: RowReader) -> Callable[[bytes], BaseModel] | None:
    """What `RowReader.read` comes to where a body can only be one row."""
    if project.contract.rows != "one" or project.contract.under or project.columns[0].image:
        return None
    # The validator itself: a TypeAdapter looks at ten arguments before it asks it.
    read: Callable[[bytes], BaseModel] = reader.one.validator.validate_json
    return read


def _picture_reader(project: Project) -> Callable[[bytes], QuickRows | None] | None:
    """For bodies of one picture and nothing beside it, as flat numbers."""
    column, contract = project.columns[0], project.contract
    image = column.image
    if image is None or contract.rows == "many" or _is_validated(project.features, column):
        return None
    names = _names(project, column)
    whole, any_number = (
        _decoder(names, contract.under, numbers) for numbers in (list[int], list[int | float])
    )
    is_byte_range = (image.low, image.high) == (0.0, 255.0)

    def read(body: bytes) -> QuickRows | None:
        try:
            if is_byte_range:
                try:
                    given = whole(body)
                except msgspec.ValidationError:
                    given = any_number(body)
                else:
                    if given is not None and (found := _of_bytes(given, image)) is not None:
                        return found
            else:
                given = any_number(body)
            if given is None:
                return None
            pixels = image.parse(given)
        except (msgspec.MsgspecError, PydanticCustomError, RecursionError):
            return None
        return QuickRows([(pixels,)], [(image_bytes(pixels),)], True)

    return read


def _of_bytes(given: list[Any], image: Image) -> QuickRows | None:
    """A picture of whole numbers 0..255 of which some are above 1, without a look at each."""
    try:
        content = bytes(given)
    except ValueError:
        return None
    if len(content) != image.size or not content.translate(None, _DARK):
        return None
    pixels = np.frombuffer(content, np.uint8).astype(np.float32)
    return QuickRows([(pixels,)], [(content,)], True)


def _is_validated(features: Any, column: Column) -> bool:
    """Whether the features have code of their own, which only pydantic runs."""
    own = features.__pydantic_decorators__
    return (
        bool(own.field_validators or own.model_validators or own.validators or own.root_validators)
        or bool(features.__pydantic_custom_init__ or features.__pydantic_post_init__)
        or features.model_config.get("validate_by_alias") is False
        or any(
            not isinstance(item, str | Image)
            for item in features.model_fields[column.name].metadata
        )
    )


def _names(project: Project, column: Column) -> list[str]:
    """The keys that a picture is taken from."""
    alias = project.features.model_fields[column.name].validation_alias
    if isinstance(alias, AliasChoices):
        return [choice for choice in alias.choices if isinstance(choice, str)]
    return [alias] if isinstance(alias, str) else [column.name]


def _decoder(
    names: Sequence[str], under: str | None, numbers: Any
) -> Callable[[bytes], list[Any] | None]:
    """Reads `{name: numbers}` with one of the names, or bare numbers; None for anything else.

    A body with another key, if only to be ignored, is not for it: what is skipped is not checked.
    """
    fields = [
        (f"n{place}", numbers | msgspec.UnsetType, msgspec.field(default=msgspec.UNSET, name=name))
        for place, name in enumerate(names)
    ]
    row = msgspec.defstruct("Row", fields, forbid_unknown_fields=True)
    wrapped = [("row", row, msgspec.field(name=under))]
    outer = msgspec.defstruct("Wrapped", wrapped, forbid_unknown_fields=True) if under else row
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(outer).decode
    bare = msgspec.json.Decoder(numbers).decode

    def read(body: bytes) -> list[Any] | None:
        if body[:1] == b"[":
            listed: list[Any] = bare(body)
            return listed
        found = decode(body)
        given = msgspec.structs.astuple(found.row if under else found)
        there = [value for value in given if value is not msgspec.UNSET]
        return there[0] if len(there) == 1 else None

    return read
