"""The examples run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_digits_are_predicted_from_picture_files_without_a_server(tmp_path: Path) -> None:
    script = ROOT / "examples" / "predict_without_server.py"
    assert len(script.read_text().splitlines()) <= 20
    picture = ROOT / "docs" / "images" / "seven.png"
    other = tmp_path / "again.png"
    other.write_bytes(picture.read_bytes())
    done = subprocess.run(
        [sys.executable, str(script), str(picture), str(other)],
        env=os.environ | {"TIMONEL_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{picture}: 7 (")
    assert second.startswith(f"{other}: 7 (")
