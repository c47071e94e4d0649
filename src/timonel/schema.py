"""Columns: what is derived from a project's pydantic features.

A column says its kind, whether it may be missing and which values it allows. Nothing is guessed
from the dtype that some file happens to have: `int | None` is a whole number that may be missing.
"""

import types
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from timonel.errors import DefinitionError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Column", "Image", "Kind", "Pixels", "Unrecorded", "columns_of", "unrecorded_of"]

Kind = Literal["number", "integer", "boolean", "category", "image"]

Pixels = Annotated[Any, "pixels"]
"""The Python type of an image field; the field's `Image(…)` annotation says the rest."""

# Beyond this float32, which ONNX models take, no longer holds every whole number.
_EXACT_INTEGERS = 2**24


@dataclass(frozen=True)
class Image:
    """A picture of `height` × `width` pixels with values `low`..`high`, as a feature.

    Its values arrive as numbers in any nesting. They count as 0..1 when none exceeds 1, and as
    `low`..`high` otherwise; a picture of 0..255 whose brightest pixel is 1 would be black to the
    eye. `ink` says whether what is drawn is `light` on dark, or `dark` on light. The validated
    value is a float32 array (height · width,) in `low`..`high`.
    """

    height: int
    width: int
    low: float = 0.0
    high: float = 255.0
    ink: Literal["light", "dark"] = "light"

    @property
    def size(self) -> int:
        """How many pixels there are."""
        return self.height * self.width

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "type": "array",
            "items": {"type": "number", "minimum": self.low, "maximum": self.high},
            "minItems": self.size,
            "maxItems": self.size,
            "description": (
                f"{self.height}×{self.width} pixels, row by row, {self.ink} ink; "
                f"{self.low:g}..{self.high:g}, or 0..1 when no value exceeds 1."
            ),
        }

    def parse(self, value: object) -> "np.ndarray":
        """The picture as a float32 array (height · width,); raises pydantic's errors."""
        import numpy as np

        if isinstance(value, np.ndarray):
            value = value.ravel().tolist()
        if not isinstance(value, list | tuple):
            raise PydanticCustomError(
                "image_type",
                "Expected a list of {size} numbers, got {kind}",
                {"size": self.size, "kind": type(value).__name__},
            )
        kinds = set(map(type, value))
        flat: list[object] | tuple[object, ...] = value
        if list in kinds:
            flat = self._flatten(value)
            kinds = set(map(type, flat))
        if len(flat) != self.size:
            raise PydanticCustomError(
                "image_size",
                "Expected {size} numbers ({height}×{width} pixels), got {count}",
                {
                    "size": self.size,
                    "height": self.height,
                    "width": self.width,
                    "count": len(flat),
                },
            )
        if not kinds <= {int, float}:
            wrong = next(i for i, item in enumerate(flat) if type(item) not in (int, float))
            raise PydanticCustomError(
                "image_value",
                "Expected only numbers, got {kind} as pixel {index}",
                {"kind": type(flat[wrong]).__name__, "index": wrong},
            )
        try:
            with np.errstate(over="ignore"):
                pixels = np.array(flat, dtype=np.float32)
        except OverflowError:  # a whole number beyond the largest float
            pixels = np.array([np.inf], dtype=np.float32)
        lowest, highest = float(pixels.min()), float(pixels.max())
        if not (self.low <= lowest and highest <= self.high):  # NaN fails both
            raise PydanticCustomError(
                "image_range",
                "Expected numbers in {low}..{high}, got {lowest}..{highest}",
                {
                    "low": self.low,
                    "high": self.high,
                    "lowest": str(lowest),
                    "highest": str(highest),
                },
            )
        if highest <= 1.0 < self.high and self.low == 0.0:
            pixels *= np.float32(self.high)
            # k/255 · 255 misses k by a few units in the last place; the whole number is meant.
            whole = np.rint(pixels)
            if float(np.abs(pixels - whole).max()) < 1e-4:
                pixels = whole
        return pixels

    @staticmethod
    def _flatten(value: object) -> list[object]:
        flat: list[object] = []
        stack: list[object] = [value]
        while stack:
            item = stack.pop()
            if isinstance(item, list | tuple):
                stack.extend(reversed(item))
            else:
                flat.append(item)
        return flat


@dataclass(frozen=True)
class Unrecorded:
    """Keeps a feature out of the journal: `name: Annotated[str, Unrecorded()]`.

    Models get it; the record of an answer, and all that is made of records, has it missing.
    """


@dataclass(frozen=True)
class Column:
    """One feature: its name, kind, whether it may be missing, and the values it allows.

    `categories` is the closed set of a category, or None when any text is allowed. `image` is set
    for, and only for, kind `image`.
    """

    name: str
    kind: Kind
    nullable: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    categories: tuple[str, ...] | None = None
    min_length: int | None = None
    max_length: int | None = None
    image: Image | None = None

    def allows(self) -> str:
        """The allowed values as a phrase, for messages and cards."""
        parts: list[str] = [self.kind if self.kind != "category" else "text"]
        if self.image:
            parts = [f"image of {self.image.height}×{self.image.width}"]
        if self.categories is not None:
            parts = ["one of " + ", ".join(self.categories)]
        signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
        parts += [
            f"{sign} {getattr(self, bound):g}"
            for bound, sign in signs.items()
            if getattr(self, bound) is not None
        ]
        if self.min_length is not None:
            parts.append(f"at least {self.min_length} characters")
        if self.max_length is not None:
            parts.append(f"at most {self.max_length} characters")
        return ", ".join(parts) + (" or missing" if self.nullable else "")


def columns_of(features: type[BaseModel]) -> tuple[Column, ...]:
    """The columns of a pydantic model, in the order of its fields.

    Raises:
        DefinitionError: a field's type cannot be a column, naming the field.
    """
    if not features.model_fields:
        raise DefinitionError(
            f"{features.__name__}: expected at least one field, got none.",
            remedy="Declare the model's inputs as fields.",
        )
    columns = tuple(
        _column(features.__name__, name, info.annotation, info.metadata)
        for name, info in features.model_fields.items()
    )
    images = [column.name for column in columns if column.kind == "image"]
    if images and len(columns) > 1:
        raise DefinitionError(
            f"{features.__name__}: expected an image to be the only feature, got "
            f"{', '.join(column.name for column in columns)}."
        )
    return columns


def unrecorded_of(features: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a pydantic model that are kept out of the journal."""
    return tuple(
        name
        for name, info in features.model_fields.items()
        if any(isinstance(item, Unrecorded) for item in (*info.metadata, *_inner(info.annotation)))
    )


def _inner(annotation: object) -> list[object]:
    """What is said of the parts of an annotation, as in `Annotated[str, …] | None`."""
    parts = get_args(annotation)
    return [*parts, *(item for part in parts for item in _inner(part))]


def _column(owner: str, name: str, annotation: object, metadata: list[object]) -> Column:
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = [*metadata, *more]
    nullable = False
    if get_origin(annotation) in (Union, types.UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        nullable = len(options) < len(get_args(annotation))
        if len(options) == 1:
            inner = _column(owner, name, options[0], metadata)
            return Column(**{**_as_dict(inner), "nullable": nullable or inner.nullable})
    image = next((item for item in metadata if isinstance(item, Image)), None)
    if image:
        return Column(name, "image", image=image)
    kinds: dict[object, Kind] = {
        float: "number",
        int: "integer",
        bool: "boolean",
        str: "category",
    }
    if annotation in kinds:
        kind = kinds[annotation]
        return Column(name, kind, **_bounds(owner, name, kind, metadata))
    if get_origin(annotation) is Literal:
        values = get_args(annotation)
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        values = tuple(member.value for member in annotation)
    else:
        values = ()
    if values and all(isinstance(value, str) for value in values):
        return Column(name, "category", categories=tuple(values))
    raise DefinitionError(
        f"{owner}.{name}: expected float, int, bool, str, a Literal or Enum of texts, or an "
        f"Annotated[Pixels, Image(…)], got {annotation!r}.",
        remedy="Add `| None` to one of these where a value may be missing.",
    )


def _bounds(owner: str, name: str, kind: Kind, metadata: list[object]) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    for item in metadata:
        parts = list(item) if isinstance(item, annotated_types.GroupedMetadata) else [item]
        for part in parts:
            for bound in ("gt", "ge", "lt", "le", "min_length", "max_length"):
                if getattr(part, bound, None) is not None:
                    bounds[bound] = getattr(part, bound)
    widest = max((abs(bounds[b]) for b in ("gt", "ge", "lt", "le") if b in bounds), default=0)
    if kind == "integer" and widest > _EXACT_INTEGERS:
        raise DefinitionError(
            f"{owner}.{name}: expected whole numbers up to {_EXACT_INTEGERS:,} (a model's float32 "
            f"inputs hold no larger ones exactly), got a bound of {widest:,}.",
            remedy="Make it a `float`, or a `str` if it is a code and not a quantity.",
        )
    return bounds


def _as_dict(column: Column) -> dict[str, Any]:
    return {field.name: getattr(column, field.name) for field in fields(column)}
