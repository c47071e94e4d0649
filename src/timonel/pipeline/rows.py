"""The first steps: ingest, validate, split."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from timonel.data import datasets, quality, split
from timonel.data.tables import keep
from timonel.errors import DataRefused
from timonel.pipeline.context import Context
from timonel.pipeline.runner import Report, Runner, code_of

__all__ = ["ingest", "split_rows", "validate"]


def ingest(runner: Runner, context: Context) -> dict[str, Any]:
    """Read the source, prepare its frame and keep it: `key`, `rows`, `origin`, `notes`, `embedded`.

    With a layout the rows as they were read are kept as well, under `source_key`. It is done in
    every run, because only reading tells whether a source has changed.
    """
    project = context.project

    def act(report: Report) -> Mapping[str, Any]:
        rows = project.source.read(context.read(report))
        frame = rows.frame
        kept = {}
        if project.layout is not None:
            report("keeping the rows as they came", None)
            kept["source_key"] = datasets.save(frame, context.objects)
        report("preparing the rows", None)
        frame, told = project.prepared(frame)
        if project.tables is not None:
            report("writing the tables", None)
            frame = keep(project, rows.frame, frame, context.database)
        report("keeping the rows", None)
        return {
            **kept,
            "key": datasets.save(frame, context.objects),
            "rows": frame.height,
            "origin": rows.origin,
            "notes": [*rows.notes, *told],
            "embedded": rows.embedded,
            "note": f"{frame.height:,} rows from {rows.origin}",
        }

    made = runner.step("ingest", act)
    for sentence in made["notes"]:
        runner.note(sentence)
    return made


def validate(runner: Runner, context: Context, ingested: Mapping[str, Any]) -> dict[str, Any]:
    """Check every row: `key` of those that are fit, `refused_key` of the others, and the report."""
    project = context.project

    def act(report: Report) -> Mapping[str, Any]:
        checked = quality.examine(datasets.load(ingested["key"], context.objects), project)
        refused = checked.refused
        made = {
            "key": datasets.save(checked.frame, context.objects),
            "report": checked.report.to_json(),
            "note": checked.report.sentence(),
        }
        if refused.height:
            made["refused_key"] = datasets.save(refused, context.objects)
        checked.demand(project.quality)
        return made

    return runner.step(
        "validate",
        act,
        depends={
            "rows": ingested["key"],
            "columns": [asdict(column) for column in project.columns],
            "target": [project.target, project.labels],
            "policy": asdict(project.quality),
            "split": asdict(project.split),
            "code": code_of(quality.examine),
        },
    )


def split_rows(runner: Runner, context: Context, validated: Mapping[str, Any]) -> dict[str, Any]:
    """Say of each row whether it trains, selects or judges: `key` and the `counts`."""
    project = context.project

    def act(report: Report) -> Mapping[str, Any]:
        frame = split.assign(
            datasets.load(validated["key"], context.objects),
            project.split,
            project.columns,
            project.target,
        )
        counts = {side: int((frame[split.COLUMN] == side).sum()) for side in split.SIDES}
        for side in split.SIDES:
            if not counts[side]:
                raise DataRefused(
                    f"Expected rows on every side of the split, got none for {side} of "
                    f"{frame.height:,} rows.",
                    remedy="Give the source more rows, or set Split(test=…, validation=…).",
                )
        told = ", ".join(f"{side} {count:,}" for side, count in counts.items())
        return {"key": datasets.save(frame, context.objects), "counts": counts, "note": told}

    return runner.step(
        "split",
        act,
        depends={
            "rows": validated["key"],
            "policy": asdict(project.split),
            "columns": [column.name for column in project.columns],
            "target": project.target,
            "code": code_of(split.assign),
        },
    )
