"""`timonel.asgi:app`: one process that looks after itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.homes import deploy, home_at
from tests.serving.processes import until
from timonel.project import load_project

ROW = {"bill_length_mm": 20, "bill_depth_mm": 40, "flipper_length_mm": 200, "body_mass_g": 4000}


def test_a_project_is_served_at_the_root_and_follows_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, penguins = home_at(tmp_path), load_project("penguins")
    deploy(penguins, settings)
    monkeypatch.setenv("TIMONEL_HOME", str(settings.root))
    monkeypatch.setenv("TIMONEL_PROJECTS", "penguins")
    from timonel.asgi import build

    with TestClient(build()) as client:
        assert client.post("/predict", json=ROW).headers["x-model-version"] == "penguins/rf@1"
        deploy(penguins, settings, number=2, seed=2)
        until(
            lambda: client.post("/predict", json=ROW).headers["x-model-version"] == "penguins/rf@2"
        )
    assert list((settings.root / "objects").rglob("*"))
    assert not list(settings.journal_folder.glob("*.closed")), "the journal is exported at the end"


def test_importing_it_builds_nothing() -> None:
    code = "import sys, timonel.asgi; print('fastapi' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
