"""`timonel check`: is a definition right, and what follows from it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from timonel.cli.output import Json, emit, table
from timonel.errors import DefinitionError, TimonelError

if TYPE_CHECKING:
    from timonel.project import Model, Project
    from timonel.schema import Column

__all__ = ["check"]


def check(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME…", help="Bundled projects, paths to definitions, or installed ones."
        ),
    ],
    json: Json = False,
) -> None:
    """Check definitions, and show what is derived from them.

    Nothing is read, trained or served. The exit code is 2 when a definition is wrong; with --json
    there is one document a project, a line each.

    Example: [bold]timonel check digits my/churn.py[/bold]
    """
    failed: TimonelError | None = None
    for name in names:
        try:
            project = _load(name)
        except TimonelError as error:
            if len(names) == 1:
                raise
            failed = failed or error
            _tell(name, error, as_json=json)
            continue
        found = _describe(project)
        if json:
            emit({"name": name, **found})
        else:
            _show(found)
    if failed:
        raise typer.Exit(failed.exit_code)


def _load(name: str) -> "Project":
    """The project, when neither its file nor what that file imports is heavy."""
    from timonel.heavy import definition_file, refuse_heavy_imports
    from timonel.project import HEAVY, load_project

    path = definition_file(name)
    if path is not None and path.suffix == ".py":
        refuse_heavy_imports(path)
    before = HEAVY & set(sys.modules)
    project = load_project(name)
    if brought := (HEAVY & set(sys.modules)) - before:
        raise DefinitionError(
            f"{name}: expected loading it to import nothing heavy, got "
            f"{', '.join(sorted(brought))} by way of a module that it imports.",
            remedy="Import that module inside the function that uses it.",
        )
    return project


def _describe(project: "Project") -> dict[str, Any]:
    contract = project.contract
    policies = {
        type(policy).__name__: {
            name: value for name, value in vars(policy).items() if value is not None
        }
        for policy in (
            project.split,
            project.quality,
            project.gate,
            project.drift,
            project.retrain if project.retrain.on else None,
            project.cache,
            project.retention if any(vars(project.retention).values()) else None,
        )
        if policy is not None
    }
    return {
        "project": project.name,
        "description": project.description,
        "target": project.target,
        "classes": None if project.labels is None else list(project.labels),
        "source": type(project.source).__name__,
        "columns": [
            {"name": column.name, "kind": column.kind, "allowed": column.allows()}
            for column in project.columns
        ],
        "models": [
            _model(project, project.model(name), default=not n)
            for n, name in enumerate(project.model_names)
        ],
        "routes": _routes(project),
        "contract": {
            "rows": contract.rows,
            "under": contract.under,
            "unknown fields": contract.unknown,
            "models that answer": contract.models,
            "reply": contract.reply.__name__,
            "upload": contract.upload is not None,
            "text log": project.text_log,
            "lean path": _lean(project),
        },
        "policies": policies,
        "warnings": _warnings(project),
    }


def _lean(project: "Project") -> str:
    """Whether plain requests take the short way, and why not otherwise."""
    from timonel.serving.lean import why_not_lean

    reason = why_not_lean(project)
    return "yes, where a model takes under 2 ms" if reason is None else f"no: {reason}"


def _model(project: "Project", model: "Model", *, default: bool) -> dict[str, Any]:
    recipe = model.recipe
    if callable(recipe):
        judged = f"{model.folds} folds × {model.repeats}" if model.folds else "validation rows"
        name = getattr(recipe, "__name__", type(recipe).__name__)
    else:
        judged, name = "none: pretrained", f"pretrained {Path(recipe.file.name).name}"
    return {
        "name": model.name,
        "default": default,
        "recipe": name,
        "trials": _trials(model),
        "judged by": judged,
        "metric": model.metric,
        "registered": project.registered(model.name),
        "aliases": list(model.aliases),
        "embedded": model.embedded is not None,
    }


def _trials(model: "Model") -> int:
    """How many combinations the search tries."""
    from math import prod

    from timonel.policies import Grid

    if model.search is None:
        return 1 if callable(model.recipe) else 0
    if isinstance(model.search, Grid):
        return prod(len(values) for values in model.search.space.values())
    return model.search.trials


def _routes(project: "Project") -> list[dict[str, str]]:
    """What is answered at which path; the root is the project's when it is served alone."""
    body = "JSON or a picture" if any(column.image for column in project.columns) else "JSON"
    watched = ("health", "live", "ready")
    runs = f"/api/projects/{project.name}/runs"
    paths = [f"/{project.name}/{name}" for name in watched]
    paths += [f"/{name}" for name in (*watched, "metrics", "docs", "openapi.json")]
    paths += [f"/{project.name}/ping", "/ping", "/version"]
    model = "/v2/models/{model}"
    paths += ["/v2", "/v2/health/live", "/v2/health/ready", model, f"{model}/ready"]
    paths += [f"{model}/versions/{{version}}", f"{model}/versions/{{version}}/ready"]
    mlflow = "MLflow's JSON or a table"
    said = "true labels as JSON or CSV"
    called = f"tensors; models are {', '.join((project.name, *_full_names(project)))}"
    return [
        {"route": f"POST /{project.name}/predict", "answers": "always", "takes": body},
        {"route": "POST /predict", "answers": "when served alone", "takes": body},
        {"route": f"POST /{project.name}/feedback", "answers": "always", "takes": said},
        {"route": "POST /feedback", "answers": "when served alone", "takes": said},
        {"route": f"POST {model}/infer", "answers": "always", "takes": called},
        {
            "route": f"POST {model}/versions/{{version}}/infer",
            "answers": "the champion",
            "takes": "tensors",
        },
        {"route": f"POST /{project.name}/invocations", "answers": "always", "takes": mlflow},
        {
            "route": f"POST /endpoints/{project.name}/invocations",
            "answers": "always",
            "takes": mlflow,
        },
        {"route": "POST /invocations", "answers": "when served alone", "takes": mlflow},
        {"route": f"PUT /{project.name}/run-pipeline", "answers": "this machine", "takes": ""},
        {"route": "PUT /run-pipeline", "answers": "this machine, when served alone", "takes": ""},
        {"route": f"POST {runs}", "answers": "this machine", "takes": ""},
        {"route": f"GET {runs}", "answers": "always", "takes": ""},
        {"route": f"GET {runs}/{{run}}", "answers": "always", "takes": ""},
        *({"route": f"GET {path}", "answers": "always", "takes": ""} for path in paths),
    ]


def _full_names(project: "Project") -> list[str]:
    return [f"{project.name}/{name}" for name in project.model_names]


def _warnings(project: "Project") -> list[str]:
    owner = project.features.__name__
    warnings = [
        f"{owner}.{column.name}: a whole number without {' or '.join(missing)}; any is accepted, "
        "though beyond 16,777,216 the model sees it rounded. Write Field(ge=…, le=…)."
        for column in project.columns
        if column.kind == "integer" and (missing := _unbounded(column))
    ]
    # One missing example leaves the documentation without a body that can be sent; nobody would
    # write 784 pixels there, and a contract's own example stands for all.
    if project.contract.example is None:
        warnings += [
            f"{owner}.{column.name}: no example, so /docs has no body that can be sent. "
            "Write Field(examples=[…])."
            for column in project.columns
            if column.image is None and not project.features.model_fields[column.name].examples
        ]
    return warnings


def _unbounded(column: "Column") -> list[str]:
    return [
        name
        for name, bounds in (
            ("a least value", (column.ge, column.gt)),
            ("a largest value", (column.le, column.lt)),
        )
        if bounds == (None, None)
    ]


def _show(found: dict[str, Any]) -> None:
    classes = found["classes"]
    typer.secho(found["project"], bold=True, nl=False)
    typer.echo(f": {found['description']}" if found["description"] else "")
    named = ", ".join(str(label) for label in classes) if classes else "those seen in training"
    typer.echo(f"predicts {found['target']} ({named}) from {found['source']}\n")
    columns = [[column["name"], column["kind"], column["allowed"]] for column in found["columns"]]
    table("columns", ["column", "kind", "allowed"], columns)
    typer.echo()
    table(
        "models",
        ["model", "recipe", "trials", "judged by", "metric", "registered as"],
        [
            [
                model["name"] + (" (default)" if model["default"] else ""),
                model["recipe"],
                model["trials"],
                model["judged by"],
                model["metric"],
                model["registered"],
            ]
            for model in found["models"]
        ],
    )
    typer.echo()
    table("routes", ["route", "answers", "takes"], [list(r.values()) for r in found["routes"]])
    typer.echo()
    contract = [["contract", name, _cell(value)] for name, value in found["contract"].items()]
    policies = [
        [policy.lower(), name, _cell(value)]
        for policy, values in found["policies"].items()
        for name, value in values.items()
    ]
    table("contract and policies", ["of", "setting", "value"], [*contract, *policies])
    for warning in found["warnings"]:
        typer.secho("Warning: ", fg=typer.colors.YELLOW, bold=True, nl=False, err=True)
        typer.echo(warning, err=True)
    typer.secho(f"\n{found['project']} is well defined.", fg=typer.colors.GREEN)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "all columns"
    return "–" if value is None else str(value)


def _tell(name: str, error: TimonelError, *, as_json: bool) -> None:
    if as_json:
        kind = type(error).__name__
        emit({"name": name, "error": error.message, "remedy": error.remedy, "kind": kind})
        return
    typer.secho("Error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(f"{error}", err=True)
