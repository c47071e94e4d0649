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
