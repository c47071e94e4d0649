"""Who serves a home, for those who ask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from timonel.errors import Busy
from timonel.serving.roster import Report, Roster, owning, read_roster, running, write_roster

ROSTER = Roster(
    pid=os.getpid(),
    address="http://127.0.0.1:8000",
    models=("digits/cnn",),
    workers=(
        Report(0, 11, True, ("digits/cnn@1",), ("digits/cnn@1",), {"digits/cnn@2": "It is bad."}),
        Report(1, 12, True, failed={"digits/cnn@2": "It is bad."}),
        Report(2, trouble="Worker 2 does not come up."),
    ),
    trouble="Worker 0 was not replaced.",
)

OWN = """
import sys, time
from pathlib import Path
from timonel.serving.roster import owning, write_roster, Roster
with owning(Path(sys.argv[1])):
    write_roster(Path(sys.argv[1]), Roster(pid=1, address="http://there"))
    print("owned", flush=True)
    time.sleep(60)
"""


def test_what_a_supervisor_says_can_be_read_while_it_runs(tmp_path: Path) -> None:
    assert running(tmp_path) is None
    with owning(tmp_path / "serving"):
        assert running(tmp_path / "serving") is None  # nothing is said yet
        write_roster(tmp_path / "serving", ROSTER)
        assert running(tmp_path / "serving") == ROSTER == read_roster(tmp_path / "serving")
    assert running(tmp_path / "serving") is None
    assert read_roster(tmp_path / "serving") is None


def test_troubles_are_said_once_though_several_workers_have_them() -> None:
    assert ROSTER.troubles() == [
        "Worker 2 does not come up.",
        "It is bad.",
        "Worker 0 was not replaced.",
    ]
    assert [worker.number for worker in ROSTER.ready()] == [0, 1]


def test_a_second_supervisor_is_refused_until_the_first_is_gone_even_if_it_was_killed(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWN, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "owned\n"
        with (
            pytest.raises(Busy, match="which process 1 at http://there serves") as refused,
            owning(tmp_path),
        ):
            pass
        assert "--home" in str(refused.value)
        other.kill()
    assert read_roster(tmp_path) is not None
    assert running(tmp_path) is None  # what a killed one left does not count
    with owning(tmp_path):
        assert read_roster(tmp_path) is None
