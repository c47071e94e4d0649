"""Pipeline runs beside a server, each a process."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.homes import deploy, deploy_digits, home_at
from tests.serving.processes import until
from timonel.project import load_project
from timonel.serving.launcher import Launcher
from timonel.settings import Settings

PENGUINS = [("penguins", load_project("penguins"))]


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
    launcher.start([*PENGUINS, ("digits", load_project("digits"))])
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
    launcher.start([*PENGUINS, ("digits", load_project("digits"))])
    until(lambda: len(told) == 2)
    launcher.stop()
    assert "/proc/nowhere" in told[0]["error"]
