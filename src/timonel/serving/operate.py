"""The routes that change something: runs of the pipeline, asked for over HTTP.

Whom they are open to is decided at the door (`timonel.serving.callers`).
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from timonel.project import Project
from timonel.serving.channel import Operator, RunReply
from timonel.serving.predict import json_response
from timonel.serving.routing import Routes

__all__ = ["add_operate"]

_HEARD_SECONDS = 1.0
_POLL_SECONDS = 0.05

_RUN = {"type": "object", "properties": {"run": {"type": "string"}, "status": {"type": "string"}}}


def add_operate(
    app: FastAPI,
    projects: Sequence[Project],
    routes: Routes,
    operator: Operator,
    *,
    at_root: bool,
) -> None:
    """`POST /api/projects/NAME/runs`, what came of them, and `PUT …/run-pipeline`."""
    for project in projects:
        prefixes = [f"/{project.name}"] + ([""] if at_root else [])
        for prefix in prefixes:
            _add_pipeline(app, prefix, project, operator, shown=prefix == prefixes[-1])
        _add_runs(app, project, routes, operator)


def _add_pipeline(
    app: FastAPI,
    prefix: str,
    project: Project,
    operator: Operator,
    *,
    shown: bool,
) -> None:
    async def run_pipeline(request: Request) -> Response:
        """Train anew, and answer when every worker serves the new version.

        409 while another run goes on, and when the gate keeps the new version out. With the header
        `Prefer: respond-async` the answer is 202 and a run to watch.
        """
        if "respond-async" in ",".join(request.headers.getlist("prefer")).lower():
            reply = await operator.run(project.name, wait=False)
            return _begun(project, reply, {"Preference-Applied": "respond-async"})
        reply = await operator.run(project.name, wait=True)
        if reply.status == 200:
            return json_response({"msg": "Completed pipeline."}, headers=_run_header(reply))
        return json_response({"detail": reply.sentence}, reply.status, _run_header(reply))

    for path in (f"{prefix}/run-pipeline", f"{prefix}/run-pipeline/"):
        app.add_api_route(
            path,
            run_pipeline,
            methods=["PUT"],
            name=f"run {project.name}",
            tags=[project.name],
            include_in_schema=shown and not path.endswith("/"),
            response_class=Response,
            responses=_responses({"msg": {"type": "string"}}),
        )


def _add_runs(
    app: FastAPI,
    project: Project,
    routes: Routes,
    operator: Operator,
) -> None:
    async def begin() -> Response:
        """Begin to train anew; 409 while another run goes on."""
        return _begun(project, await operator.run(project.name, wait=False), {})

    async def runs() -> Response:
        """The newest runs of the project, newest first."""
        return json_response([_shown(run) for run in routes.runs(project.name)])

    async def one(run: str) -> Response:
        """One of the newest runs."""
        # A worker hears of a run a moment after the one who began it.
        deadline = time.monotonic() + _HEARD_SECONDS
        while True:
            for found in routes.runs(project.name):
                if found.run == run:
                    return json_response(_shown(found))
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_SECONDS)
        return json_response(
            {"detail": f"There is no run {run!r} among the newest of {project.name}."}, 404
        )

    path = f"/api/projects/{project.name}/runs"
    tags: list[Any] = ["operate"]
    app.add_api_route(
        path,
        begin,
        methods=["POST"],
        name=f"begin {project.name}",
        tags=tags,
        status_code=202,
        response_class=Response,
        responses=_responses(_RUN["properties"]),
    )
    app.add_api_route(
        path, runs, methods=["GET"], name=f"runs {project.name}", tags=tags, response_class=Response
    )
    app.add_api_route(
        f"{path}/{{run}}",
        one,
        methods=["GET"],
        name=f"run of {project.name}",
        tags=tags,
        response_class=Response,
        responses={404: {"description": "There is no such run."}},
    )


def _begun(project: Project, reply: RunReply, headers: dict[str, str]) -> Response:
    if reply.status != 202:
        return json_response({"detail": reply.sentence}, reply.status)
    watch = f"/api/projects/{project.name}/runs/{reply.run}"
    body = {"run": reply.run, "status": "running", "watch": watch}
    return json_response(body, 202, {**headers, "Location": watch})


def _shown(run: Any) -> dict[str, Any]:
    return {"run": run.run, "status": run.status, "note": run.note}


def _run_header(reply: RunReply) -> dict[str, str]:
    return {"X-Run-Id": reply.run} if reply.run else {}


def _responses(properties: Any) -> dict[int | str, dict[str, Any]]:
    schema = {"type": "object", "properties": properties}
    return {
        200: {"content": {"application/json": {"schema": schema}}, "description": "Done."},
        202: {
            "content": {"application/json": {"schema": _RUN}},
            "description": "A run began; `watch` says how it goes.",
        },
        401: {"description": "A key is needed."},
        403: {"description": "The caller may not change anything."},
        409: {"description": "Another run goes on, or the gate kept the version out."},
        500: {"description": "The run failed; the reply says why."},
        503: {"description": "Nobody runs pipelines here, or not every worker follows."},
    }
