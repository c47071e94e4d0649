"""`timonel run`: exit codes, output, and a run that is stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Timonel

DEFINITION = """
import time
from pydantic import BaseModel
from timonel import Model, Project, Python


class Features(BaseModel):
    size: float


def rows():
    return {"size": [float(n) for n in range(60)], "kind": [n % 2 for n in range(60)]}


def slow():
    time.sleep(60)


project = Project(
    name="sizes", source=Python(rows), features=Features, target="kind", models=[Model("m", slow)]
)
"""


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    path = tmp_path / "sizes.py"
    path.write_text(DEFINITION)
    return path


def test_a_run_until_a_step_tells_what_it_did(timonel: Timonel, definition: Path) -> None:
    ended = timonel("run", definition, "--until", "split")
    assert ended.code == 0
    assert "validate: succeeded (60 rows: 60 kept, 0 refused.)" in ended.out


def test_json_is_one_event_a_line(timonel: Timonel, definition: Path) -> None:
    ended = timonel("run", definition, "--until", "ingest", "--json")
    events = [json.loads(line) for line in ended.out.splitlines()]
    assert [(event["name"], event["status"]) for event in events][-1] == ("run", "succeeded")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--until", "deploy"], "There is no step 'deploy'"),
        (["--model", "rf"], "no model 'rf'"),
    ],
)
def test_a_mistake_is_a_sentence(
    timonel: Timonel, definition: Path, arguments: list[str], said: str
) -> None:
    ended = timonel("run", definition, *arguments)
    assert ended.code == 2
    assert said in ended.err


def test_sigterm_stops_a_run_and_closes_its_record(home: Path, definition: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "timonel", "run", definition, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TIMONEL_HOME": str(home)},
    )
    try:
        for line in run.stdout or ():
            if json.loads(line)["name"] == "train/m":
                break
        time.sleep(0.5)
        run.send_signal(signal.SIGTERM)
        out, _ = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == 130
    assert json.loads(out.splitlines()[-1])["status"] == "stopped"
