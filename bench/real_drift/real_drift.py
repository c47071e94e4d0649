"""Crimes of 2016 and 2017 against 2018 and 2024, unattended: `python bench/real_drift/real_drift.py`.

A server of its own, in a home that is deleted at the end, trains crimes (as crimes_loop.py has it)
on 2016 and 2017, and is then asked over HTTP for every incident of January to June 2018 and of the
2024 sample, in order of time; labels follow. What the loop makes of that goes to `results.json`
beside this file, and `--page` writes docs/drift-on-real-data.md from it. TIMONEL_TEST_DATA is the
folder with `chicago_crimes/`. It takes about a quarter of an hour, and is nice to others.
"""

# ruff: noqa: E402 (this folder's real_drift.py would hide the package of that name)
import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).absolute().parents[2]
sys.path[0] = str(ROOT)

from bench.real_drift import report
from bench.real_drift.feed import Answered, Feed
from timonel.project import Project, Read, load_project
from timonel.settings import Settings
from timonel.simulate.cases import Case, cases_of
from timonel.simulate.server import own_server, wait_ready
from timonel.simulate.timeline import moment_of
from timonel.stores.checks import Checks
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

HERE = Path(__file__).parent
DEFINITION = HERE / "crimes_loop.py"
RESULTS = HERE / "results.json"
PAGE = ROOT / "docs" / "drift-on-real-data.md"
TRAINED = ("crimes_2016.parquet", "crimes_2017.parquet")
QUIET, DRIFTED = "crimes_2018_jan_jun.parquet", "crimes_2024_sample_10k.csv.gz"
MODEL = "dtc"
MOVED = ("2820", "08A")  # an IUCR, and the FBI code that it has by now


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is asked, in rows and rows a second; `trained` rows of 2017's end, None for all.

    While the run goes on `running` rows a second are asked, so that some are left to judge on.
    """

    trained: int | None = None
    quiet: int | None = None
    quiet_rate: float = 500.0
    rate: float = 40.0
    running: float = 8.0
    delay: float = 5.0
    minutes: float = 40.0


FULL = Plan()
SHORT = Plan(trained=60_000, quiet=8_000, quiet_rate=300.0, delay=2.0, minutes=7.0)


def main() -> None:
    """Run, write the results and perhaps the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="as the test does, in minutes")
    parser.add_argument("--page", action="store_true", help="write the page from the results")
    parser.add_argument("--no-run", action="store_true", help="take the results that there are")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if not given.no_run:
        data = Path(os.environ.get("TIMONEL_TEST_DATA", ROOT.parent / "shared" / "data"))
        os.nice(10)  # others may be at work on this machine
        with tempfile.TemporaryDirectory(prefix="timonel-real-drift-") as home:
            results = measure(data / "chicago_crimes", Path(home), SHORT if given.short else FULL)
        given.out.write_text(json.dumps(results, indent=1) + "\n")
    if given.page:
        PAGE.write_text(report.page(json.loads(given.out.read_text())))


def measure(crimes: Path, home: Path, plan: Plan) -> dict[str, Any]:
    """One whole life, from training to the last row of 2024; the figures as JSON values."""
    data = home / "data" / "chicago_crimes"
    data.mkdir(parents=True)
    _place(crimes, data, plan.trained)
    project = load_project(str(DEFINITION))
    quiet = _rows(project, crimes / QUIET)
    quiet = quiet.head(plan.quiet or quiet.height)
    late = _rows(project, crimes / DRIFTED)
    settings = Settings(
        home=home / "home", data=home / "data", jobs=1, journal_rotate_seconds=1.0
    )
    tell = _teller()
    tell(f"{quiet.height:,} rows of 2018, {late.height:,} of 2024")
    began = time.time()
    with own_server(str(DEFINITION), settings) as address:
        wait_ready(address, 60 * plan.minutes, lambda: False)
        tell("trained; asking 2018")
        fed = [_ask(address, project, cases_of(project, quiet), plan, tell, plan.quiet_rate)]
        time.sleep(2 * project.drift.every)  # what was asked last is looked at before the change
        tell("asking 2024")
        with closing(Database.open(settings.database_url)) as database:
            changed = time.time()
            fed.append(_ask_late(address, project, cases_of(project, late), plan, tell, database))
            _wait_settled(database, project)
    with closing(Database.open(settings.database_url)) as database:
        return {
            "plan": vars(plan),
            "minutes": (time.time() - began) / 60,
            **_figures(project, settings, database, (quiet, late), fed, changed),
        }


def _place(crimes: Path, data: Path, rows: int | None) -> None:
    """The files to train on, or the last rows of them."""
    import polars as pl

    if rows is None:
        for name in TRAINED:
            (data / name).symlink_to((crimes / name).absolute())
        return
    frame = pl.read_parquet(crimes / TRAINED[-1])
    moment = pl.col("Date").str.to_datetime("%m/%d/%Y %I:%M:%S %p")
    frame.sort(moment, maintain_order=True).tail(rows).write_parquet(data / TRAINED[-1])


def _rows(project: Project, path: Path) -> "pl.DataFrame":
    """A file's incidents as the project's runs clean and check them, in order of time."""
    from timonel.data.portal import read_file
    from timonel.data.quality import examine

    prepared, _ = project.prepared(read_file(path)[0])
    return examine(prepared, project).frame


def _teller() -> Any:
    began = time.monotonic()

    def tell(sentence: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:7.1f} s  {sentence}\n")

    return tell


def _ask(
    address: str,
    project: Project,
    cases: Sequence[Case],
    plan: Plan,
    tell: Any,
    rate: float,
) -> Feed:
    feed = Feed(address, project.name, cases, rate=rate, delay=plan.delay)
    deadline = time.monotonic() + 60 * plan.minutes
    feed.start()
    while not feed.is_over and time.monotonic() < deadline:
        time.sleep(0.5)
    feed.stop()
    tell(f"{feed.asked:,} rows asked, {feed.labels:,} labels said, {sum(feed.failed.values())} failed")
    return feed


def _ask_late(
    address: str,
    project: Project,
    cases: Sequence[Case],
    plan: Plan,
    tell: Any,
    database: Database,
) -> Feed:
    feed = Feed(address, project.name, cases, rate=plan.rate, delay=plan.delay)
    runs, events = Runs(database), Events(database)
    began, seen = time.time(), max((event.id for event in events.list(limit=1)), default=0)
    deadline = time.monotonic() + 60 * plan.minutes
    feed.start()
    while not feed.is_over and time.monotonic() < deadline:
        time.sleep(0.5)
        going = runs.active(project.name) is not None
        feed.rate = plan.running if going else plan.rate
        for event in reversed(events.list(project.name, since=began, limit=None)):
            moment = moment_of(event, began)
            if event.id > seen and moment is not None:
                tell(f"after {feed.asked:,} rows: {moment.stage} {moment.subject}: {moment.sentence}")
            seen = max(seen, event.id)
    feed.stop()
    return feed


def _wait_settled(database: Database, project: Project) -> None:
    """The watch after a promotion ends by itself; rows may run out before."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(
        rollout.project == project.name for rollout in Rollouts(database).active()
    ):
        time.sleep(0.5)


def _figures(
    project: Project,
    settings: Settings,
    database: Database,
    frames: "tuple[pl.DataFrame, pl.DataFrame]",
    fed: Sequence[Feed],
    changed: float,
) -> dict[str, Any]:
    quiet, late = fed
    names = (project.name, MODEL)
    versions = Versions(database)
    checks = [check for check in Checks(database).list(*names, "drift", limit=100_000)][::-1]
    before = [check for check in checks if check.at < changed]
    after = [check for check in checks if check.at >= changed]
    first = next((check for check in after if check.verdict == "drift"), None)
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
        "trained": old.metrics.get("rows"),
        "quiet": {
            "rows": quiet.asked,
            "in_the_loop": _alarms(before),
            "windows": _windows(project, settings, database, old, changed),
            "accuracy": _accuracy(frames[0], project, quiet.answered),
        },
        "first_alarm": None
        if first is None
        else {
            "rows_asked": sum(a.at <= first.at for a in late.answered),
            "rows_of_2024_in_window": sum(a.at <= first.last_time for a in late.answered),
            "seconds": first.at - changed,
            "window": first.rows,
            "sentence": first.sentence,
            "columns": [
                {"name": c["name"], "examples": c["examples"], "unseen": c["unseen"]}
                for c in first.detail["columns"]
                if c["drifted"]
            ],
        },
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
                "who": run.who,
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


def _alarms(checks: Sequence[Any]) -> dict[str, Any]:
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

    truth = frame[project.target].cast(pl.String).to_list()
    return sum(a.label == truth[a.place] for a in answered) / max(len(answered), 1)


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
        for size in (500, 1_000, 2_000):
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
        pairs = []
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
    """Both versions on the rows that were asked after the promotion: no run has seen any."""
    import polars as pl

    old, challengers = both
    promoted = [
        e.at
        for e in Events(database).list(project.name, limit=None)
        if e.kind == "rollout" and e.after == "watching"
    ]
    if not promoted or not challengers:
        return {"rows": 0}
    moment, new = min(promoted), challengers[0]
    mine = {a.place: a for a in feed.answered if a.at > moment + 1 and a.version == new.label}
    part = late.with_row_index("place").filter(pl.col("place").is_in(list(mine)))
    truth = part[project.target].cast(pl.String).to_list()
    codes = part["iucr"].cast(pl.String).to_list()
    said = {
        "before": _replayed(project, settings, old, part),
        "after": [mine[place].label for place in part["place"].to_list()],
    }
    moved = [place for place, code in enumerate(codes) if code == MOVED[0]]
    return {
        "rows": part.height,
        "errors": {n: sum(a != b for a, b in zip(s, truth, strict=True)) for n, s in said.items()},
        "moved_rows": len(moved),
        "moved_right": {n: sum(s[p] == MOVED[1] for p in moved) for n, s in said.items()},
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


if __name__ == "__main__":
    main()
