"""A home is backed up and restored by commands: its versions and predictions are the same."""

import tarfile
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.cli.conftest import Timonel
from tests.homes import app_of, deploy
from timonel.project import load_project
from timonel.serving.roster import Roster, owning, write_roster
from timonel.settings import Settings

ROWS = [
    {"bill_length_mm": b, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}
    for b in (33.0, 39.1, 46.5, 55.0)
]


@pytest.fixture
def deployed(home: Path) -> Settings:
    settings = Settings(home=home)
    project = load_project("penguins")
    deploy(project, settings, number=1)
    deploy(project, settings, number=2, seed=1, champion=False)
    return settings


def _answers(settings: Settings) -> list[object]:
    app = app_of([load_project("penguins")], settings)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        return [client.post("/penguins/predict", json=row).json()["prediction"] for row in ROWS]


def test_a_restored_home_has_the_same_versions_and_predictions(
    timonel: Timonel, deployed: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, answers = timonel("models", "list").out, _answers(deployed)
    ended = timonel("backup", "b.tar.gz")
    assert (ended.code, " is in b.tar.gz (" in ended.out) == (0, True)
    target = tmp_path / "restored"
    ended = timonel("restore", "b.tar.gz", "--home", target)
    assert (ended.code, ended.out.startswith(f"{target} is as it was at ")) == (0, True)
    monkeypatch.setenv("TIMONEL_HOME", str(target))
    assert timonel("models", "list").out == listed
    assert _answers(Settings(home=target)) == answers
    assert timonel("events", "home", "--json").json()[0]["after"] == "restored"


@pytest.mark.usefixtures("deployed")
def test_scripts_get_json(timonel: Timonel, tmp_path: Path) -> None:
    made = timonel("backup", "b.tar", "--json").json()
    assert made["packed"] > made["bytes"] > 0
    assert made["notes"] == []
    done = timonel("restore", "b.tar", "--home", tmp_path / "restored", "--json").json()
    assert {done[name] == made[name] for name in ("files", "bytes", "created")} == {True}


def test_a_home_that_is_served_or_has_files_is_not_replaced(
    timonel: Timonel, deployed: Settings
) -> None:
    timonel("backup", "b.tar")
    with owning(deployed.serving_folder):
        write_roster(deployed.serving_folder, Roster(1, "127.0.0.1:1"))
        ended = timonel("restore", "b.tar", "--replace")
        assert (ended.code, "a home that nobody serves" in ended.err) == (6, True)
    ended = timonel("restore", "b.tar")
    assert (ended.code, "--replace" in ended.err) == (2, True)
    ended = timonel("restore", "b.tar", "--replace")
    assert (ended.code, "The home that was there is " in ended.err) == (0, True)


def test_what_is_no_backup_is_refused(
    timonel: Timonel, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timonel("backup", "b.tar").code == 5
    assert timonel("restore", "b.tar").code == 2
    with tarfile.open("b.tar", "w") as tar:
        tar.add(__file__, "some.py")
    ended = timonel("restore", "b.tar")
    assert (ended.code, "another archive" in ended.err) == (2, True)
    monkeypatch.setenv("TIMONEL_OBJECTS", str(home / "elsewhere"))
    assert "Unset them" in timonel("restore", "b.tar").err
    assert not home.exists()
