"""The routes of the other protocols, and their place in the OpenAPI document."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from pydantic import BaseModel, TypeAdapter
from starlette.responses import Response
from starlette.routing import Route

from timonel.errors import NotReady
from timonel.serving.predict import json_response
from timonel.serving.protocols.entrance import Entrance
from timonel.serving.protocols.mlflow import Invocation, Invocations
from timonel.serving.protocols.openinference import OpenInference
from timonel.serving.protocols.tensors import InferRequest
from timonel.serving.routing import Routes

__all__ = ["add_protocols"]

# A model's name may have a slash in it, which clients leave as it is.
_NAMED = "/v2/models/{model:path}"
_REFS = "#/components/schemas/{model}"
_STATUSES = {
    400: "The body cannot be read, or its tensors or rows do not fit together.",
    404: "There is no such model or version.",
    409: "The version was replaced while it answered.",
    413: "The body or its rows are more than allowed.",
    415: "The body is packed in a way that is not taken.",
    422: "A value is missing, of the wrong type or out of range; the sentence says where.",
    503: "No version can answer yet, or the answer could not be recorded.",
}


class OpenInferenceRefusal(BaseModel):
    """A refusal under /v2."""

    error: str


class MlflowRefusal(BaseModel):
    """A refusal as MLflow writes it."""

    error_code: str
    message: str


def add_protocols(
    app: FastAPI, entrances: Sequence[Entrance], routes: Routes, *, at_root: bool
) -> dict[str, Any]:
    """Mount every protocol; the named schemas that the document refers to come back."""
    schemas: dict[str, Any] = {}
    open_inference = OpenInference(entrances, routes)
    _add_infer(app, open_inference, schemas)
    _add_open_inference(app, open_inference, schemas)
    for entrance in entrances:
        _add_invocations(app, entrance, schemas, at_root=at_root)
    _add_pings(app, entrances, routes, schemas, at_root=at_root)
    return schemas


def _add_open_inference(app: FastAPI, protocol: OpenInference, schemas: dict[str, Any]) -> None:
    refused = _schema(OpenInferenceRefusal, schemas)
    Model = Annotated[str, Path(json_schema_extra={"enum": protocol.names})]  # noqa: N806

    async def server() -> Response:
        """The server's name, version and extensions of the protocol."""
        return json_response(protocol.server())

    async def live() -> Response:
        """200 while the process runs."""
        return json_response({"live": True})

    async def ready() -> Response:
        """200 when every project's default model answers."""
        answers = protocol.ready()
        return json_response({"ready": answers}, 200 if answers else 503)

    async def model_ready(model: Model) -> Response:
        """200 when the model answers."""
        return json_response({"name": model, "ready": protocol.model_ready(model)})

    async def version_ready(model: Model, version: str) -> Response:
        """200 when this version of the model answers."""
        return json_response({"name": model, "ready": protocol.model_ready(model, version)})

    async def metadata(model: Model) -> Response:
        """The model's inputs, outputs and version."""
        return json_response(protocol.model(model))

    async def version_metadata(model: Model, version: str) -> Response:
        """The model's inputs and outputs, if it serves this version."""
        return json_response(protocol.model(model, version))

    for path, endpoint, statuses in (
        ("/v2", server, ()),
        ("/v2/health/live", live, ()),
        ("/v2/health/ready", ready, (503,)),
        (f"{_NAMED}/versions/{{version}}/ready", version_ready, (404, 503)),
        (f"{_NAMED}/versions/{{version}}", version_metadata, (404, 503)),
        (f"{_NAMED}/ready", model_ready, (404, 503)),
        (_NAMED, metadata, (404, 503)),
    ):
        # A path may end in a slash; that of a model's name would otherwise be part of it.
        for spelt in (f"{path}/", path):
            app.add_api_route(
                spelt,
                endpoint,
                methods=["GET"],
                tags=["open inference protocol"],
                include_in_schema=spelt == path,
                response_class=Response,
                openapi_extra={
                    "responses": _responses(
                        {} if path.startswith("/v2/health") else refused,
                        {status: _STATUSES[status] for status in statuses},
                    )
                },
            )


def _add_infer(app: FastAPI, protocol: OpenInference, schemas: dict[str, Any]) -> None:
    refused = _schema(OpenInferenceRefusal, schemas)

    async def infer(request: Request) -> Response:
        """Predict rows that come as tensors."""
        given = request.path_params
        return await protocol.infer(request, given["model"], given.get("version"))

    body = _schema(InferRequest, schemas)
    for path in (f"{_NAMED}/versions/{{version}}/infer", f"{_NAMED}/infer"):
        for spelt in (path, f"{path}/"):
            app.router.routes.append(Route(spelt, infer, methods=["POST"]))
        app.add_api_route(
            path,
            infer,
            methods=["POST"],
            tags=["open inference protocol"],
            response_class=Response,
            openapi_extra={
                "parameters": [
                    _in_path("model", enum=protocol.names),
                    *([_in_path("version")] if "{version}" in path else []),
                ],
                "requestBody": _body(body, "application/octet-stream"),
                "responses": _responses(refused, _STATUSES),
            },
        )


def _add_invocations(
    app: FastAPI, entrance: Entrance, schemas: dict[str, Any], *, at_root: bool
) -> None:
    project = entrance.project
    invocations = Invocations(entrance)

    async def invoke(request: Request) -> Response:
        """Predict rows in one of MLflow's forms."""
        return await invocations(request)

    paths = [f"/{project.name}/invocations"] + (["/invocations"] if at_root else [])
    # `mlflow.deployments` puts the endpoint's name behind this word.
    for path in (*paths, f"/endpoints/{project.name}/invocations"):
        for spelt in (path, f"{path}/"):
            app.router.routes.append(Route(spelt, invoke, methods=["POST"]))
    shown = paths[-1]  # at the root where the project is, as its other routes are
    statuses = {status: said for status, said in _STATUSES.items() if status != 409}
    app.add_api_route(
        shown,
        invoke,
        methods=["POST"],
        name=f"invoke {project.name}",
        tags=[project.name],
        response_class=Response,
        openapi_extra={
            "requestBody": _body(_schema(Invocation, schemas)),
            "responses": _responses(_schema(MlflowRefusal, schemas), statuses),
            "parameters": [
                {
                    "name": "model",
                    "in": "query",
                    "required": False,
                    "schema": {"type": "string", "enum": list(project.model_names)},
                }
            ],
        },
    )


def _add_pings(
    app: FastAPI,
    entrances: Sequence[Entrance],
    routes: Routes,
    schemas: dict[str, Any],
    *,
    at_root: bool,
) -> None:
    refused = _schema(MlflowRefusal, schemas)

    def add(path: str, names: Sequence[str], *, shown: bool) -> None:
        async def ping() -> Response:
            """200 when MLflow's clients may send rows."""
            waits = [
                routes.why_not(name, model) for name in names for model in routes.missing(name)
            ]
            if waits:
                raise NotReady(" ".join(waits))
            return json_response({"status": "ok"})

        for spelt in (path, f"{path}/"):
            app.add_api_route(
                spelt,
                ping,
                methods=["GET"],
                tags=["watch"],
                include_in_schema=shown and spelt == path,
                response_class=Response,
                openapi_extra={"responses": _responses(refused, {503: "Not yet."})},
            )

    names = [entrance.project.name for entrance in entrances]
    for name in names:
        add(f"/{name}/ping", [name], shown=not at_root)
    add("/ping", names, shown=True)

    async def release() -> Response:
        """The server's release."""
        return Response(version("timonel"), media_type="text/plain")

    app.add_api_route(
        "/version",
        release,
        methods=["GET"],
        tags=["watch"],
        response_class=Response,
        openapi_extra={"responses": {"200": {"description": "OK", "content": {"text/plain": {}}}}},
    )


def _schema(model: type[BaseModel], schemas: dict[str, Any]) -> dict[str, Any]:
    schema = TypeAdapter(model).json_schema(ref_template=_REFS)
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    return {"$ref": _REFS.format(model=model.__name__)}


def _in_path(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", **schema}}


def _body(schema: dict[str, Any], *kinds: str) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    content |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}
    return {"required": True, "content": content}


def _responses(refused: dict[str, Any], statuses: dict[int, str]) -> dict[str, Any]:
    answered: dict[str, Any] = {"description": "OK", "content": {"application/json": {}}}
    refusal = {"content": {"application/json": {"schema": refused}}}
    return {
        "200": answered,
        **{str(status): {"description": said, **refusal} for status, said in statuses.items()},
    }
