"""`timonel models`: which versions there are, what one is worth, and its files."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from timonel.cli.output import Json, emit, settings, table
from timonel.cli.stores import open_database

if TYPE_CHECKING:
    from timonel.settings import Settings
    from timonel.stores.versions import Version

__all__ = ["app"]

app = typer.Typer(
    help="Versions of models: list them, look at one, copy its files.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Reference = Annotated[
    str,
    typer.Argument(
        metavar="PROJECT/MODEL[@N]", help="A version, or a model for the version that serves."
    ),
]

_REFERENCE = re.compile(r"([^/@\s]+)/([^/@\s]+)(?:@([0-9]{1,9}))?")


@app.command("list")
def list_versions(
    project: Annotated[str | None, typer.Argument(help="Only this project's.")] = None,
    json: Json = False,
) -> None:
    """List every version: its state, its metric with interval, and why it is in that state.

    Example: [bold]timonel models list penguins[/bold]
    """
    found = _versions(settings(), project)
    if json:
        emit([_facts(version) for version in found])
        return
    if not found:
        typer.echo("No versions yet. Train some with: timonel run penguins", err=True)
    table(
        "versions",
        ["version", "serves", "state", "metric", "created (UTC)", "digest", "reason"],
        [
            [
                version.label,
                "●" if version.state == "champion" else "",
                version.state,
                _score(version.metrics) or "–",
                _time(version.created),
                version.digest[:12],
                version.reason,
            ]
            for version in found
        ],
    )


@app.command("show")
def show(reference: Reference, json: Json = False) -> None:
    """Show one version: metrics, classes, inputs, reason, origin and card.

    Example: [bold]timonel models show digits/cnn[/bold]
    """
    from timonel.errors import ArtifactError, StoreError

    options = settings()
    version = _version(options, reference)
    files, note = _Files(None, {}, ""), None
    try:
        files = _files(options, version)
    except (ArtifactError, StoreError) as error:
        # What the database knows is worth showing, also when the files are out of reach.
        note = str(error)
    metrics = files.metrics or version.metrics
    if json:
        facts = {**_facts(version), "metrics": metrics, "signature": files.signature}
        emit({**facts, "card": files.card, "note": note})
        return
    table("version", ["fact", "value"], _version_rows(version))
    typer.echo()
    if metric_rows := _metric_rows(metrics):
        table("metrics", ["metric", "value", "interval"], metric_rows)
        typer.echo()
    if class_rows := _class_rows(metrics):
        table("classes", ["class", "precision", "recall", "F1", "rows"], class_rows)
        typer.echo()
    if files.signature:
        target, classes = files.signature["target"], files.signature["classes"]
        table("inputs", ["input", "kind", "allowed"], files.signature["inputs"])
        typer.echo(f"answers {target}: {', '.join(map(str, classes))}\n")
    if files.card:
        _show_card(files.card)
    if note:
        typer.echo(f"The version's files cannot be shown. {note}", err=True)


@app.command("export")
def export(
    reference: Reference,
    out: Annotated[Path, typer.Option(help="The folder to copy the files to; made if missing.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also into a folder that has files; ours are replaced.")
    ] = False,
) -> None:
    """Copy a version's files, checked against its digest, to a folder.

    Example: [bold]timonel models export penguins/rf@3 --out penguins-rf-3[/bold]
    """
    import shutil

    from timonel import artifact
    from timonel.errors import BadRequest, StoreError
    from timonel.stores.artifacts import fetch_version
    from timonel.stores.objects import ObjectStore

    options = settings()
    version = _version(options, reference)
    if out.exists() and not out.is_dir():
        raise BadRequest(f"Expected --out to be a folder, got the file {out}.")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise BadRequest(
            f"Expected an empty folder, got {out}, which has files.",
            remedy="Name another, or add --force to replace a version's files in it.",
        )
    store = ObjectStore.open(options.objects_url)
    folder = fetch_version(version.digest, store, options.serving_folder)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in artifact.FILES:
            # What another version left must not pass for a part of this one.
            (out / name).unlink(missing_ok=True)
            if (folder / name).is_file():
                shutil.copyfile(folder / name, out / name)
    except OSError as error:
        raise StoreError(f"{out}: expected a folder to write to, got: {error}.") from error
    artifact.verify(out, version.digest)
    typer.echo(f"{version.label} is in {out.absolute()} (digest {version.digest})")


class _Files(NamedTuple):
    signature: dict[str, Any] | None
    metrics: dict[str, Any]
    card: str


def _versions(options: "Settings", project: str | None = None) -> "Sequence[Version]":
    """Every version, or the project's. Raises NotFound for a project without any."""
    from timonel.errors import NotFound
    from timonel.stores.versions import Versions

    database = open_database(options)
    every = Versions(database).list() if database else []
    found = [version for version in every if project in (None, version.project)]
    if project is not None and not found:
        names = sorted({version.project for version in every})
        raise NotFound(
            f"There is no version of {project!r}; there are versions of: "
            f"{', '.join(names) or 'no project yet'}.",
            remedy=f"Train one with: timonel run {project}",
        )
    return found


def _version(options: "Settings", reference: str) -> "Version":
    """The version that a reference names. Raises NotFound, naming those there are."""
    from timonel.errors import NotFound

    versions = _versions(options)
    models = sorted({f"{version.project}/{version.model}" for version in versions})
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise NotFound(
            f"Expected PROJECT/MODEL or PROJECT/MODEL@N, got {reference!r}; there are: "
            f"{', '.join(models) or 'no versions yet'}."
        )
    project, model, number = match.groups()
    own = [v for v in versions if (v.project, v.model) == (project, model)]
    if not own:
        raise NotFound(
            f"There is no version of {project}/{model}; there are: "
            f"{', '.join(models) or 'no versions yet'}.",
            remedy=f"Train one with: timonel run {project}",
        )
    wanted = [
        v for v in own if (v.state == "champion" if number is None else v.number == int(number))
    ]
    if not wanted:
        numbers = ", ".join(f"@{v.number} ({v.state})" for v in own)
        absent = "champion" if number is None else f"version {number}"
        raise NotFound(f"{project}/{model} has no {absent}; it has: {numbers}.")
    return wanted[0]


def _files(options: "Settings", version: "Version") -> _Files:
    """What a version's files say, once their hashes were checked."""
    from json import loads

    from timonel.signature import Signature
    from timonel.stores.artifacts import fetch_version
    from timonel.stores.objects import ObjectStore

    store = ObjectStore.open(options.objects_url)
    folder = fetch_version(version.digest, store, options.serving_folder)
    signature = Signature.from_json((folder / "signature.json").read_bytes())
    metrics, card = folder / "metrics.json", folder / "card.md"
    return _Files(
        {
            "target": signature.target,
            "classes": list(signature.classes),
            "inputs": [[c.name, c.kind, c.allows()] for c in signature.columns],
        },
        loads(metrics.read_bytes()) if metrics.is_file() else {},
        card.read_text(encoding="utf-8") if card.is_file() else "",
    )


def _facts(version: "Version") -> dict[str, Any]:
    return {
        "version": version.label,
        **vars(version),
        "created": _time(version.created),
        "serves": version.state == "champion",
    }


def _version_rows(version: "Version") -> list[list[str]]:
    return [
        ["version", version.label],
        ["state", version.state + (" (serves)" if version.state == "champion" else "")],
        ["reason", version.reason],
        ["created", f"{_time(version.created)} UTC"],
        ["run", version.run_id or "–"],
        ["digest", version.digest],
    ]


def _intervals(metrics: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Value, low and high of each metric on the held-out rows."""
    return {
        name: (found["value"], found["low"], found["high"])
        for name, found in metrics.get("evaluation", {}).get("metrics", {}).items()
    }


def _score(metrics: Mapping[str, Any]) -> str:
    """The metric that decides, such as `accuracy 0.9900 (0.9877–0.9918)`; empty without one."""
    name = metrics.get("evaluation", {}).get("metric")
    if name not in (intervals := _intervals(metrics)):
        return ""
    value, low, high = intervals[name]
    return f"{name} {value:.4f} ({low:.4f}–{high:.4f})"


def _metric_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    decisive = metrics.get("evaluation", {}).get("metric")
    rows = [
        [name + (" (decides)" if name == decisive else ""), f"{value:.4f}", f"{low:.4f}–{high:.4f}"]
        for name, (value, low, high) in _intervals(metrics).items()
    ]
    if (score := metrics.get("score")) is not None:
        spread = metrics.get("spread")
        shown = "–" if spread is None else f"± {spread:.4f} over folds"
        rows.append([f"{decisive}, cross-validated", f"{score:.4f}", shown])
    return rows


def _class_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            str(one["label"]),
            *(f"{one[name]:.4f}" for name in ("precision", "recall", "f1")),
            f"{one['support']:,}",
        ]
        for one in metrics.get("evaluation", {}).get("classes", ())
    ]


def _show_card(card: str) -> None:
    """A card as a page on a terminal, as its Markdown elsewhere."""
    import sys

    if not sys.stdout.isatty():
        typer.echo(card)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(card))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
