"""`timonel accuracy`: how right the versions are on live traffic."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from timonel.cli.moments import MOMENT, moment, utc
from timonel.cli.output import Json, emit, settings, table
from timonel.cli.stores import open_database
from timonel.errors import NotFound

if TYPE_CHECKING:
    from timonel.monitoring.accuracy import Accuracy
    from timonel.monitoring.live import Live, Window
    from timonel.settings import Settings
    from timonel.stores.database import Database

__all__ = ["accuracy"]


class _Every(StrEnum):
    hour = "hour"
    day = "day"
    week = "week"


_SECONDS = {_Every.hour: 3_600.0, _Every.day: 86_400.0, _Every.week: 604_800.0}


def accuracy(
    name: Annotated[str, typer.Argument(metavar="PROJECT[/MODEL]", help="What was asked.")],
    since: Annotated[
        str, typer.Option(metavar="TIME", help=f"Predictions from this time on: {MOMENT}.")
    ] = "7d",
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Before this time, written alike.")
    ] = None,
    every: Annotated[
        _Every | None, typer.Option(help="A line for each of these (UTC), not one for all.")
    ] = None,
    classes: Annotated[bool, typer.Option("--classes", help="Also each class's recall.")] = False,
    json: Json = False,
) -> None:
    """Show how often each version was right, by the labels that came, with 95 % intervals.

    `expected` is an estimate from the version's own confidence, for while labels are late; `check`
    says whether the truth lay within it, on the rows whose label came. Rows count where their
    prediction was made, however late the label is.

    Example: [bold]timonel accuracy digits/cnn --since 30d --every day[/bold]
    """
    import time

    options, now = settings(), time.time()
    begin = moment("--since", since, now)
    end = now if until is None else moment("--until", until, now)
    project, _, wanted = name.partition("/")
    database = open_database(options)
    models = _models(database, project, wanted)
    found = {
        model: _live(database, options, project, model, (begin, end), every)
        for model in models
        if database
    }
    if json:
        emit([_facts(project, model, one) for model, one in found.items()])
        return
    windows = [window for one in found.values() for window in one.windows]
    table(
        "accuracy",
        ["version", "from (UTC)", "rows", "labelled", "accuracy", "expected (estimate)", "check"],
        [_row(window) for window in windows],
    )
    if classes:
        typer.echo()
        table(
            "recall",
            ["version", "from (UTC)", "class", "labelled", "recall"],
            [
                [window.version, utc(window.since), label, recall.rows, _shown(recall)]
                for window in windows
                for label, recall in window.recalls.items()
            ],
        )
    if unknown := max((one.unknown for one in found.values()), default=0):
        typer.echo(
            f"{unknown:,} labels name no prediction of the journal: it is not exported yet, was "
            "deleted, or never was.",
            err=True,
        )


def _models(database: "Database | None", project: str, wanted: str) -> list[str]:
    """The models that have versions. Raises NotFound, naming those there are."""
    from timonel.stores.versions import Versions

    every = Versions(database).list() if database else []
    models = list(dict.fromkeys(v.model for v in every if v.project == project))
    if wanted in ("", *models) and models:
        return [wanted] if wanted else models
    names = sorted({f"{version.project}/{version.model}" for version in every})
    raise NotFound(
        f"There is no version of {project}{f'/{wanted}' if wanted else ''}; there are: "
        f"{', '.join(names) or 'no versions yet'}.",
        remedy=f"Train one with: timonel run {project}",
    )


def _live(
    database: "Database",
    options: "Settings",
    project: str,
    model: str,
    between: tuple[float, float],
    every: _Every | None,
) -> "Live":
    from timonel.monitoring.live import calibrations, live
    from timonel.stores.labels import Labels
    from timonel.stores.objects import ObjectStore
    from timonel.stores.segments import Segments
    from timonel.stores.versions import Versions

    objects = ObjectStore.open(options.objects_url)
    return live(
        Segments(database),
        Labels(database),
        objects,
        project,
        model,
        since=between[0],
        until=between[1],
        every=_SECONDS[every] if every else None,
        calibration=calibrations(Versions(database), objects, options.serving_folder),
    )


def _row(window: "Window") -> list[object]:
    check = window.check
    return [
        window.version,
        utc(window.since),
        f"{window.rows:,}",
        f"{window.labelled:,}",
        _shown(window.accuracy),
        f"~{_shown(window.estimate)}" if window.estimate else "–",
        "–" if check is None else _checked(check.estimate, held=check.held),
    ]


def _checked(estimate: "Accuracy", *, held: bool) -> str:
    if held:
        return "held"
    return f"missed: ~{_shown(estimate)} was expected of the labelled"


def _shown(found: "Accuracy | None") -> str:
    return f"{found.value:.4f} ({found.low:.4f}–{found.high:.4f})" if found else "–"


def _facts(project: str, model: str, found: "Live") -> dict[str, Any]:
    return {
        "project": project,
        "model": model,
        "labels": found.labels,
        "unknown": found.unknown,
        "windows": [
            {
                "version": window.version,
                "since": utc(window.since),
                "until": utc(window.until),
                "rows": window.rows,
                "labelled": window.labelled,
                "accuracy": _plain(window.accuracy),
                "recalls": {label: _plain(one) for label, one in window.recalls.items()},
                "estimate": _plain(window.estimate),
                "check": window.check
                and {"estimate": _plain(window.check.estimate), "held": window.check.held},
            }
            for window in found.windows
        ],
    }


def _plain(found: "Accuracy | None") -> dict[str, Any] | None:
    return None if found is None else vars(found)
