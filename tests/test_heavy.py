"""Heavy imports are found where loading a definition would run them, and nowhere else."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timonel.errors import DefinitionError
from timonel.heavy import definition_file, heavy_imports, refuse_heavy_imports
from timonel.project import BUNDLED, HEAVY

LOADED = [
    ("import sklearn", 1),
    ("import os, torch.nn as nn", 1),
    ("from sklearn.ensemble import RandomForestClassifier", 1),
    ("x = 1\nimport pandas as pd", 2),
    ("try:\n    import mlflow\nexcept ImportError:\n    pass", 2),
    ("try:\n    import json\nexcept ImportError:\n    import polars", 4),
    ("try:\n    pass\nfinally:\n    import ray", 4),
    ("if True:\n    pass\nelse:\n    import xgboost", 4),
    ("class Features:\n    import pandas", 2),
    ("class A:\n    class B:\n        from pandas import DataFrame", 3),
    ("with open('x') as f:\n    import torch", 2),
    ("for _ in ():\n    import torch", 2),
    ("match 1:\n    case 1:\n        import torch", 3),
    ("if TYPE_CHECKING:\n    pass\nelse:\n    import lightgbm", 4),
]

NOT_LOADED = [
    "import numpy, json",
    "def recipe():\n    import sklearn",
    "async def recipe():\n    from sklearn import svm",
    "class Source:\n    def read(self):\n        import pandas",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas",
    "import typing\nif typing.TYPE_CHECKING:\n    from sklearn.base import BaseEstimator",
    "from . import sklearn",
    "from .torch import nn",
    "import sklearn_like, torchvision_names",
    "text = 'import pandas'",
]


@pytest.mark.parametrize(("source", "line"), LOADED)
def test_an_import_that_runs_when_the_file_is_loaded_is_found_with_its_line(
    source: str, line: int
) -> None:
    assert [at for at, _ in heavy_imports(source)] == [line]


@pytest.mark.parametrize("source", NOT_LOADED)
def test_an_import_that_does_not_run_then_is_let_be(source: str) -> None:
    assert heavy_imports(source) == []


@given(st.lists(st.sampled_from(sorted(HEAVY)), min_size=1), st.integers(0, 5))
def test_every_heavy_import_is_found_in_its_order(modules: list[str], before: int) -> None:
    source = "\n" * before + "\n".join(f"import {module}.part" for module in modules)
    expected = [(before + n + 1, f"{module}.part") for n, module in enumerate(modules)]
    assert heavy_imports(source) == expected


def test_the_refusal_names_file_line_module_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text('"""Mine."""\nimport json\nfrom sklearn import svm\nimport pandas\n')
    with pytest.raises(DefinitionError) as caught:
        refuse_heavy_imports(path)
    assert f"{path}, line 3" in caught.value.message
    assert "got sklearn, pandas in line 4." in caught.value.message
    assert "into the function" in (caught.value.remedy or "")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("content", [b"def (:\n", b"x = 1\n  y = 2\n", b"\0", b"\xff\xfe\xff"])
def test_a_file_that_is_no_python_is_refused_with_a_sentence(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(content)
    with pytest.raises(DefinitionError, match=r"mine\.py.*expected"):
        refuse_heavy_imports(path)


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_bundled_definitions_import_nothing_heavy(name: str) -> None:
    path = definition_file(name)
    assert path is not None
    refuse_heavy_imports(path)


def test_the_file_of_a_name_is_the_one_that_would_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.py"
    path.touch()
    assert definition_file(str(path)) == path
    assert definition_file(str(tmp_path / "other.py")) is None
    assert definition_file("nothing-of-this-name") is None

    installed = tmp_path / "installed_project"
    information = tmp_path / "installed_project-1.dist-info"
    installed.mkdir()
    information.mkdir()
    (installed / "__init__.py").touch()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[timonel.projects]\nweather = installed_project:project\nlost = no_such.module:project\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert definition_file("weather") == installed / "__init__.py"
    assert definition_file("lost") is None
