"""Importing Timonel, or asking for help, costs next to nothing."""

import importlib.util
import json
import subprocess
import sys

import pytest

HEAVY = {
    "PIL",
    "alembic",
    "fastapi",
    "matplotlib",
    "mlflow",
    "numpy",
    "onnx",
    "onnxruntime",
    "optuna",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "skl2onnx",
    "sklearn",
    "skops",
    "sqlalchemy",
    "torch",
}

IMPORT_ALL = """
import importlib, pkgutil
for package in {packages!r}:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), package + "."):
        # Alembic runs a folder of migrations; it is not for importing.
        if "migrations" not in found.name:
            importlib.import_module(found.name)
"""

REPORT = """
import json, sys
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a new interpreter has loaded after `code`."""
    ended = subprocess.run(
        [sys.executable, "-c", code + REPORT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import timonel") & HEAVY == set()


def test_asking_for_help_loads_nothing_heavy() -> None:
    if importlib.util.find_spec("timonel.cli.main") is None:
        pytest.skip("there is no timonel.cli.main yet")
    help_asked = """
import sys
from timonel.cli.main import main
sys.argv = ["timonel", "--help"]
try:
    main()
except SystemExit as end:
    if end.code:
        raise
"""
    assert loaded_by(help_asked) & HEAVY == set()


def test_what_answers_and_records_loads_no_training_package() -> None:
    packages = [
        "timonel.artifact",
        "timonel.journal",
        "timonel.runtime",
        "timonel.serving",
        "timonel.tensors",
    ]
    loaded = loaded_by(IMPORT_ALL.format(packages=packages))
    assert loaded & {"mlflow", "optuna", "pandas", "polars", "skl2onnx", "sklearn"} == set()


def test_no_module_does_heavy_work_when_it_is_imported() -> None:
    loaded = loaded_by(IMPORT_ALL.format(packages=["timonel"]))
    assert loaded & {"mlflow", "onnxruntime", "pandas", "polars", "sklearn", "torch"} == set()
