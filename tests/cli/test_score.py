"""`timonel score`."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.homes import deploy, home_at, penguin_rows
from timonel.cli.main import app
from timonel.errors import BadRequest, DataRefused
from timonel.project import load_project


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of rows, beside a home with a version."""
    settings = home_at(tmp_path)
    deploy(load_project("penguins"), settings)
    for name, value in settings.environment_variables().items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "rows.csv"
    pl.DataFrame(penguin_rows(50)[0]).write_csv(path)
    return path


def test_the_answers_go_beside_the_rows(rows: Path) -> None:
    done = CliRunner().invoke(app, ["score", "penguins", str(rows)])
    assert done.exit_code == 0, done.output
    assert "rows.scored.csv: 50 rows by penguins/rf@1" in done.output
    assert pl.read_csv(rows.with_name("rows.scored.csv")).height == 50


def test_json_tells_rows_seconds_version_and_engine(rows: Path) -> None:
    target = rows.with_name("out.parquet")
    done = CliRunner().invoke(
        app, ["score", "penguins/rf@1", str(rows), "--output", str(target), "--json"]
    )
    said = json.loads(done.output)
    assert {"rows": 50, "refused": 0, "version": "penguins/rf@1"}.items() <= said.items()
    assert said["output"] == str(target)
    assert said["engine"] == "onnxruntime"
    assert said["rows_per_second"] > 0


def test_a_bad_row_ends_it_and_nothing_is_written(rows: Path) -> None:
    rows.write_text(rows.read_text() + "1,2,3,-4\n")
    done = CliRunner().invoke(app, ["score", "penguins", str(rows)])
    assert isinstance(done.exception, DataRefused)
    assert "line 52, body_mass_g" in str(done.exception)
    assert not rows.with_name("rows.scored.csv").exists()
    done = CliRunner().invoke(app, ["score", "penguins", str(rows), "--bad", "skip"])
    assert "1 rows did not fit: see " in done.output


def test_an_unknown_suffix_is_said_before_anything_is_loaded(rows: Path) -> None:
    done = CliRunner().invoke(app, ["score", "penguins", str(rows), "-o", "out.xlsx"])
    assert isinstance(done.exception, BadRequest)
