"""The doctor's findings are lines for a person or a document for a script; a problem is exit 1."""

from pathlib import Path

import pytest

from tests.cli.conftest import Timonel


@pytest.fixture(autouse=True)
def _any_port(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMONEL_PORT", "0")


def test_a_well_system_ends_with_0(timonel: Timonel, home: Path) -> None:
    ended = timonel("doctor")
    assert (ended.code, ended.err) == (0, "")
    assert "ok      python: Python 3." in ended.out
    assert f"ok      home: {home} will be made" in ended.out
    assert not home.exists()


def test_a_problem_ends_with_1_its_remedy_and_its_name(
    timonel: Timonel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMONEL_DATA", "no/such/folder")
    ended = timonel("doctor")
    assert ended.code == 1
    assert "problem data: Expected TIMONEL_DATA to be a folder" in ended.out
    assert "\n        Correct it, or unset it.\n" in ended.out
    assert ended.err == "\nTo be mended: data.\n"


def test_a_script_gets_one_document(timonel: Timonel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert timonel("doctor", "--json").json()["ok"] is True
    monkeypatch.setenv("TIMONEL_DATABASE", "nonsense")
    ended = timonel("doctor", "--json")
    checks = {check["name"]: check for check in ended.json()["checks"]}
    assert (ended.code, ended.json()["ok"]) == (1, False)
    assert checks["database"]["status"] == "problem"
    assert "TIMONEL_DATABASE" in checks["database"]["remedy"]


def test_a_setting_that_cannot_be_is_named(
    timonel: Timonel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMONEL_WORKERS", "none")
    ended = timonel("doctor")
    assert (ended.code, "TIMONEL_WORKERS" in ended.err) == (1, True)
