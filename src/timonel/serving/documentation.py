"""The OpenAPI document of the predictions, from the same types that validate them."""

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from timonel.project import Project
from timonel.serving.callers import place_of
from timonel.serving.door import Rules
from timonel.serving.protocols.tabular import MEDIA
from timonel.serving.rows import Refusal, RowReader

__all__ = ["Operation", "add_keys", "example_of"]

_TABLE = {"type": "string", "format": "binary"}
_REFS = "#/components/schemas/{model}"
_STATUSES = {
    400: "The body cannot be read, or is not the size that the model takes.",
    401: "A key is asked for, and none that is valid was shown.",
    403: "The key is not for this project, or not for predictions.",
    404: "There is no such model.",
    408: "The body took too long to arrive.",
    413: "The body, its rows or its picture are larger than allowed.",
    415: "The project does not take this kind of body.",
    422: "A value is missing, of the wrong type or out of range; the reply says where.",
    429: "The key's requests a minute are used up; ask again after Retry-After seconds.",
    503: "No version can answer yet, there is no room (ask again after Retry-After seconds), or "
    "the answer could not be recorded.",
    504: "There was no answer within the seconds of X-Request-Timeout.",
}
_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key that `timonel keys create NAME` made.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The same key."},
}


def add_keys(document: dict[str, Any], rules: Rules) -> None:
    """Say in an OpenAPI document which operations ask for a key, where keys are asked for."""
    if not rules.locked:
        return
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    free = {"probe"} | ({"predict", "about"} if rules.open == "predict" else set())
    for path, operations in document["paths"].items():
        if place_of(path, rules.projects, at_root=rules.at_root).kind not in free:
            for operation in operations.values():
                operation["security"] = [{name: []} for name in _SCHEMES]


class Operation:
    """What `/docs` says of a project's predict route, and the named schemas that it refers to."""

    def __init__(self, project: Project, reader: RowReader) -> None:
        self.schemas: dict[str, Any] = {}
        contract = project.contract
        one = self._schema(reader.one)
        body = {
            "one": one,
            "many": {"type": "array", "items": one},
            "either": {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]},
        }[contract.rows]
        example = example_of(project)
        content: dict[str, Any] = {"application/json": {"schema": body}}
        if example is not None:
            content["application/json"]["example"] = example
        if any(column.image for column in project.columns):
            content["multipart/form-data"] = {"schema": _form(project)}
        tables = {kind: {"schema": _TABLE} for kind in MEDIA}
        replies = [self._reply(contract.reply)]
        if contract.upload:
            replies.append(self._reply(contract.upload.reply))
        refusals = [self._schema(TypeAdapter(Refusal))]
        if contract.upload:
            refusals.append(self._reply(contract.upload.refusal))
        self.extra: dict[str, Any] = {
            "requestBody": {"required": True, "content": content | tables},
            "responses": {
                "200": _response("The answer.", replies, tables),
                **{
                    str(status): _response(sentence, refusals)
                    for status, sentence in _STATUSES.items()
                },
            },
            "parameters": [
                {
                    "name": "model",
                    "in": "query",
                    "required": False,
                    "schema": {"type": "string", "enum": list(project.model_names)},
                    "description": "Which model answers; by default "
                    + (
                        "all of them." if contract.models == "all" else f"{project.model_names[0]}."
                    ),
                }
            ],
        }

    def _reply(self, function: Any) -> dict[str, Any]:
        """The schema of what a contract's function returns, where it says so."""
        try:
            returned = get_type_hints(function).get("return", inspect.Signature.empty)
            if returned is inspect.Signature.empty:
                return {}
            return self._schema(TypeAdapter(returned), mode="serialization")
        except (NameError, PydanticUserError):  # what it returns cannot be described
            return {}

    def _schema(self, adapter: TypeAdapter[Any], mode: Any = "validation") -> dict[str, Any]:
        schema = adapter.json_schema(ref_template=_REFS, mode=mode)
        self.schemas.update(schema.pop("$defs", {}))
        return schema


def _response(
    sentence: str, schemas: list[dict[str, Any]], more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    content = {"application/json": {"schema": schema}} | dict(more or {})
    return {"description": sentence, "content": content}


def _form(project: Project) -> dict[str, Any]:
    upload = project.contract.upload
    names = [
        name for model in project.model_names for name in (model, *project.model(model).aliases)
    ]
    return {
        "type": "object",
        "properties": {
            "image": {
                "type": "string",
                "format": "binary",
                "description": "A picture of any size, dark on light or light on dark.",
            },
            "model": {"type": "string", "enum": names, "description": "Which model answers."},
        },
        "required": ["image", "model"] if upload and upload.model_required else ["image"],
    }


def example_of(project: Project) -> Any:
    """A body that can be sent: the contract's, or one from the fields' own examples."""
    if project.contract.example is not None:
        return project.contract.example
    row: dict[str, Any] = {}
    for name, info in project.features.model_fields.items():
        if not info.examples:
            return None
        row[name] = info.examples[0]
    body: Any = {project.contract.under: row} if project.contract.under else row
    return [body] if project.contract.rows == "many" else body
