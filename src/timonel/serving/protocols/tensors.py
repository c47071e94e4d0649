"""A request of the Open Inference Protocol, and the rows that its tensors hold."""

from collections.abc import Sequence
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from timonel.errors import BadRequest
from timonel.schema import Column
from timonel.serving.protocols.binary import DATATYPES, unpack, values_of
from timonel.serving.protocols.entrance import Entrance
from timonel.serving.rows import Inputs

__all__ = ["HEADER", "InferRequest", "OutputParameters", "OutputTensor", "inputs_of"]

HEADER = "Inference-Header-Content-Length"
"""The header that tells how long the JSON part is, where bytes follow."""


class TensorParameters(BaseModel):
    """What an input says of itself."""

    binary_data_size: Annotated[int, Field(ge=0, strict=True)] | None = None
    shared_memory_region: str | None = None


class InputTensor(BaseModel):
    """One column's values, in `data` or behind the JSON part."""

    name: str
    shape: list[Annotated[int, Field(ge=0, le=2**40, strict=True)]] = Field(min_length=1)
    datatype: Literal[DATATYPES]  # type: ignore[valid-type]
    parameters: TensorParameters = TensorParameters()
    data: Any = None


class OutputParameters(BaseModel):
    """How an output is wanted."""

    binary_data: bool = False
    classification: int = 0
    shared_memory_region: str | None = None


class OutputTensor(BaseModel):
    """An output that is wanted."""

    name: str
    parameters: OutputParameters = OutputParameters()


class RequestParameters(BaseModel):
    """Of a request: whether outputs come as bytes where nothing else is said."""

    binary_data_output: bool = False


class InferRequest(BaseModel):
    """The JSON part of a request."""

    id: str | None = None
    inputs: list[InputTensor] = Field(min_length=1)
    outputs: list[OutputTensor] | None = None
    parameters: RequestParameters = RequestParameters()


def inputs_of(entrance: Entrance, tensors: Sequence[InputTensor], rest: bytes) -> Inputs:
    """The validated rows that the tensors hold, the columns of which stand behind each other."""
    count = tensors[0].shape[0]
    names = [tensor.name for tensor in tensors]
    sizes = [tensor.parameters.binary_data_size for tensor in tensors]
    if len(set(names)) < len(names):
        raise BadRequest(f"Expected each input once, got: {', '.join(map(repr, names))[:200]}.")
    uneven = next((tensor for tensor in tensors if tensor.shape[0] != count), None)
    if uneven:
        raise BadRequest(
            f"Expected all inputs to have as many rows, got {count} in {names[0]!r} and "
            f"{uneven.shape[0]} in {uneven.name!r}."
        )
    if sum(filter(None, sizes)) != len(rest):
        raise BadRequest(
            f"Expected {sum(filter(None, sizes))} bytes of tensors after the JSON part, as "
            f"'binary_data_size' and {HEADER} say, got {len(rest)}."
        )
    entrance.check_count(count)
    columns: list[list[Any]] = []
    at = 0
    for tensor, size in zip(tensors, sizes, strict=True):
        column = entrance.column(tensor.name)
        content = None if size is None else rest[at : at + size]
        at += size or 0
        values = _values(tensor, column, content)
        if isinstance(values, np.ndarray):
            if len(tensors) == 1 and column and column.image and values.dtype.kind in "uif":
                return entrance.pictures(tensor.name, values)
            values = values.tolist()
        columns.append(values)
    return entrance.inputs(
        [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    )


def _values(
    tensor: InputTensor, column: Column | None, content: bytes | None
) -> np.ndarray | list[Any]:
    """A tensor's values, one a row; of a picture, a list or an array."""
    shape = tensor.shape
    if tensor.parameters.shared_memory_region is not None:
        raise BadRequest(f"Input {tensor.name!r}: expected it in the body, not in shared memory.")
    picture = column is not None and column.image is not None
    if not picture and prod(shape[1:]) != 1:
        raise BadRequest(
            f"Input {tensor.name!r}: expected shape [n] or [n, 1], got {shape}.",
            remedy="Send one input a column.",
        )
    flat: np.ndarray | list[Any]
    if content is None:
        flat = values_of(tensor.name, shape, tensor.data)
    else:
        flat = unpack(tensor.name, tensor.datatype, shape, content)
        if picture:
            return flat
        flat = flat.ravel().tolist()
    if picture:
        width = prod(shape[1:])
        return [flat[row * width : (row + 1) * width] for row in range(shape[0])]
    if column and column.nullable and column.kind == "category":
        return [None if value == "" else value for value in flat]
    return flat
