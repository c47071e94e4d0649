"""What is asked and what must be answered: a trained home, payloads, expected labels."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PROJECTS", "Task", "data_folder", "home_of", "prepare"]

HERE = Path(__file__).parent
PROJECTS = {
    "penguins": str(HERE / "projects" / "penguins.py"),
    "digits": str(HERE / "projects" / "digits.py"),
    "digits-cnn": "digits",
}
"""What is measured, and what `timonel serve` is given for it."""

ROWS = 100
_SURE = 0.3  # between the two likeliest classes, of probability or of logit


@dataclass(frozen=True)
class Task:
    """One project's part: the version's folder, rows, and the label that each must get.

    `version` holds `model.onnx` and `signature.json`; `training` is a CSV of the rows that trained
    it, where there are any.
    """

    project: str
    definition: str
    home: Path
    version: Path
    rows: tuple[Any, ...]
    labels: tuple[int, ...]
    training: Path | None


def data_folder() -> Path:
    """The folder of real data (TIMONEL_TEST_DATA)."""
    default = HERE.parents[2] / "shared" / "data"
    return Path(os.environ.get("TIMONEL_TEST_DATA", default)).absolute()


def home_of(home: Path) -> dict[str, str]:
    """This process's environment with nothing of Timonel's but a home and the data."""
    own = ("TIMONEL_", "MLFLOW_", "ENVIRONMENT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return kept | {"TIMONEL_HOME": str(home), "TIMONEL_DATA": str(data_folder())}


def prepare(project: str, folder: Path) -> Task:
    """Train, unless an earlier call did so in this folder; choose rows; ask the model itself."""
    home, definition = folder / f"home-{project}", PROJECTS[project]
    version, training = folder / f"version-{project}", None
    if project == "digits-cnn":
        from timonel.projects.digits import ARTIFACT

        home.mkdir(exist_ok=True)  # the version that ships answers before any other is made
        version = ARTIFACT
    elif not version.is_dir():
        _timonel(home, "run", definition)
        _timonel(home, "models", "export", f"{_trained(definition)}@1", "--out", str(version))
    rows: tuple[Any, ...]
    if project == "penguins":
        rows, training = _penguins(definition, folder)
    else:
        rows = _digits()
    rows, labels = _answered(version, rows)
    return Task(project, definition, home, version, rows, labels, training)


def _trained(definition: str) -> str:
    from timonel.project import load_project

    project = load_project(definition)
    return f"{project.name}/{project.model_names[0]}"


def _timonel(home: Path, *words: str) -> None:
    command = [sys.executable, "-m", "timonel", *words]
    done = subprocess.run(command, env=home_of(home), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {(done.stdout + done.stderr)[-600:]}")


def _penguins(definition: str, folder: Path) -> tuple[tuple[dict[str, float], ...], Path]:
    """Rows to ask, and a file of the rows that `timonel run` trained on."""
    from timonel.data import split
    from timonel.project import Read, load_project

    project = load_project(definition)
    source: Any = project.source
    read = source.read(Read(data_folder(), folder / "cache", "sqlite://"))
    frame, _ = project.prepared(read.frame)
    frame = split.assign(frame, project.split, project.columns, project.target)
    names = [column.name for column in project.columns]
    training = folder / "training.csv"
    if not training.exists():
        frame.filter(frame["split"] == "train").select([*names, project.target]).write_csv(training)
    return tuple(frame.sample(fraction=1, shuffle=True, seed=0).select(names).to_dicts()), training


def _digits() -> tuple[list[int], ...]:
    """Test pictures of MNIST as lists of 784 numbers."""
    from timonel.data.idx import read_images

    pictures, _, _ = read_images(data_folder() / "mnist" / "t10k-images-idx3-ubyte.gz")
    return tuple(list(picture) for picture in pictures[: 2 * ROWS])


def _answered(version: Path, rows: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """The first `ROWS` rows that the model is sure of, and what ONNX Runtime answers.

    None of Timonel's code is asked. Where two classes are nearly even, another release of
    scikit-learn fits a forest that says the other.
    """
    import numpy as np
    import onnxruntime

    binding = json.loads((version / "signature.json").read_text())["binding"]
    session = onnxruntime.InferenceSession(str(version / "model.onnx"))
    found: dict[int, int] = {}
    for index, row in enumerate(rows):
        values = list(row.values()) if isinstance(row, dict) else row
        tensor = np.array(values, np.float32).reshape(1, *(binding["shape"] or [-1]))
        (scores,) = session.run([binding["scores"]], {binding["inputs"][0]: tensor})
        second, first = np.sort(scores.ravel())[-2:]
        if first - second > _SURE and len(found) < ROWS:
            found[index] = int(scores.argmax())  # classes are 0, 1, … in both projects
    return tuple(rows[index] for index in found), tuple(found.values())
