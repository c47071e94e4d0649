"""Pipeline runs beside a server, each a process."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.homes import deploy, deploy_digits, home_at
from tests.serving.processes import until
from timonel.errors import Busy
from timonel.project import load_project
from timonel.serving.launcher import Launcher, Ran
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.runs import Runs

PENGUINS = [load_project("penguins")]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return home_at(tmp_path)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Something to put in the place of Python, with what `timonel run` would do."""

    def become(script: str) -> None:
        file = tmp_path / "python"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setattr("timonel.serving.launcher.sys.executable", str(file))

    return become


def test_what_has_no_champion_is_run_and_what_it_says_is_told(
    settings: Settings, command: Any
) -> None:
    command('echo "$@"; echo "home $TIMONEL_HOME"; echo trouble >&2')
    told: list[tuple[str, str]] = []
    launcher = Launcher(settings, lambda project, line: told.append((project, line)))
    launcher.start(PENGUINS)
    until(lambda: len(told) == 2)
    launcher.stop()
    assert told == [
        ("penguins", "-m timonel run penguins --json --model rf\n"),
        ("penguins", f"home {settings.root}\n"),
    ]
    assert (settings.logs_folder / "run-penguins.log").read_text() == "trouble\n"


def test_what_has_a_champion_is_not_run_and_what_ships_counts_for_none(
    settings: Settings,
) -> None:
    launcher = Launcher(settings, lambda project, line: None)
    penguins, digits = load_project("penguins"), load_project("digits")
    assert launcher.untrained(penguins) == ["rf"]
    deploy(penguins, settings)
    deploy_digits(settings, number=0)
    assert launcher.untrained(penguins) == []
    assert launcher.untrained(digits) == ["cnn", "clf"]


def test_stopping_ends_the_run_and_starts_no_other(settings: Settings, command: Any) -> None:
    command('trap "echo ended; exit 0" TERM; echo begun; while true; do sleep 0.05; done')
    told: list[str] = []
    launcher = Launcher(settings, lambda project, line: told.append(f"{project} {line.strip()}"))
    launcher.start([*PENGUINS, load_project("digits")])
    until(lambda: bool(told))
    launcher.stop()
    assert told == ["penguins begun", "penguins ended"]


def test_stopping_before_anything_was_started_is_no_trouble(settings: Settings) -> None:
    launcher = Launcher(settings, lambda project, line: None)
    launcher.stop()
    launcher.start(PENGUINS)
    launcher.stop()
    assert not settings.root.exists()


def test_a_project_that_cannot_be_looked_up_is_told_and_the_next_is_tried(
    settings: Settings,
) -> None:
    away = settings.model_copy(update={"database": "sqlite:////proc/nowhere/timonel.db"})
    told: list[dict[str, str]] = []
    launcher = Launcher(away, lambda project, line: told.append(json.loads(line)))
    launcher.start([*PENGUINS, load_project("digits")])
    until(lambda: len(told) == 2)
    launcher.stop()
    assert "/proc/nowhere" in told[0]["error"]


def test_what_cannot_answer_at_all_is_trained_first(settings: Settings, command: Any) -> None:
    command("echo trained")
    deploy_digits(settings, number=0)
    told: list[str] = []
    launcher = Launcher(settings, lambda project, line: told.append(project))
    launcher.start([load_project("digits"), *PENGUINS])
    until(lambda: len(told) == 2)
    launcher.stop()
    assert told == ["penguins", "digits"]


def test_a_run_tells_its_id_its_end_and_its_sentence(settings: Settings, command: Any) -> None:
    begun = '{"kind": "run", "run": "run-1", "name": "run", "status": "running"}'
    ended = '{"kind": "run", "run": "run-1", "name": "run", "status": "refused", "note": "Worse."}'
    command(f"echo '{begun}'; echo '{ended}'; exit 4")
    named: list[str | None] = []
    ran = Launcher(settings, lambda project, line: None).run(PENGUINS[0], named=named.append)
    assert named == ["run-1"]
    assert ran == Ran(4, "run-1", "refused", "Worse.")


def test_a_run_that_cannot_begin_says_why(settings: Settings, command: Any) -> None:
    command('echo \'{"error": "It needs packages."}\'; exit 2')
    ran = Launcher(settings, lambda project, line: None).run(PENGUINS[0])
    assert (ran.code, ran.run, ran.sentence) == (2, None, "It needs packages.")


def test_a_second_run_of_a_project_is_refused_with_the_first_ones_id(
    settings: Settings, command: Any
) -> None:
    event = '{"kind": "run", "run": "run-1", "name": "run", "status": "running"}'
    command(f"echo '{event}'; trap 'exit 0' TERM; while true; do sleep 0.05; done")
    launcher = Launcher(settings, lambda project, line: None)
    first = threading.Thread(target=launcher.run, args=(PENGUINS[0],))
    first.start()
    until(lambda: "penguins" in launcher._going)
    with pytest.raises(Busy, match="run-1"):
        launcher.run(PENGUINS[0])
    launcher.stop()
    first.join(10)
    assert not first.is_alive()


def test_a_run_of_another_process_is_refused_too(settings: Settings) -> None:
    Runs(Database.open(settings.database_url)).start(
        "penguins",
        run_id="run-7",
        who="somebody",
        pid=1,
        host=socket.gethostname(),
        parameters={},
    )
    with pytest.raises(Busy, match="run-7"):
        Launcher(settings, lambda project, line: None).run(PENGUINS[0])


def test_all_who_ask_at_once_hear_of_the_run_of_another_process(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    Runs(Database.open(settings.database_url)).start(
        "penguins",
        run_id="run-7",
        who="somebody",
        pid=1,
        host=socket.gethostname(),
        parameters={},
    )
    launcher = Launcher(settings, lambda project, line: None)
    active = Runs.active

    def slowly(runs: Runs, project: str) -> Any:
        time.sleep(0.1)
        return active(runs, project)

    monkeypatch.setattr(Runs, "active", slowly)

    def sentence(_: int) -> str:
        with pytest.raises(Busy) as caught:
            launcher.run(PENGUINS[0])
        return str(caught.value)

    with ThreadPoolExecutor(10) as pool:
        assert all("run-7" in said for said in pool.map(sentence, range(10)))


def test_a_listener_that_left_does_not_end_the_run(settings: Settings, command: Any) -> None:
    command('echo \'{"kind": "run", "run": "run-1", "status": "succeeded", "note": "Good."}\'')

    def gone(project: str, line: str) -> None:
        raise BrokenPipeError

    ran = Launcher(settings, gone).run(PENGUINS[0])
    assert ran == Ran(0, "run-1", "succeeded", "Good.")
