"""The peers' virtual environments: made when first needed, kept outside the repository."""

import json
import subprocess
import sys
from pathlib import Path

__all__ = ["PEERS", "ready", "versions"]

PEERS = Path(__file__).parent / "peers"


def ready(name: str, folder: Path) -> Path:
    """The Python of an environment with `peers/NAME/requirements.txt`, made if it is not there.

    Raises:
        RuntimeError: it cannot be made; the message has pip's last lines.
    """
    home = folder / name
    wanted = (PEERS / name / "requirements.txt").read_text()
    python, stamp = home / "bin" / "python", home / "requirements.txt"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    sys.stderr.write(f"Making the environment {home}; minutes the first time.\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [*pip, "--requirement", str(PEERS / name / "requirements.txt")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
            raise RuntimeError(f"The environment {name} cannot be made:\n{last}")
    stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """Every package of an environment and its version."""
    code = (
        "import json, importlib.metadata as m; "
        "print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
    )
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return dict(sorted(json.loads(done.stdout).items()))
