"""What a life came to: figures read from its home, and from what was asked and answered."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.real_drift.feed import Answered, Feed

from timonel.project import Project, Read
from timonel.settings import Settings
from timonel.simulate.timeline import moment_of
from timonel.stores.checks import Check, Checks
from timonel.stores.database import Database
from timonel.stores.decisions import Decisions
from timonel.stores.events import Events
from timonel.stores.objects import ObjectStore
from timonel.stores.rollouts import Rollouts
from timonel.stores.runs import Runs
from timonel.stores.segments import Segments
from timonel.stores.versions import Version, Versions

if TYPE_CHECKING:
    import polars as pl

__all__ = ["figures"]

MODEL = "dtc"
MOVED = ("2820", "08A")  # an IUCR, and the FBI code that it has by now
REWORDED = frozenset({"description", "location_description"})
SIZES = (500, 1_000, 2_000)


def figures(
    project: Project,
    settings: Settings,
    database: Database,
    frames: "tuple[pl.DataFrame, pl.DataFrame]",
    fed: Sequence[Feed],
    changed: float,
) -> dict[str, Any]:
    """As JSON values: `frames` were fed one after the other, the second from `changed` on."""
    quiet, late = fed
    names = (project.name, MODEL)
    versions = Versions(database)
    checks = list(Checks(database).list(*names, "drift", limit=100_000))[::-1]
    before = [check for check in checks if check.at < changed]
    after = [check for check in checks if check.at >= changed]
    decisions = Decisions(database).list(project.name, limit=1_000)[::-1]
    runs = Runs(database).list(project.name, limit=100)
    rollouts = Rollouts(database).list(*names, 100)[::-1]
    events = [moment_of(e, changed) for e in Events(database).list(project.name, limit=None)][::-1]
    old = versions.get(*names, 1)
    challengers = [versions.get(*names, rollout.challenger) for rollout in rollouts]
    return {
        "requests": {
            "rows": quiet.asked + late.asked,
            "labels": quiet.labels + late.labels,
            "failed": dict(quiet.failed + late.failed),
            "versions": dict(Counter(a.version for feed in fed for a in feed.answered)),
        },
        "quiet": {
            "rows": quiet.asked,
            "in_the_loop": _alarms(before),
            "windows": _windows(project, settings, database, old, changed),
            "accuracy": _accuracy(frames[0], project, quiet.answered),
        },
        "first_alarm": _alarm(after, late.answered, frozenset()),
        "reworded_named": _alarm(after, late.answered, REWORDED),
        "late": {"rows": late.asked, "in_the_loop": _alarms(after)},
        "wording": _wording(project, settings, frames[1]),
        "decisions": [
            {
                "seconds": d.at - changed,
                "rows": sum(a.at <= d.at for a in late.answered),
                "act": d.act,
                "sentence": d.sentence,
            }
            for d in decisions
            if d.at >= changed
        ],
        "runs": [
            {
                "who": "controller" if run.who == "controller" else "by hand",
                "minutes": ((run.finished or run.beat) - run.started) / 60,
                "status": run.status,
                "reason": run.reason,
            }
            for run in reversed(runs)
        ],
        "rollouts": [{"state": one.state, "reason": one.reason} for one in rollouts],
        "moments": [
            {
                "seconds": m.at,
                "rows": sum(a.at <= changed + m.at for a in late.answered),
                "stage": m.stage,
                "subject": m.subject,
                "sentence": m.sentence,
            }
            for m in events
            if m is not None and m.at >= 0
        ],
        "after": _after(project, settings, database, frames[1], late, (old, challengers)),
    }


def _alarm(
    checks: Sequence[Check], answered: Sequence[Answered], named: frozenset[str]
) -> dict[str, Any] | None:
    """The first alarm by which all these columns were named, and after how many rows it came."""
    seen: set[str] = set()
    for check in checks:
        if check.verdict != "drift":
            continue
        columns = [c for c in check.detail["columns"] if c["drifted"]]
        seen |= {column["name"] for column in columns}
        if named <= seen:
            return {
                "rows_asked": sum(a.at <= check.at for a in answered),
                "rows_looked_at": sum(a.at <= check.last_time for a in answered),
                "window": check.rows,
                "sentence": check.sentence,
                "columns": {column["name"]: column["examples"] for column in columns},
            }
    return None


def _alarms(checks: Sequence[Check]) -> dict[str, Any]:
    return {
        "checks": len(checks),
        "by_verdict": dict(Counter(check.verdict for check in checks)),
        "complete": sum(bool(check.detail["complete"]) for check in checks),
        "alarms": [
            {"rows": c.rows, "version": c.detail["version"], "sentence": c.sentence}
            for c in checks
            if c.verdict == "drift"
        ][:20],
    }


def _accuracy(frame: "pl.DataFrame", project: Project, answered: Sequence[Answered]) -> float:
    import polars as pl

    truth: list[str] = frame[project.target].cast(pl.String).to_list()
    right = sum(a.label == truth[a.place] for a in answered)
    return right / max(len(answered), 1)


def _windows(
    project: Project, settings: Settings, database: Database, version: Version, until: float
) -> list[dict[str, Any]]:
    """Alarms in all windows of so many neighbouring live rows, with and without the confidence."""
    import numpy as np
    import polars as pl

    from timonel.monitoring.drift import judge
    from timonel.monitoring.reference import Reference
    from timonel.monitoring.sketch import sketch_of_frame
    from timonel.monitoring.window import live_rows
    from timonel.stores.artifacts import fetch_version

    objects = ObjectStore.open(settings.objects_url)
    folder = fetch_version(version.digest, objects, settings.serving_folder)
    listed = Segments(database).list(project.name, until=until)
    rows = pl.concat([live_rows(s, objects, version.label, until=until) for s in listed])
    rows = rows.sort("time", maintain_order=True)
    watched = tuple(n for n in project.drift.exclude if n != "output.confidence")
    found = []
    for confidence in (False, True):
        policy = replace(project.drift, exclude=watched) if confidence else project.drift
        reference = Reference.of_version(folder, policy)
        for size in SIZES:
            kept: dict[int, bytes] = {}
            verdicts = [
                judge(
                    reference,
                    sketch_of_frame(rows[start : start + size], reference.shape),
                    policy,
                    rng=np.random.default_rng(0),
                    calibrations=kept,
                )
                for start in range(0, rows.height - size + 1, size)
            ]
            named = Counter(c.name for v in verdicts for c in v.drifted)
            found.append(
                {
                    "rows": size,
                    "confidence": confidence,
                    "windows": len(verdicts),
                    "by_verdict": dict(Counter(v.state for v in verdicts)),
                    "alarms": sum(v.state == "drift" for v in verdicts),
                    "named": dict(named),
                }
            )
    return found


def _wording(project: Project, settings: Settings, late: "pl.DataFrame") -> dict[str, Any]:
    """The commonest new wordings, each with what it was called before."""
    import polars as pl

    read = Read(settings.data, settings.cache_folder, settings.database_url)
    past, _ = project.prepared(project.source.read(read).frame)
    names = ("iucr", "description", "location_description")
    past, late = (f.select(pl.col(n).cast(pl.String) for n in names) for f in (past, late))

    def squeezed(text: str) -> str:
        return "".join(c for c in text.upper() if c.isalnum())

    called = {
        row["iucr"]: row["description"]
        for row in past.group_by("iucr", "description").len().sort("len").iter_rows(named=True)
    }
    places = {squeezed(name): name for name in past["location_description"].unique()}
    found: dict[str, Any] = {}
    for column in names[1:]:
        unseen = late.filter(~pl.col(column).is_in(past[column].unique().to_list()))
        common = unseen.group_by("iucr", column) if column == names[1] else unseen.group_by(column)
        pairs: list[dict[str, Any]] = []
        for row in common.len().sort("len", column, descending=True).iter_rows(named=True):
            new = row[column]
            old = called.get(row.get("iucr")) if column == names[1] else places.get(squeezed(new))
            if old is not None and len(pairs) < 4:
                pairs.append({"old": old, "new": new, "rows": row["len"]})
        found[column] = {"unseen": unseen.height / late.height, "pairs": pairs}
    return found


def _after(
    project: Project,
    settings: Settings,
    database: Database,
    late: "pl.DataFrame",
    feed: Feed,
    both: tuple[Version, Sequence[Version]],
) -> dict[str, Any]:
    """Both versions on the rows asked after the run had ended, and live ones of the new one."""
    import polars as pl

    old, challengers = both
    ends = [run.finished for run in Runs(database).list(project.name) if run.who == "controller"]
    ended = min((end for end in ends if end is not None), default=None)
    if ended is None or not challengers:
        return {"rows": 0}
    new = challengers[0]
    part = late.with_row_index("place")
    later = [one.place for one in feed.answered if one.at > ended + 1]
    part = part.filter(pl.col("place").is_in(later))
    truth = dict(zip(part["place"], part[project.target].cast(pl.String), strict=True))
    codes = dict(zip(part["place"], part["iucr"].cast(pl.String), strict=True))
    moved = [place for place, code in codes.items() if code == MOVED[0]]
    said = {
        name: dict(zip(truth, _replayed(project, settings, version, part), strict=True))
        for name, version in (("before", old), ("after", new))
    }
    live = [a for a in feed.answered if a.place in truth and a.version == new.label]
    return {
        "rows": len(truth),
        "errors": {name: sum(s[p] != truth[p] for p in truth) for name, s in said.items()},
        "moved_rows": len(moved),
        "moved_right": {name: sum(s[p] == MOVED[1] for p in moved) for name, s in said.items()},
        "live": len(live),
        "live_errors": sum(a.label != truth[a.place] for a in live),
        "differs_from_live": sum(a.label != said["after"][a.place] for a in live),
    }


def _replayed(
    project: Project, settings: Settings, version: Version, frame: "pl.DataFrame"
) -> list[str]:
    """What a version answers to rows, with the bytes that served."""
    from timonel.runtime import OnnxModel
    from timonel.signature import Signature
    from timonel.stores.artifacts import fetch_version
    from timonel.tensors import arrays_of_frame

    objects = ObjectStore.open(settings.objects_url)
    folder = fetch_version(version.digest, objects, settings.serving_folder)
    signature = Signature.from_json((folder / "signature.json").read_bytes())
    model = OnnxModel((folder / "model.onnx").read_bytes(), signature)
    indices = model.answer(arrays_of_frame(signature.columns, frame))[0]
    return [str(signature.classes[index]) for index in indices]
