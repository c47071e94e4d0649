"""`timonel adopt`, without MLflow's seconds; what it does is tested with the pipeline."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Timonel

_TABLES = """
CREATE TABLE registered_model_aliases (alias TEXT, version INTEGER, name TEXT);
CREATE TABLE model_versions (
    name TEXT, version INTEGER, last_updated_time BIGINT, current_stage TEXT
);
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_TABLES)
    monkeypatch.setenv("TIMONEL_REGISTRY", f"sqlite:///{path}")
    return path


@pytest.mark.parametrize("reference", ["penguins", "penguins/", "/rf", "penguins/rf@x", "@3"])
def test_what_names_no_model_is_refused_with_an_example(timonel: Timonel, reference: str) -> None:
    ended = timonel("adopt", reference)
    assert ended.code == 2
    assert "Expected PROJECT/MODEL or PROJECT/MODEL@N" in ended.err
    assert "timonel adopt penguins/rf@5" in ended.err


def test_where_all_agree_nothing_is_done(timonel: Timonel, registry: Path) -> None:
    assert registry.is_file()
    for words in (["penguins/rf"], ["penguins", "--model", "rf"]):
        ended = timonel("adopt", *words)
        assert ended.code == 0
        assert "MLflow and the database agree about penguins/rf." in ended.out
    event: dict[str, Any] = json.loads(timonel("adopt", "penguins/rf", "--json").out)
    assert (event["kind"], event["status"]) == ("run", "succeeded")


def test_an_unknown_model_and_a_missing_registry_are_sentences(timonel: Timonel) -> None:
    ended = timonel("adopt", "penguins/xgb")
    assert (ended.code, "expected one of: rf" in ended.err) == (2, True)
    ended = timonel("adopt", "penguins/rf")
    assert ended.code == 5
    assert "could not be read" in ended.err
