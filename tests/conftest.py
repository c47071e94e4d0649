"""What tests of every part share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data (TIMONEL_TEST_DATA), or a skip that says what is missing."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TIMONEL_TEST_DATA", default))
    if not (folder / "mnist").is_dir():
        pytest.skip(f"no real data at {folder}; set TIMONEL_TEST_DATA to its folder")
    return folder


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say what they need; what the shell around them has set does not count."""
    for name in list(os.environ):
        if name.startswith(("TIMONEL_", "MLFLOW_")) and name != "TIMONEL_TEST_DATA":
            monkeypatch.delenv(name)
