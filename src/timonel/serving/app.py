"""The application: every project's predictions, health, metrics and documentation."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from timonel.errors import TimonelError
from timonel.project import Project
from timonel.serving.channel import Operator
from timonel.serving.documentation import Operation, add_keys
from timonel.serving.door import Door, Rules
from timonel.serving.feedback import FeedbackDesk, feedback_operation
from timonel.serving.lean import LeanPath
from timonel.serving.metrics import Metrics
from timonel.serving.operate import add_operate
from timonel.serving.predict import Predictor, json_response
from timonel.serving.protocols.entrance import Entrance
from timonel.serving.protocols.mount import add_protocols
from timonel.serving.protocols.refusals import headers_of, refusal_content
from timonel.serving.recorder import JournalRecorder
from timonel.serving.routing import Routes

__all__ = ["Application", "build_app"]

_log = logging.getLogger(__name__)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def build_app(
    projects: Sequence[Project],
    predictors: Sequence[Predictor],
    routes: Routes,
    metrics: Metrics,
    *,
    at_root: bool,
    door: Callable[[ASGIApp], Door],
    entrances: Sequence[Entrance] = (),
    desks: Sequence[FeedbackDesk] = (),
    origins: Sequence[str] = (),
    lifespan: Lifespan | None = None,
    operator: Operator | None = None,
    troubles: Callable[[], Sequence[str]] = tuple,
    rules: Rules | None = None,
) -> "Application":
    """The application for these projects, the one at the root too when `at_root`.

    `door` makes what stands in front of all of it and says who may come in.
    `entrances` are where other protocols bring their rows, `desks` where labels are said.
    `troubles` are sentences that /health shows beside those of the routes. By `rules` the document
    says what asks for keys.
    """
    app = Application(
        title="Timonel",
        version=version("timonel"),
        description="Predictions of " + ", ".join(project.name for project in projects) + ".",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        # Looking for OpenTelemetry's providers at each request takes longer than a small model.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PUT"],
        allow_headers=["*"],
        expose_headers=["X-Prediction-Id", "X-Model-Version", "X-Cache", "X-Run-Id", "Retry-After"],
    )
    schemas: dict[str, Any] = {}
    for project, predictor in zip(projects, predictors, strict=True):
        prefixes = [f"/{project.name}"] + ([""] if at_root else [])
        operation = Operation(project, predictor.reader)
        schemas |= operation.schemas
        for prefix in prefixes:
            # A project at the root is documented there, where its clients call it.
            shown = prefix == prefixes[-1]
            _add_predict(app, prefix, project, predictor, operation, shown=shown)
            _add_health(app, prefix, [project], routes, troubles, shown=shown)
    for desk in desks:
        for prefix in [f"/{desk.project.name}"] + ([""] if at_root else []):
            _add_feedback(app, prefix, desk, shown=prefix == "" or not at_root)
    if not at_root:
        _add_health(app, "", projects, routes, troubles, shown=True)
    if operator is not None:
        add_operate(app, projects, routes, operator, at_root=at_root)
    if entrances:
        schemas |= add_protocols(app, entrances, routes, at_root=at_root)
    _add_watch(app, projects, metrics)
    _add_documentation(app, schemas, rules)
    _add_refusals(app)
    app.lean = LeanPath(app.behind, _predict_paths(predictors, at_root=at_root))
    app.front = door(app.lean)
    return app


class Application(FastAPI):
    """FastAPI with its layers behind a front that answers most requests before them.

    `lean` is a part of that front, and `recorder` what a worker writes answers down with.
    """

    front: Door
    lean: LeanPath
    recorder: JournalRecorder

    async def behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the front hands on."""
        await super().__call__(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self.front(scope, receive, send)


def _predict_paths(predictors: Sequence[Predictor], *, at_root: bool) -> dict[str, Predictor]:
    """Who answers at which path."""
    return {
        f"{prefix}/predict{end}": predictor
        for predictor in predictors
        for prefix in [f"/{predictor.project.name}"] + ([""] if at_root else [])
        for end in ("", "/")
    }


def _add_predict(
    app: FastAPI,
    prefix: str,
    project: Project,
    predictor: Predictor,
    operation: Operation,
    *,
    shown: bool,
) -> None:
    async def predict(request: Request) -> Response:
        return await predictor(request)

    # A plain route answers: FastAPI's own would cost each request more than the model does. That
    # one stands behind it, for the documentation.
    for path in (f"{prefix}/predict", f"{prefix}/predict/"):
        app.router.routes.append(Route(path, predict, methods=["POST"]))
    if shown:
        app.add_api_route(
            f"{prefix}/predict",
            predict,
            methods=["POST"],
            name=f"predict {project.name}",
            summary=f"Predict {project.target}",
            description=project.description,
            tags=[project.name],
            openapi_extra=operation.extra,
            response_class=Response,
        )


def _add_feedback(app: FastAPI, prefix: str, desk: FeedbackDesk, *, shown: bool) -> None:
    async def feedback(request: Request) -> Response:
        """Say what was true of predictions, by their ids; the same again changes nothing."""
        return await desk(request)

    for path in (f"{prefix}/feedback", f"{prefix}/feedback/"):
        app.add_api_route(
            path,
            feedback,
            methods=["POST"],
            status_code=202,
            name=f"feedback {desk.project.name}",
            summary=f"Say what {desk.project.target} was",
            tags=[desk.project.name],
            include_in_schema=shown and not path.endswith("/"),
            openapi_extra=feedback_operation(desk.project),
            response_class=Response,
        )


def _add_health(
    app: FastAPI,
    prefix: str,
    projects: Sequence[Project],
    routes: Routes,
    troubles: Callable[[], Sequence[str]],
    *,
    shown: bool,
) -> None:
    def missing() -> list[str]:
        return [
            routes.why_not(project.name, model)
            for project in projects
            for model in routes.missing(project.name)
        ]

    async def health() -> Response:
        """200 while every project answers, 503 and why otherwise; `degraded` says what else is."""
        waits, degraded = missing(), list(dict.fromkeys([*routes.degraded(), *troubles()]))
        body: dict[str, Any] = {"status": "unavailable" if waits else "ok"}
        if waits:
            body["detail"] = " ".join(waits)
        if degraded:
            body["degraded"] = degraded
        return json_response(body, 503 if waits else 200)

    async def live() -> Response:
        """200 while the process runs."""
        return json_response({"status": "ok"})

    async def ready() -> Response:
        """200 when what every project answers with is loaded and warmed."""
        waits = missing()
        body = {"status": "unavailable", "detail": " ".join(waits)} if waits else {"status": "ok"}
        return json_response(body, 503 if waits else 200)

    for name, endpoint in (("health", health), ("live", live), ("ready", ready)):
        for path in (f"{prefix}/{name}", f"{prefix}/{name}/"):
            app.add_api_route(
                path,
                endpoint,
                methods=["GET"],
                tags=["watch"],
                include_in_schema=shown and not path.endswith("/"),
                responses=None if name == "live" else {503: {"description": "Not yet."}},
            )


def _add_watch(app: FastAPI, projects: Sequence[Project], metrics: Metrics) -> None:
    async def scrape() -> Response:
        """Prometheus metrics, summed over all workers."""
        return Response(metrics.render(), media_type=metrics.content_type)

    async def welcome(request: Request) -> Response:
        """A short welcome; a browser is led to the documentation."""
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/docs")
        names = [project.name for project in projects]
        return json_response(
            {"message": "Welcome to Timonel.", "projects": names, "documentation": "/docs"}
        )

    app.add_api_route("/metrics", scrape, methods=["GET"], tags=["watch"], response_class=Response)
    app.add_api_route("/", welcome, methods=["GET"], tags=["watch"])


def _add_documentation(app: FastAPI, schemas: dict[str, Any], rules: Rules | None) -> None:
    """`/docs` with assets of our own (a package's, not a CDN's), and the document behind it."""
    app.mount("/docs/assets", StaticFiles(directory=str(files("fastapi_offline") / "static")))

    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Timonel",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon.png",
        )

    for path in ("/docs", "/docs/"):
        app.add_api_route(path, docs, methods=["GET"], include_in_schema=False)
    derive: Callable[[], dict[str, Any]] = app.openapi

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            schema = derive()
            schema.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
            if rules is not None:
                add_keys(schema, rules)
        return app.openapi_schema or {}

    app.openapi = document  # type: ignore[method-assign]


def _add_refusals(app: FastAPI) -> None:
    """Every refusal is JSON with a sentence, whatever raised it."""

    async def refuse(request: Request, error: Exception) -> Response:
        path = request.scope["path"]  # request.url fails on a Host header that is none
        if isinstance(error, HTTPException):
            sentences = {
                404: f"There is nothing at {path}; /docs lists what there is.",
                405: f"{path} does not take {request.method}; /docs lists what does.",
            }
            detail = sentences.get(error.status_code, str(error.detail))
            content = refusal_content(path, error.status_code, detail)
            return json_response(content, error.status_code, error.headers)
        if isinstance(error, TimonelError):
            content = refusal_content(path, error.status, str(error))
            return json_response(content, error.status, headers_of(error))
        _log.error("%s %s failed", request.method, path, exc_info=error)
        failed = "The server failed to answer; its log says why. Try again."
        return json_response(refusal_content(path, 500, failed), 500)

    handlers: list[tuple[Any, Callable[[Request, Exception], Awaitable[Response]]]] = [
        (HTTPException, refuse),
        (TimonelError, refuse),
        (Exception, refuse),
    ]
    for kind, handler in handlers:
        app.add_exception_handler(kind, handler)
