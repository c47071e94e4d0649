"""Columns as arrays, and arrays as the inputs of an ONNX graph: training and serving share this.

"Arrays" are a dict from column name to a numpy array of n rows: float32 (n,) for numbers, whole
numbers and booleans, NaN where missing; objects (n,) of str for categories, "" where missing;
float32 (n, height · width) for images, in the range of the column's `Image`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from timonel.errors import DataRefused
from timonel.schema import Column
from timonel.signature import Binding

if TYPE_CHECKING:
    import polars

__all__ = [
    "Arrays",
    "Feeder",
    "arrays_of",
    "arrays_of_frame",
    "binding_for",
    "feed",
    "feeder",
    "picture_of",
]

Arrays = dict[str, np.ndarray]

Feeder = Callable[[Sequence[tuple[Any, ...]]], dict[str, np.ndarray]]
"""From rows of plain values to the inputs of a graph, as `arrays_of` and `feed` would make them."""

_NUMERIC = ("number", "integer", "boolean")


def arrays_of(columns: Sequence[Column], values: Mapping[str, Sequence[Any]]) -> Arrays:
    """The arrays of n rows given column by column; None is missing."""
    arrays: Arrays = {}
    for column in columns:
        given = values[column.name]
        if column.kind in _NUMERIC:
            arrays[column.name] = np.array(given, dtype=np.float32)  # None becomes NaN
        elif column.kind == "category":
            arrays[column.name] = np.array(
                ["" if value is None else getattr(value, "value", value) for value in given],
                dtype=object,
            )
        else:
            size = column.image.size if column.image else 0  # -1 would fail on no rows at all
            arrays[column.name] = np.array(given, dtype=np.float32).reshape(len(given), size)
    return arrays


def arrays_of_frame(columns: Sequence[Column], frame: "polars.DataFrame") -> Arrays:
    """The arrays of a checked frame; an image is a binary column of uint8 pixels 0..255."""
    import polars as pl

    arrays: Arrays = {}
    for column in columns:
        series = frame[column.name]
        if column.kind in _NUMERIC:
            arrays[column.name] = series.cast(pl.Float32).to_numpy().astype(np.float32)
        elif column.kind == "category":
            arrays[column.name] = series.cast(pl.String).fill_null("").to_numpy().astype(object)
        else:
            arrays[column.name] = _pictures(column, series.to_list())
    return arrays


def _pictures(column: Column, contents: list[bytes]) -> np.ndarray:
    size = column.image.size if column.image else 0
    joined = b"".join(contents)
    if len(joined) != size * len(contents):
        raise DataRefused(
            f"Column {column.name}: expected {size} bytes a picture, got other sizes.",
        )
    pixels = np.frombuffer(joined, dtype=np.uint8).reshape(len(contents), size)
    return pixels.astype(np.float32)


def picture_of(column: Column, pixels: np.ndarray) -> np.ndarray:
    """A prepared uint8 picture (height, width), light ink, as one float32 row of the column."""
    image = column.image
    if image is None:
        raise DataRefused(f"Column {column.name}: expected an image, got a {column.kind}.")
    flat = pixels.astype(np.float32).ravel()
    if image.ink == "dark":
        flat = 255.0 - flat
    if (image.low, image.high) != (0.0, 255.0):
        flat = image.low + flat * ((image.high - image.low) / 255.0)
    return flat


def binding_for(columns: Sequence[Column]) -> Binding:
    """How models that are trained here take these columns."""
    first = columns[0]
    if first.image:
        low, high = first.image.low, first.image.high
        return Binding("image", (first.name,), shape=(first.image.size,), low=low, high=high)
    if all(column.kind in _NUMERIC for column in columns):
        return Binding("matrix", ("features",))
    return Binding("columns", tuple(column.name for column in columns))


def feed(binding: Binding, columns: Sequence[Column], arrays: Arrays) -> dict[str, np.ndarray]:
    """The ONNX inputs: name → array of n rows."""
    if binding.layout == "matrix":
        stacked = np.column_stack([arrays[column.name] for column in columns])
        return {binding.inputs[0]: np.ascontiguousarray(stacked, dtype=np.float32)}
    if binding.layout == "image":
        return {binding.inputs[0]: _scaled(binding, columns[0], arrays[columns[0].name])}
    return {
        name: arrays[column.name].reshape(-1, 1)
        for name, column in zip(binding.inputs, columns, strict=True)
    }


def feeder(binding: Binding, columns: Sequence[Column], given: Sequence[Column]) -> Feeder:
    """The short way to a graph's inputs for a few rows, whose values stand in the order `given`.

    A text is a str, a picture float32 (size,), missing is None.
    """
    places = {column.name: place for place, column in enumerate(given)}
    order = [places[column.name] for column in columns]
    if binding.layout == "image":
        return _picture_feeder(binding, columns[0], order[0])
    if binding.layout == "matrix":
        return _matrix_feeder(binding.inputs[0], order, len(given))
    return _column_feeder(
        [
            (name, place, column.kind == "category")
            for name, place, column in zip(binding.inputs, order, columns, strict=True)
        ]
    )


def _picture_feeder(binding: Binding, column: Column, place: int) -> Feeder:
    (name,) = binding.inputs

    def pictures(rows: Sequence[tuple[Any, ...]]) -> dict[str, np.ndarray]:
        pixels = rows[0][place] if len(rows) == 1 else np.array([row[place] for row in rows])
        return {name: _scaled(binding, column, pixels)}

    return pictures


def _matrix_feeder(name: str, order: list[int], width: int) -> Feeder:
    if order == list(range(width)):
        return lambda rows: {name: np.array(rows, np.float32)}
    return lambda rows: {name: np.array([[row[i] for i in order] for row in rows], np.float32)}


def _column_feeder(inputs: Sequence[tuple[str, int, bool]]) -> Feeder:
    def columns(rows: Sequence[tuple[Any, ...]]) -> dict[str, np.ndarray]:
        fed = {}
        for name, place, is_text in inputs:
            if is_text:
                texts = [["" if row[place] is None else row[place]] for row in rows]
                fed[name] = np.array(texts, object)
            else:
                fed[name] = np.array([[row[place]] for row in rows], np.float32)
        return fed

    return columns


def _scaled(binding: Binding, column: Column, pixels: np.ndarray) -> np.ndarray:
    image = column.image
    if image and (image.low, image.high) != (binding.low, binding.high):
        ratio = (binding.high - binding.low) / (image.high - image.low)
        pixels = (pixels - np.float32(image.low)) * np.float32(ratio) + np.float32(binding.low)
    return np.ascontiguousarray(pixels.reshape(-1, *binding.shape), dtype=np.float32)
