"""A scaffolded project is complete: it loads, its rows are fit, its recipe learns and exports."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.cli.conftest import Timonel
from timonel.cli import scaffold
from timonel.cli.new import check_name
from timonel.data.quality import check
from timonel.data.sources import Csv
from timonel.data.split import assign
from timonel.errors import BadRequest
from timonel.heavy import refuse_heavy_imports
from timonel.project import BUNDLED, RESERVED, File, Model, Project, Read, load_project
from timonel.tensors import arrays_of_frame
from timonel.training.design import design_matrix
from timonel.training.export import to_onnx
from timonel.training.search import fit


@pytest.fixture
def made(timonel: Timonel, tmp_path: Path) -> Path:
    """The definition of a new project, `parcels`."""
    assert timonel("new", "parcels", "--dir", tmp_path / "work").code == 0
    return tmp_path / "work" / "parcels" / "parcels.py"


def test_a_folder_with_a_definition_rows_and_a_readme_is_made(timonel: Timonel) -> None:
    ended = timonel("new", "parcels")
    assert ended.code == 0
    assert sorted(path.name for path in Path("parcels").iterdir()) == [
        "README.md", "parcels.py", "rows.csv"
    ]  # fmt: skip
    for command in (
        "timonel check parcels/parcels.py",
        "timonel run parcels/parcels.py",
        "timonel serve parcels/parcels.py",
        f"curl 127.0.0.1:8000/predict -d '{scaffold.EXAMPLE}'",
    ):
        assert command in ended.out
        assert command.split()[-1] in Path("parcels/README.md").read_text()
    assert "600 generated rows" in Path("parcels/README.md").read_text()


def test_a_new_project_is_well_defined_and_warns_of_nothing(timonel: Timonel, made: Path) -> None:
    refuse_heavy_imports(made)
    found = timonel("check", made, "--json").json()
    assert (found["project"], found["warnings"]) == ("parcels", [])
    assert [column["kind"] for column in found["columns"]] == [
        "number", "integer", "boolean", "category"
    ]  # fmt: skip
    row = load_project(str(made)).features.model_validate_json(scaffold.EXAMPLE)
    assert row.model_dump() == json.loads(scaffold.EXAMPLE)


def test_every_commented_setting_can_be_set_as_it_stands(made: Path) -> None:
    text = made.read_text()
    lines = [line for line in text.splitlines() if line.startswith("    # ") and "=" in line]
    assert len(lines) == 8
    for line in lines:
        name = line.strip("# ").partition("=")[0]
        other = text.replace("    gate=Gate(floor=0.75),\n", "") if name == "gate" else text
        made.write_text(other.replace(line, line.replace("# ", "", 1)))
        assert load_project(str(made)).name == "parcels"


def test_the_rows_are_fit_and_the_recipe_learns_and_exports(made: Path, tmp_path: Path) -> None:
    project = load_project(str(made))
    rows = project.source.read(Read(None, tmp_path / "cache", "sqlite://"))
    checked = check(rows.frame, project)
    assert (checked.report.refused, checked.report.kept) == (0, 600)
    frame = assign(checked.frame, project.split, project.columns, project.target)
    parts = {}
    for side in ("train", "test"):
        part = frame.filter(pl.col("split") == side)
        arrays = arrays_of_frame(project.columns, part)
        parts[side] = arrays, design_matrix(project.columns, arrays), part[project.target].to_list()
    _, X, y = parts["train"]
    found = fit(project.models[0], X, y, project.labels or (), jobs=1)
    assert len(found.trials) == 3
    arrays, held, truth = parts["test"]
    right = (found.estimator.predict(held) == truth).mean()
    assert right > (project.gate.floor or 0) + 0.05
    exported = to_onnx(found.estimator, project.columns, arrays)
    assert set(exported.classes) == {"on time", "late"}


def test_rows_are_the_same_for_a_seed_and_others_for_another() -> None:
    assert scaffold.rows(20, seed=1) == scaffold.rows(20, seed=1)
    assert scaffold.rows(20, seed=1) != scaffold.rows(20, seed=2)


@pytest.mark.parametrize(
    "name", ["", "Parcels", "9lives", "../up", "a b", "ä", "a/b", "x" * 64, "-n", "a\n"]
)
def test_a_bad_name_is_refused_with_a_sentence(timonel: Timonel, name: str) -> None:
    ended = timonel("new", "--", name)
    assert (ended.code, repr(name) in ended.err) == (2, True)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", sorted(RESERVED | BUNDLED.keys()))
def test_a_name_that_is_taken_is_refused(timonel: Timonel, name: str) -> None:
    ended = timonel("new", name)
    assert (ended.code, "a name that is free" in ended.err) == (2, True)


class _Features(BaseModel):
    x: float


@given(st.text(st.sampled_from("ab9_-A. \n"), max_size=5))
def test_exactly_the_names_that_a_project_may_have_are_taken(name: str) -> None:
    def made() -> Project:
        return Project(
            name=name,
            source=Csv(File("x.csv")),
            features=_Features,
            target="y",
            models=[Model("m", lambda: None)],
        )

    try:
        check_name(name)
    except BadRequest:
        with pytest.raises(Exception, match="expected a name"):
            made()
    else:
        assert made().name == name


def test_a_folder_that_exists_is_never_touched(timonel: Timonel, made: Path) -> None:
    made.write_text("mine")
    ended = timonel("new", "parcels", "--dir", made.parents[1])
    assert (ended.code, "one that exists" in ended.err) == (2, True)
    assert made.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_told(timonel: Timonel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = timonel("new", "parcels", "--dir", tmp_path / "file")
    assert (ended.code, "--dir" in ended.err) == (5, True)


def test_a_new_project_runs_unchanged(made: Path, home: Path) -> None:
    # A process of its own, from another folder: the path to the rows must not depend on it.
    code = "from timonel.cli.main import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "run", str(made)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (home / "timonel.db").is_file()
