"""The Open Inference Protocol, version 2, over HTTP, with its binary tensor extension.

A column is an input tensor of its name, of shape [n] or [n, 1]; a picture is one of shape
[n, pixels], or of any shape that holds as many. `prediction` and `probabilities` come back. A
model is called `PROJECT` (its default one), `PROJECT/MODEL` or `PROJECT.MODEL`.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from timonel.contract import Answer
from timonel.errors import BadRequest, Busy, NotFound
from timonel.schema import Column
from timonel.serving.predict import json_response
from timonel.serving.protocols.binary import pack_texts, split_body
from timonel.serving.protocols.entrance import Asked, Entrance
from timonel.serving.protocols.tensors import (
    HEADER,
    InferRequest,
    OutputParameters,
    OutputTensor,
    inputs_of,
)
from timonel.serving.routing import Routes, Served
from timonel.serving.rows import first_alias
from timonel.signature import Label

__all__ = ["OpenInference"]

_OUTPUTS = ("prediction", "probabilities")


class OpenInference:
    """Answers under /v2, for every project of this process."""

    def __init__(self, entrances: Sequence[Entrance], routes: Routes) -> None:
        self.entrances = {entrance.project.name: entrance for entrance in entrances}
        self._routes = routes

    @property
    def names(self) -> list[str]:
        """What models may be called, without the spelling with a dot."""
        return [
            name
            for project, entrance in self.entrances.items()
            for name in (project, *(f"{project}/{m}" for m in entrance.project.model_names))
        ]

    def server(self) -> dict[str, Any]:
        """What this server is."""
        return {
            "name": "timonel",
            "version": version("timonel"),
            "extensions": ["binary_tensor_data"],
        }

    def ready(self) -> bool:
        """Whether every project's default model answers."""
        return not any(self._routes.missing(project) for project in self.entrances)

    def model_ready(self, name: str, number: str | None = None) -> bool:
        """Whether a model answers, in this version where one is named.

        Raises:
            NotFound: there is no such model, or its champion is another version.
            NotReady: it has no version yet.
        """
        self._served(name, number)
        return True

    def model(self, name: str, number: str | None = None) -> dict[str, Any]:
        """A model's metadata; raises as `model_ready` does."""
        entrance, served = self._served(name, number)
        row, classes = entrance.reader.row, served.model.signature.classes
        prediction = {"name": "prediction", "datatype": _label_type(classes), "shape": [-1]}
        # Probabilities are in this order, which is not always that of the labels' names.
        probabilities = {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": [-1, len(classes)],
            "parameters": {"labels": list(classes)},
        }
        return {
            "name": name,
            "versions": [str(served.champion.number)],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {
                    "name": first_alias(row, column.name),
                    "datatype": _datatype(column),
                    "shape": [-1, column.image.size] if column.image else [-1],
                }
                for column in entrance.project.columns
            ],
            "outputs": [prediction, probabilities],
        }

    async def infer(self, request: Request, name: str, number: str | None = None) -> Response:
        """The answer to a request, or a refusal.

        Raises:
            NotFound: there is no such model.
        """
        entrance, model = self._find(name)
        header = request.headers.get(HEADER)

        async def read(body: bytes) -> Asked:
            if number is not None:
                self._served(name, number)
            head, rest = split_body(body, header)
            asked = InferRequest.model_validate_json(head)
            reply = _Reply(name, number, asked)
            return Asked(inputs_of(entrance, asked.inputs, rest), [model], reply)

        return await entrance(request, "v2", read)

    def _find(self, name: str) -> tuple[Entrance, str]:
        project, *model = re.split(r"[./]", name, maxsplit=1)
        entrance = self.entrances.get(project)
        if entrance is None:
            raise NotFound(
                f"There is no model {name[:80]!r}; expected one of: {', '.join(self.names)}."
            )
        return entrance, entrance.project.model(model[0] if model else None).name

    def _served(self, name: str, number: str | None) -> tuple[Entrance, Served]:
        entrance, model = self._find(name)
        served = self._routes.champion(entrance.project.name, model)
        if number not in (None, str(served.champion.number)):
            raise NotFound(
                f"{entrance.project.name}/{model} does not serve version {number[:40]!r}; "
                f"version {served.champion.number} answers."
            )
        return entrance, served


class _Reply:
    """Writes an answer as the outputs that were asked for."""

    def __init__(self, name: str, number: str | None, asked: InferRequest) -> None:
        self._name = name
        self._number = number
        self._id = asked.id
        binary = asked.parameters.binary_data_output
        wanted = asked.outputs or [
            OutputTensor(name=name, parameters=OutputParameters(binary_data=binary))
            for name in _OUTPUTS
        ]
        for output in wanted:
            if output.name not in _OUTPUTS:
                raise BadRequest(
                    f"There is no output {output.name[:80]!r}; expected {' or '.join(_OUTPUTS)}."
                )
            if output.parameters.classification or output.parameters.shared_memory_region:
                raise BadRequest(
                    f"Output {output.name!r}: expected it whole, in the reply; neither "
                    "classification nor shared memory is offered.",
                    remedy="Ask for the output 'probabilities'.",
                )
        self._wanted = wanted

    def __call__(self, answer: Answer) -> Response:
        number = answer.versions[answer.model].rpartition("@")[2]
        if self._number not in (None, number):
            raise Busy(
                f"{answer.model} version {self._number} was replaced by {number} meanwhile.",
                remedy="Ask again, for that version or for none.",
            )
        tensors, parts = [], []
        for output in self._wanted:
            tensor, content = _output(output, answer)
            tensors.append(tensor)
            parts.append(content)
        head: dict[str, Any] = {"model_name": self._name, "model_version": number}
        if self._id is not None:
            head["id"] = self._id
        head |= {"parameters": {"prediction_id": answer.id}, "outputs": tensors}
        if not any(output.parameters.binary_data for output in self._wanted):
            return json_response(head)
        encoded = msgspec.json.encode(head)
        return Response(
            b"".join([encoded, *parts]),
            headers={HEADER: str(len(encoded))},
            media_type="application/octet-stream",
        )


def _output(output: OutputTensor, answer: Answer) -> tuple[dict[str, Any], bytes]:
    """An output tensor, and its bytes where it is wanted so."""
    tensor: dict[str, Any] = {"name": output.name}
    pack: Callable[[], bytes]
    if output.name == "probabilities":
        scores = answer.scores[answer.model]
        datatype, shape, data = "FP32", list(scores.shape), scores.ravel().tolist
        pack = scores.astype("<f4", copy=False).tobytes
    else:
        datatype = _label_type(answer.classes[answer.model])
        labels: list[Any] = answer.predictions
        if datatype == "BYTES":
            labels = [str(label) for label in labels]
            pack = partial(pack_texts, labels)
        else:
            pack = np.array(labels, "<i8").tobytes
        shape, data = [len(labels)], lambda: labels
    tensor |= {"datatype": datatype, "shape": shape}
    if not output.parameters.binary_data:
        return {**tensor, "data": data()}, b""
    content = pack()
    return {**tensor, "parameters": {"binary_data_size": len(content)}}, content


def _datatype(column: Column) -> str:
    """What a column is best sent as; a missing number is NaN, which only floats have."""
    if column.image:
        return "FP32"
    if column.kind == "category":
        return "BYTES"
    if column.kind == "number" or column.nullable:
        return "FP64"
    return "INT64" if column.kind == "integer" else "BOOL"


def _label_type(classes: Sequence[Label]) -> str:
    return "INT64" if all(isinstance(label, int) for label in classes) else "BYTES"
