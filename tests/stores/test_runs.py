import os
import subprocess
import sys

import pytest

from tests.stores.conftest import Clock
from tests.stores.processes import together
from timonel.errors import Busy, NotFound, RunFailed
from timonel.stores.database import Database
from timonel.stores.events import Events
from timonel.stores.runs import Run, Runs, RunStatus, StepStatus, process_lives


class _Processes:
    """The processes of this host that live."""

    def __init__(self) -> None:
        self.living = {1, 2, 3}

    def __call__(self, pid: int) -> bool:
        return pid in self.living


@pytest.fixture
def processes() -> _Processes:
    return _Processes()


@pytest.fixture
def runs(database: Database, processes: _Processes) -> Runs:
    return Runs(database, lives=processes)


def _start(
    runs: Runs, run_id: str, *, project: str = "digits", pid: int = 1, host: str = "here"
) -> Run:
    return runs.start(project, run_id=run_id, who="ana", pid=pid, host=host, parameters={"seed": 1})


def test_a_run_is_active_from_its_start_to_its_end(runs: Runs, clock: Clock) -> None:
    started = _start(runs, "r1")
    assert runs.active("digits") == started == runs.get("r1")
    assert (started.status, started.parameters, started.started) == ("running", {"seed": 1}, 1_000)
    clock.now += 9
    ended = runs.finish("r1", status="succeeded", reason="registered digits/cnn@1")
    assert runs.active("digits") is None
    assert (ended.status, ended.finished) == ("succeeded", 1_009)
    assert ended.reason == "registered digits/cnn@1"


def test_a_second_run_of_a_project_is_refused_with_the_id_of_the_first(runs: Runs) -> None:
    _start(runs, "r1")
    with pytest.raises(Busy, match=r"Expected no active run of digits, got run r1, .*process 1"):
        _start(runs, "r2", pid=2)
    _start(runs, "r3", project="penguins")
    assert runs.active("digits") == runs.get("r1")
    with pytest.raises(NotFound, match="r2, which there is not"):
        runs.get("r2")


def test_a_run_whose_process_is_gone_makes_way(
    runs: Runs, processes: _Processes, database: Database
) -> None:
    _start(runs, "r1", pid=1)
    processes.living.remove(1)
    assert _start(runs, "r2", pid=2).status == "running"
    first = runs.get("r1")
    assert (first.status, first.reason) == ("failed", "its process ended")
    assert len(Events(database).list("digits/runs/r1")) == 2


def test_a_process_of_another_host_is_judged_by_its_silence(
    runs: Runs, processes: _Processes, clock: Clock
) -> None:
    _start(runs, "r1", pid=1, host="there")
    processes.living.clear()
    clock.now += 60
    with pytest.raises(Busy):
        _start(runs, "r2")
    clock.now += 0.1
    _start(runs, "r2")
    assert runs.get("r1").status == "failed"


def test_a_beat_or_a_step_breaks_the_silence(runs: Runs, clock: Clock) -> None:
    _start(runs, "r1")
    clock.now += 59
    runs.beat("r1")
    clock.now += 59
    runs.step("r1", "train", status="running")
    clock.now += 59
    with pytest.raises(Busy):
        _start(runs, "r2")


def test_a_run_that_was_ended_is_told_so(runs: Runs, processes: _Processes) -> None:
    _start(runs, "r1")
    processes.living.clear()
    _start(runs, "r2")
    for call in (
        lambda: runs.beat("r1"),
        lambda: runs.step("r1", "train", status="running"),
        lambda: runs.finish("r1", status="succeeded", reason="late"),
    ):
        with pytest.raises(RunFailed, match="to be running, got failed: its process ended"):
            call()
    assert runs.get("r1").status == "failed"


@pytest.mark.parametrize("status", ["succeeded", "refused", "failed", "stopped"])
def test_each_change_of_a_run_is_one_event(
    runs: Runs, database: Database, status: RunStatus
) -> None:
    _start(runs, "r1")
    runs.beat("r1")
    runs.step("r1", "train", status="succeeded")
    runs.finish("r1", status=status, reason="because", who="bob")
    ended, began = Events(database).list("digits/runs/r1")
    assert (began.who, began.before, began.after) == ("ana", None, "running")
    assert began.evidence == {"parameters": {"seed": 1}}
    assert (ended.who, ended.before, ended.after) == ("bob", "running", status)
    assert ended.evidence == {"reason": "because"}


def test_one_of_many_processes_starts(database_url: str, database: Database) -> None:
    prepare = """
import os
from timonel.errors import Busy
from timonel.stores.database import Database
from timonel.stores.runs import Runs
"""
    act = """
try:
    Runs(Database.open(sys.argv[2])).start(
        "digits", run_id=sys.argv[1], who="p", pid=os.getppid(), host="here", parameters={}
    )
    print(sys.argv[1])
except Busy as error:
    print(str(error).split("got run ")[1].split(",")[0])
"""
    said = together(prepare, act, 4, database_url)
    active = Runs(database).active("digits")
    assert active is not None
    assert said == [active.id] * 4
    assert len(Runs(database).list()) == 1


def test_a_step_keeps_what_a_later_call_leaves_out(runs: Runs, clock: Clock) -> None:
    _start(runs, "r1")
    runs.step("r1", "train", status="running", key="k", share=0.25, note="trial 5 of 20")
    clock.now += 1
    step = runs.step("r1", "train", status="succeeded", output={"digest": "d"}, share=1.0)
    assert [step] == runs.steps("r1")
    assert (step.key, step.note, step.share) == ("k", "trial 5 of 20", 1.0)
    assert (step.started, step.changed) == (1_000, 1_001)


def test_steps_are_in_the_order_in_which_they_began(runs: Runs) -> None:
    _start(runs, "r1")
    for name in ("ingest", "validate", "train", "evaluate", "ingest"):
        runs.step("r1", name, status="running")
    assert [s.name for s in runs.steps("r1")] == ["ingest", "validate", "train", "evaluate"]


def test_a_step_of_no_run_is_not_found(runs: Runs) -> None:
    with pytest.raises(NotFound):
        runs.step("r1", "train", status="running")


def test_the_newest_finished_output_of_a_key_is_found_in_whichever_run(
    runs: Runs, clock: Clock
) -> None:
    assert runs.output_of("k") is None
    statuses: list[StepStatus] = ["succeeded", "cached", "running", "failed"]
    for number, status in enumerate(statuses, start=1):
        _start(runs, f"r{number}")
        clock.now += 1
        runs.step(f"r{number}", "train", status=status, key="k", output={"n": number})
        runs.finish(f"r{number}", status="failed", reason="r")
    assert runs.output_of("k") == {"n": 2}
    assert runs.output_of("other") is None


def test_list_gives_the_newest_first(runs: Runs, clock: Clock) -> None:
    for number in range(3):
        _start(runs, f"r{number}", project=f"p{number % 2}")
        runs.finish(f"r{number}", status="stopped", reason="r")
        clock.now += 1
    assert [run.id for run in runs.list()] == ["r2", "r1", "r0"]
    assert [run.id for run in runs.list("p0")] == ["r2", "r0"]
    assert [run.id for run in runs.list(limit=1)] == ["r2"]


def test_a_process_lives_until_it_has_ended() -> None:
    assert process_lives(os.getpid())
    assert process_lives(1)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert not process_lives(ended.pid)
