"""The whole loop, unattended: drift, alarm, training, gate, canary, promotion."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from timonel.project import load_project

EXAMPLE = Path(__file__).parents[2] / "examples" / "watched_digits.py"
STAGES = ("drift", "alarm", "retraining", "run", "gate", "rollout", "step", "promoted")


def test_the_example_is_a_project_with_all_that_a_loop_needs() -> None:
    project = load_project(str(EXAMPLE))
    assert (project.name, project.model_names) == ("digits", ("clf",))
    assert project.retrain.on == ("drift",)


@pytest.mark.soak
def test_turned_digits_end_in_a_promotion_without_a_failed_request(
    test_data: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    command = [sys.executable, "-m", "timonel", "simulate", str(EXAMPLE), "--serve", "--drift"]
    command += ["--home", str(tmp_path / "home"), "--labels", "1", "--rate", "80", "--json"]
    command += ["--seconds", "1200", "--after", "0.02"]
    done = subprocess.run(
        command,
        env=os.environ | {"TIMONEL_DATA": str(test_data)},
        capture_output=True,
        text=True,
        check=False,
        timeout=3_600,  # the first training included
    )
    assert done.returncode == 0, done.stderr
    *lines, summary = [json.loads(line) for line in done.stdout.splitlines()]
    for name in ("requests", "labels", "versions", "stages"):
        record_property(name, json.dumps(summary[name]))
    assert summary["failed"] == {}
    told = [line["stage"] for line in lines if line["kind"] == "moment"]
    reached = [stage for stage in dict.fromkeys(told) if stage in STAGES]
    assert reached == list(STAGES)
    assert told.count("promoted") == 1
    assert list(summary["versions"]) == ["digits/clf@1", "digits/clf@2"]
