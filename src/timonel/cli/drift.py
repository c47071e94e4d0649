"""`timonel drift`: whether live rows differ from those that a version was made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from timonel.cli.moments import MOMENT, moment, utc
from timonel.cli.output import Json, emit, settings, table

if TYPE_CHECKING:
    from timonel.monitoring.drift import ColumnVerdict, Verdict
    from timonel.project import Project
    from timonel.settings import Settings
    from timonel.stores.versions import Version

__all__ = ["drift"]

_DRIFT, _OPEN = 10, 11  # exit codes


def drift(
    target: Annotated[
        str, typer.Argument(metavar="PROJECT[/MODEL]", help="A project, or one of its models.")
    ],
    since: Annotated[str | None, typer.Option(help=f"Rows from this time on: {MOMENT}.")] = None,
    until: Annotated[str | None, typer.Option(help="Rows before this time.")] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The newest rows; by default as many as the project's Drift says, or all "
            "of the time that is given.",
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures here.")] = None,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help="Leave with 10 for drift, 11 for not enough data."),
    ] = False,
    past: Annotated[
        bool,
        typer.Option(
            "--past", help="Show what was found and decided by itself instead, newest first."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Compare the rows that the champion answered with the rows that it was made from.

    Nothing is stored. What a server finds by itself, and decides on training, is with `--past`.

    Example: timonel drift penguins --since 7d --html drift.html
    """
    import time

    options = settings()
    now = time.time()
    period = tuple(
        None if given is None else moment(name, given, now)
        for name, given in (("--since", since), ("--until", until))
    )
    project, model = _named(target)
    if past:
        _past(options, project, model, period[0] or 0.0, as_json=json)
        return
    found = {
        version.label: _judged(options, project, version, period, window)
        for version in _champions(options, project, model)
    }
    if html is not None:
        _write(html, found, now)
    if json:
        emit([{"version": label, **verdict.to_dict()} for label, verdict in found.items()])
    else:
        for label, verdict in found.items():
            _show(label, verdict)
        if html is not None:
            typer.echo(f"The page is {html}")
    states = {verdict.state for verdict in found.values()}
    if exit_code and "drift" in states:
        raise typer.Exit(_DRIFT)
    if exit_code and "not enough data" in states:
        raise typer.Exit(_OPEN)


def _past(
    options: "Settings", project: "Project", model: str | None, since: float, *, as_json: bool
) -> None:
    from timonel.cli.stores import open_database
    from timonel.stores.checks import Checks
    from timonel.stores.decisions import Decisions

    database = open_database(options)
    checks = Checks(database).list(project.name, model, since=since) if database else []
    decisions = Decisions(database).list(project.name, since=since) if database else []
    if as_json:
        emit(
            {"checks": [vars(one) for one in checks], "decisions": [vars(one) for one in decisions]}
        )
        return
    rows: list[tuple[float, str, str, str, str]] = [
        (one.at, one.kind, f"{one.project}/{one.model}", one.verdict, one.sentence)
        for one in checks
    ]
    rows += [(one.at, "retrain", one.project, one.act, one.sentence) for one in decisions]
    table(
        "found and decided",
        ["when (UTC)", "kind", "subject", "verdict", "reason"],
        [[utc(row[0]), *row[1:]] for row in sorted(rows, reverse=True)],
    )


def _named(target: str) -> "tuple[Project, str | None]":
    """The project and, if it is named, the model. Raises NotFound."""
    from timonel.project import load_project

    head, slash, tail = target.rpartition("/")
    if not slash or target.endswith(".py") or Path(target).is_file():
        return load_project(target), None
    project = load_project(head)
    return project, project.model(tail).name


def _champions(options: "Settings", project: "Project", model: str | None) -> "list[Version]":
    from timonel.cli.stores import open_database
    from timonel.errors import NotReady
    from timonel.stores.versions import Versions

    database = open_database(options)
    names = project.model_names if model is None else (model,)
    found = [Versions(database).champion(project.name, name) for name in names] if database else []
    champions = [version for version in found if version is not None]
    if not champions:
        raise NotReady(
            f"Expected a version of {project.name}{'/' + model if model else ''} that serves, "
            "found none.",
            remedy=f"Train one with: timonel run {project.reference}",
        )
    return champions


def _judged(
    options: "Settings",
    project: "Project",
    version: "Version",
    period: tuple[float | None, ...],
    rows: int | None,
) -> "Verdict":
    import numpy as np

    from timonel.cli.stores import open_database
    from timonel.monitoring.drift import judge
    from timonel.monitoring.reference import Reference
    from timonel.monitoring.sketch import Sketch
    from timonel.monitoring.window import window_of
    from timonel.stores.artifacts import fetch_version
    from timonel.stores.objects import ObjectStore
    from timonel.stores.segments import Segments

    since, until = period
    if rows is None and since is None:
        rows = project.drift.window
    objects = ObjectStore.open(options.objects_url)
    folder = fetch_version(version.digest, objects, options.serving_folder)
    reference = Reference.of_version(folder, project.drift)
    database = open_database(options)
    listed = Segments(database).list(project.name, since, until) if database else []
    label, shape = version.label, reference.shape
    pieces = window_of(listed, objects, shape, label, rows=rows, since=since, until=until)
    rng = np.random.default_rng(0)
    return judge(reference, pieces or [Sketch(shape)], project.drift, rng=rng)


def _write(path: Path, found: "Mapping[str, Verdict]", now: float) -> None:
    from timonel.errors import StoreError
    from timonel.monitoring.report import html_of

    try:
        path.write_text(html_of(found, made=now), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path}: expected a file to write to, got: {error}.") from error


def _show(label: str, verdict: "Verdict") -> None:
    typer.echo(f"{label}: {verdict.sentence()}")
    if verdict.rows:
        heads = ["column", "statistic", "distance", "threshold", "verdict", "since", "grew most"]
        table("drift", heads, [row for column in verdict.columns for row in _rows(column)])
    if verdict.note:
        typer.echo(verdict.note)


def _rows(column: "ColumnVerdict") -> list[list[str]]:
    """One line for each finding; an excluded column has one without a threshold."""
    if not column.findings:
        name, distance = next(iter(column.distances.items()), ("–", 0.0))
        return [[column.name, name, f"{distance:.3g}", "–", "not watched", "–", "–"]]
    grown = ", ".join(f"{one.value} ({one.window:.0%})" for one in column.examples[:2])
    since = "–" if column.since is None else utc(column.since)
    return [
        [
            column.name if finding.aspect == "values" else f"{column.name}, {finding.aspect}",
            finding.statistic,
            f"{finding.distance:.3g}",
            f"{finding.threshold:.3g}",
            "drift" if finding.drifted else "ok",
            since if finding.drifted else "–",
            (grown or "–") if finding.drifted else "–",
        ]
        for finding in column.findings
    ]
