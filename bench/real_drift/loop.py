"""One life: trained, asked in order of time, and left to itself until the last row was asked."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.real_drift.feed import Feed
from bench.real_drift.figures import figures

from timonel.project import Project, load_project
from timonel.settings import Settings
from timonel.simulate.cases import Case, cases_of
from timonel.simulate.server import own_server, wait_ready
from timonel.simulate.timeline import moment_of
from timonel.stores.database import Database
from timonel.stores.decisions import Decisions
from timonel.stores.events import Events
from timonel.stores.rollouts import Rollouts

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FULL", "SHORT", "Plan", "measure"]

DEFINITION = Path(__file__).with_name("crimes_loop.py")
TRAINED = ("crimes_2016.parquet", "crimes_2017.parquet")
QUIET, DRIFTED = "crimes_2018_jan_jun.parquet", "crimes_2024_sample_10k.csv.gz"


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
SHORT = Plan(
    trained=60_000, quiet=8_000, quiet_rate=300.0, rate=50.0, running=10.0, delay=2.0, minutes=7.5
)


def measure(crimes: Path, home: Path, plan: Plan) -> dict[str, Any]:
    """One whole life, from training to the last row of 2024; the figures as JSON values."""
    data = home / "data" / "chicago_crimes"
    data.mkdir(parents=True)
    _place(crimes, data, plan.trained)
    project = load_project(str(DEFINITION))
    quiet = _rows(project, crimes / QUIET)
    quiet = quiet.head(plan.quiet or quiet.height)
    late = _rows(project, crimes / DRIFTED)
    settings = Settings(home=home / "home", data=home / "data", jobs=1, journal_rotate_seconds=1.0)
    tell, deadline = _teller(), time.monotonic() + 60 * plan.minutes
    tell(f"{quiet.height:,} rows of 2018, {late.height:,} of 2024")
    began, load = time.time(), os.getloadavg()[0]
    with own_server(str(DEFINITION), settings) as address:
        wait_ready(address, 60 * plan.minutes, lambda: False)
        tell("trained; asking 2018")
        fed = [_feed(address, project, cases_of(project, quiet), plan, plan.quiet_rate)]
        _ask(fed[0], deadline, tell)
        time.sleep(2 * project.drift.every)  # what was asked last is looked at before the change
        tell("asking 2024")
        with closing(Database.open(settings.database_url)) as database:
            changed = time.time()
            fed.append(_feed(address, project, cases_of(project, late), plan, plan.rate))
            _ask_late(fed[1], project, plan, deadline, tell, database)
            _wait_settled(database, project)
    with closing(Database.open(settings.database_url)) as database:
        return {
            "plan": vars(plan),
            "minutes": (time.time() - began) / 60,
            "load": [load, os.getloadavg()[0]],
            **figures(project, settings, database, (quiet, late), fed, changed),
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


def _teller() -> Callable[[str], None]:
    began = time.monotonic()

    def tell(sentence: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:7.1f} s  {sentence}\n")

    return tell


def _feed(address: str, project: Project, cases: Sequence[Case], plan: Plan, rate: float) -> Feed:
    return Feed(address, project.name, cases, rate=rate, delay=plan.delay)


def _ask(feed: Feed, deadline: float, tell: Callable[[str], None]) -> None:
    """Ask until every row was, or until it is too late."""
    feed.start()
    while not feed.is_over and time.monotonic() < deadline:
        time.sleep(0.5)
    feed.stop()
    failed = sum(feed.failed.values())
    tell(f"{feed.asked:,} rows asked, {feed.labels:,} labels said, {failed} failed")


def _ask_late(
    feed: Feed,
    project: Project,
    plan: Plan,
    deadline: float,
    tell: Callable[[str], None],
    database: Database,
) -> None:
    """The same, more slowly while a run goes on; what happens meanwhile is told."""
    decisions, events = Decisions(database), Events(database)
    began, seen = time.time(), max((event.id for event in events.list(limit=1)), default=0)
    stop = threading.Event()

    def look() -> None:
        nonlocal seen
        while not stop.wait(0.5):
            acts = [one.act for one in decisions.list(project.name, limit=10) if one.act != "hold"]
            feed.rate = plan.running if acts[:1] == ["retrain"] else plan.rate
            for event in reversed(events.list(project.name, since=began, limit=None)):
                moment = moment_of(event, began)
                if event.id > seen and moment is not None:
                    said = f"{moment.stage} {moment.subject}: {moment.sentence}"
                    tell(f"after {feed.asked:,} rows: {said}")
                seen = max(seen, event.id)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    _ask(feed, deadline, tell)
    stop.set()
    watcher.join()


def _wait_settled(database: Database, project: Project) -> None:
    """The watch after a promotion ends by itself; rows may run out before."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(
        rollout.project == project.name for rollout in Rollouts(database).active()
    ):
        time.sleep(0.5)
