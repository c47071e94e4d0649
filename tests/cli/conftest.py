"""What tests of the command line share: a home of their own, and `timonel` in this process."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from timonel.cli.main import main


class Ended(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed, as one JSON document."""
        return json.loads(self.out)


Timonel = Callable[..., Ended]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that commands use, and a folder of its own that they run in."""
    for name in ("DATA", "DATABASE", "OBJECTS", "REGISTRY", "PORT"):
        monkeypatch.delenv(f"TIMONEL_{name}", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("TIMONEL_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.fixture
def timonel(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Timonel:
    """Runs a command as `timonel` does: `timonel("models", "list")`."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["timonel", *map(str, arguments)])
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsysbinary.readouterr()
        code = ended.value.code
        return Ended(int(code or 0), printed.out.decode(), printed.err.decode())

    return run
