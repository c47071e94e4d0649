"""The notebooks run from top to bottom, on few rows and without a network, and keep no output."""

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import homes
from tests.redises import redis_at
from timonel.data.sources import Python
from timonel.project import Read, load_project
from timonel.projects import crimes, titanic
from timonel.settings import Settings
from timonel.stores.registry import Registry

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
NEEDED = ("ipykernel", "nbclient", "nbformat")

# Whatever is not in the data folder has to come with the package.
NO_NETWORK = {
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
    "no_proxy": "127.0.0.1",
}


def content(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.ipynb").read_text())


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with an MLflow database, which takes seconds to make, and small files to read."""
    folder = tmp_path_factory.mktemp("notebooks")
    settings = Settings(home=folder / "home")
    Registry.open(settings.registry_url)
    for name in ("chicago_crimes", "titanic"):
        (folder / "data" / name).mkdir(parents=True)
    read = Read(None, folder, "sqlite://")
    rows = Python(crimes.generated).read(read).frame.head(3_000)
    rows.write_csv(folder / "data" / "chicago_crimes" / "crimes_2024.csv")
    generated = Path(titanic.__file__).with_name("titanic_generated.csv")
    shutil.copy(generated, folder / "data" / "titanic" / "train.csv")
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    """A folder of the notebooks' own, with a home and data in it."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"{', '.join(missing)} missing; install them with: pip install '.[notebooks]'"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    shutil.copytree(template, tmp_path / "place")
    return tmp_path / "place"


def executed(name: str, place: Path, **environment: str) -> str:
    """Execute a notebook in a folder, in a process of its own; what its cells printed."""
    copy = place / f"{name}.ipynb"
    shutil.copy(FOLDER / copy.name, copy)
    given = {
        "TIMONEL_HOME": str(place / "home"),
        "TIMONEL_DATA": str(place / "data"),
        "TIMONEL_JOBS": "1",
        "NOTEBOOK_SMALL": "1",
        "NO_COLOR": "1",
        "IPYTHONDIR": str(place / "ipython"),
        **NO_NETWORK,
        **environment,
    }
    script = (
        "import nbformat, sys; from nbclient import NotebookClient; "
        "notebook = nbformat.read(sys.argv[1], 4); "
        "NotebookClient(notebook, timeout=300, kernel_name='python3').execute(); "
        "nbformat.write(notebook, sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, copy.name],
        cwd=place,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    cells = json.loads(copy.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "\n".join("".join(output.get("text", "")) for output in outputs)


@pytest.fixture
def api(place: Path) -> Iterator[str]:
    """The address of crimes, served."""
    homes.deploy_embedded(load_project("crimes"), Settings(home=place / "home"))
    command = [sys.executable, "-m", "timonel", "serve", "crimes", "--workers", "1", "--port", "0"]
    given = os.environ | {"TIMONEL_HOME": str(place / "home")}
    with subprocess.Popen(
        [*command, "--json"], env=given, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())["address"]
        finally:
            server.terminate()


def check_samples(printed: str) -> None:
    """Five answers of the API, and the same five from the cache."""
    lines = [line for line in printed.splitlines() if line.startswith(("first ", "second "))]
    answers, origins = zip(
        *(line.split(" ", 1)[1].split(" from the ") for line in lines), strict=True
    )
    assert origins == ("API",) * 5 + ("cache",) * 5
    assert answers[:5] == answers[5:]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_what_it_printed(name: str) -> None:
    cells = content(name)["cells"]
    assert cells[0]["cell_type"] == "markdown"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []


def test_every_notebook_is_described() -> None:
    text = (FOLDER / "README.md").read_text()
    assert [name for name in NAMES if f"]({name}.ipynb)" not in text] == []


@pytest.mark.soak
def test_penguins_are_trained_and_registered(place: Path) -> None:
    printed = executed("train_penguins", place)
    assert "penguins/rf@1 is champion" in printed
    assert "344 rows came, 342 have no holes" in printed
    settings = Settings(home=place / "home")
    assert Registry.open(settings.registry_url).aliases("penguins_rf")["champion"] == 1


@pytest.mark.soak
@pytest.mark.parametrize(("model", "trials"), [("dtc", 3), ("lda", 3)])
def test_an_experiment_reads_the_named_files_and_records_its_trials(
    place: Path, model: str, trials: int
) -> None:
    import mlflow

    printed = executed(f"experiment_{model}", place)
    assert "f1_weighted" in printed
    client = mlflow.MlflowClient(tracking_uri=Settings(home=place / "home").registry_url)
    (experiment,) = client.search_experiments(filter_string="name = 'Chicago Crimes 2024'")
    runs = client.search_runs([experiment.experiment_id])
    (own,) = [run for run in runs if run.info.run_name == f"notebook/{model}"]
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == own.info.run_id]
    assert len(nested) == trials
    assert {run.info.status for run in (own, *nested)} == {"FINISHED"}
    files = client.list_artifacts(own.info.run_id, "figures")
    assert [file.path for file in files] == ["figures/confusion.png"]


def test_samples_are_answered_by_the_api_and_then_from_the_cache(
    place: Path, tmp_path: Path, api: str
) -> None:
    check_samples(executed("samples", place, CRIMES_API=api))
    with redis_at(tmp_path) as redis:
        check_samples(executed("samples", place, CRIMES_API=api, TIMONEL_ANSWERS=redis.url))


@pytest.mark.soak
def test_titanic_is_explored_and_trained(place: Path) -> None:
    assert "titanic/lr@1 is champion" in executed("titanic", place)


def test_digit_pictures_are_drawn_and_read(place: Path) -> None:
    printed = executed("digit_pictures", place)
    right = int(printed.partition(" of 12 are right")[0].rpartition("\n")[2])
    assert right >= 9
    with (place / "home" / "pictures" / "labels.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12
