"""Retraining in life: decided in the database first, begun once, and told of when it ended."""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.control.live import Live
from timonel.control.grade import Grade
from timonel.control.retrain import Retraining, begin_process
from timonel.control.watch import Watch
from timonel.policies import Drift, Retrain
from timonel.project import Project
from timonel.rollouts import Canary
from timonel.stores import tables
from timonel.stores.checks import Checks
from timonel.stores.decisions import Decided, Decisions
from timonel.stores.events import Events
from timonel.stores.runs import Runs

LATER = 10.0**9  # seconds: made-up traffic begins after the versions were made
POLICY = Retrain(on=("drift",), rows=100, windows=2, cooldown=600.0)


class Home(Live):
    """Live traffic, and what would begin runs but only notes them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.clock.now += LATER
        self.project = replace(
            self.project, drift=Drift(every=60, window=300), retrain=POLICY, rollout=Canary()
        )
        self.begun: list[tuple[str, tuple[str, ...], float | None]] = []
        self.code: int | None = None
        self.watch = Watch([self.project], self.settings, self.database)
        self.decisions, self.runs = Decisions(self.database), Runs(self.database)
        self.checks = Checks(self.database)
        self.part = self.retraining()

    def poll(self) -> int | None:
        return self.code

    def retraining(self) -> Retraining:
        """A controller's part that knows nothing yet."""

        def begin(project: Project, run_id: str, models: Sequence[str], since: float | None) -> Any:
            self.begun.append((run_id, tuple(models), since))
            return self

        return Retraining([self.project], self.database, begin)

    def window(self, moved: float = 1.3, labelled: float = 0.5) -> None:
        """A minute of traffic, and a look at it."""
        self.traffic(300, seconds=70.0, moved=moved, labelled=labelled)
        self.watch.tick()
        self.part.tick()

    def acts(self) -> list[str]:
        return [decided.act for decided in reversed(self.decisions.list("penguins"))]

    def newest(self) -> Decided:
        return self.decisions.list("penguins", limit=1)[0]

    def run(self, status: Any = "succeeded", minutes: float = 3.0) -> None:
        """What the run that was begun would have left."""
        self.runs.start(
            "penguins", run_id=self.begun[-1][0], who="controller", pid=1,
            host=socket.gethostname(), parameters={},
        )  # fmt: skip
        self.part.tick()
        self.clock.now += minutes * 60
        self.runs.finish(self.begun[-1][0], status=status, reason="It is done.")
        self.part.tick()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.database.close()


def test_drift_that_holds_begins_one_run_on_rows_since_it_began(home: Home) -> None:
    home.window(moved=1.0)
    began = home.clock.now
    home.window()
    assert home.begun == []
    home.window()
    ((run_id, models, since),) = home.begun
    assert models == ("rf",)
    assert since == pytest.approx(began, abs=5)
    assert home.acts() == ["hold", "retrain"]
    assert home.newest().run_id == run_id
    assert "drift of rf in 2 windows in a row" in home.newest().sentence
    assert home.newest().evidence["drifting"] >= 100
    (event,) = Events(home.database).list("penguins", limit=1)
    assert (event.kind, event.after, event.evidence["run"]) == ("retrain", "retrain", run_id)


def test_a_run_is_begun_once_and_its_end_told_with_its_cost(home: Home) -> None:
    for _ in range(2):
        home.window()
    for _ in range(3):
        home.clock.now += 6.0
        home.part.tick()
    assert len(home.begun) == 1
    home.run("refused", minutes=4.0)
    (ended,) = home.decisions.list("penguins", act="ended")
    assert ended.run_id == home.begun[0][0]
    assert "refused after 4.0 minutes: It is done." in ended.sentence
    home.clock.now += 6.0
    home.part.tick()
    assert "the last run ended a while ago only" in home.newest().sentence
    assert home.newest().evidence["minutes"] == pytest.approx(4.0)
    home.clock.now += 601.0
    home.part.tick()
    assert len(home.begun) == 2


def test_a_decision_whose_run_never_began_is_begun_again_under_the_same_id(home: Home) -> None:
    for _ in range(2):
        home.window()
    home.clock.now += 6.0
    home.retraining().tick()  # another controller, after the first was killed
    assert [run for run, _, _ in home.begun] == [home.begun[0][0]] * 2
    assert home.begun[0] == home.begun[1]
    assert home.acts().count("retrain") == 1


def test_a_process_that_ends_before_its_run_began_counts_as_a_run(home: Home) -> None:
    for _ in range(2):
        home.window()
    home.code = 6
    home.clock.now += 6.0
    home.part.tick()
    assert (
        "ended with code 6 before it began"
        in home.decisions.list("penguins", act="ended")[0].sentence
    )
    home.clock.now += 6.0
    home.part.tick()
    assert len(home.begun) == 1
    assert home.newest().act == "hold"
    assert "left to wait" in home.newest().sentence


def test_what_stays_the_same_is_kept_hourly(home: Home) -> None:
    home.part.tick()
    for _ in range(3):
        home.clock.now += 60.0
        home.part.tick()
    assert home.acts() == ["hold"]
    assert home.newest().sentence.startswith("Nothing calls for training: drift in 0 windows")
    home.clock.now += 3_600.0
    home.part.tick()
    assert home.acts() == ["hold", "hold"]


def test_too_few_labels_hold_it_and_say_so(home: Home) -> None:
    for _ in range(2):
        home.window(labelled=0.0)
    assert home.begun == []
    assert (
        "only 0 live rows since drift began have a label, of 100 needed" in home.newest().sentence
    )


def test_drift_began_when_it_began_however_many_windows_ago(home: Home) -> None:
    began = home.clock.now
    for _ in range(100):
        home.checks.add(
            "penguins", "rf", "drift",
            first_time=home.clock.now, last_time=home.clock.now + 30, rows=300,
            verdict="drift", sentence="Drift.", who="controller",
            detail={"version": "penguins/rf@1", "severity": 2.0, "columns": []},
        )  # fmt: skip
        home.clock.now += 60
    home.part.tick()
    (one,) = home.newest().evidence["models"]
    assert (one["windows"], one["since"]) == (100, began)


def test_a_rollout_under_way_is_waited_for(home: Home) -> None:
    home.rollouts.start(
        "penguins", "rf", 2, Canary(), id="r", share=0.01, mirror=0.0, who="test", reason="test"
    )
    for _ in range(2):
        home.window()
    assert "penguins/rf@2 is on its way already" in home.newest().sentence


def test_a_run_of_somebody_else_is_waited_for(home: Home) -> None:
    home.window()
    home.traffic(300, seconds=70.0, moved=1.3, labelled=0.5)
    own = {"pid": os.getpid(), "host": socket.gethostname()}
    home.runs.start("penguins", run_id="x", who="ana", **own, parameters={})  # type: ignore[arg-type]
    home.watch.tick()
    home.part.tick()
    assert "run x goes on" in home.newest().sentence


def test_a_project_that_asks_for_nothing_is_left_alone(home: Home) -> None:
    quiet = replace(home.project, retrain=Retrain())
    part = Retraining([quiet], home.database, begin_process(home.settings))
    assert part.tick() == []
    assert home.decisions.list("penguins") == []


def test_live_accuracy_is_graded_and_a_drop_calls_for_training(home: Home) -> None:
    metrics = {"evaluation": {"metrics": {"accuracy": {"value": 0.97}}}}
    with home.database.begin() as connection:
        connection.execute(update(tables.versions).values(metrics=metrics))
    project = replace(home.project, retrain=replace(POLICY, on=("accuracy",)))
    grade = Grade([project], home.settings, home.database)
    checks = Checks(home.database)
    for count, right in ((20, 1.0), (400, 0.97), (400, 0.8)):
        home.traffic(count, seconds=70.0, right=(right, right), labelled=1.0)
        home.clock.now += 60.0
        grade.tick()
    found = [check.verdict for check in reversed(checks.list("penguins", "rf", "accuracy"))]
    assert found[0] in ("ok", "not enough data")
    assert found[1:] == ["ok", "worse"]
    home.clock.now += 60.0
    grade.tick()  # no label came since
    assert len(checks.list("penguins", "rf", "accuracy")) == 3
    newest = checks.newest("penguins", "rf", "accuracy")
    assert newest is not None
    assert "penguins/rf@1 is right on 84.1% of 515" in newest.sentence
    home.project = project
    (decision,) = home.retraining().tick()
    assert (decision.act, decision.called) == ("retrain", ("accuracy",))


def test_accuracy_that_may_still_be_worse_does_not_come_and_go(home: Home) -> None:
    metrics = {"evaluation": {"metrics": {"accuracy": {"value": 0.97}}}}
    with home.database.begin() as connection:
        connection.execute(update(tables.versions).values(metrics=metrics))
    grade = Grade([home.project], home.settings, home.database)
    for right in (0.8, 0.89, 0.97):
        home.traffic(400, seconds=50.0, right=(right, right), labelled=1.0)
        home.clock.now += 60.0
        grade.tick()
    found = [check.verdict for check in reversed(home.checks.list("penguins", "rf", "accuracy"))]
    assert found == ["worse", "not enough data", "ok"]
    told = [e.after for e in reversed(Events(home.database).list(limit=None, kinds=["accuracy"]))]
    assert told == ["worse", "ok"]


def test_a_run_is_a_process_of_its_own_that_is_told_what_to_do(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "python"
    leads = "import os; print(os.getsid(0) == os.getpid())"
    script.write_text(f"#!/bin/sh\necho \"$@\"\nexec {sys.executable} -c '{leads}'\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    process: Any = begin_process(home.settings)(home.project, "some-id", ("rf",), 1_800_000_000.0)
    assert process.wait(timeout=30) == 0
    said = (home.settings.logs_folder / "run-penguins.log").read_text()
    assert said == (
        "-m timonel run penguins --json --with-feedback --run-id some-id --who controller "
        "--model rf --feedback-since 2027-01-15T08:00:00+00:00\nTrue\n"
    )
