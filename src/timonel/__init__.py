"""Timonel takes a machine-learning model from data to production and keeps it on course.

The names of a definition, and the ways to predict from Python, are loaded when first used:
importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timonel.contract import Answer, Contract, Upload, labels
    from timonel.data.cleaning import Cleaning
    from timonel.data.portal import Portal
    from timonel.data.socrata import Socrata
    from timonel.data.sources import Concat, Csv, Embedded, FirstOf, Idx, Parquet, Python, Table
    from timonel.policies import (
        Cache,
        Choice,
        Drift,
        Float,
        Gate,
        Grid,
        Integer,
        Layout,
        Optuna,
        Quality,
        Retention,
        Retrain,
        Split,
        Tables,
    )
    from timonel.project import File, Model, Pretrained, Project, Read, Rows
    from timonel.rollouts import AllAtOnce, BlueGreen, Canary, Limits, Shadow
    from timonel.schema import Image, Pixels, Unrecorded
    from timonel.serving.local import load

_HOMES = {
    "timonel.contract": ("Answer", "Contract", "Upload", "labels"),
    "timonel.data.cleaning": ("Cleaning",),
    "timonel.data.portal": ("Portal",),
    "timonel.data.socrata": ("Socrata",),
    "timonel.data.sources": (
        "Concat",
        "Csv",
        "Embedded",
        "FirstOf",
        "Idx",
        "Parquet",
        "Python",
        "Table",
    ),
    "timonel.serving.local": ("load",),
    "timonel.policies": (
        "Cache",
        "Choice",
        "Drift",
        "Float",
        "Gate",
        "Grid",
        "Integer",
        "Layout",
        "Optuna",
        "Quality",
        "Retention",
        "Retrain",
        "Split",
        "Tables",
    ),
    "timonel.project": ("File", "Model", "Pretrained", "Project", "Read", "Rows"),
    "timonel.rollouts": ("AllAtOnce", "BlueGreen", "Canary", "Limits", "Shadow"),
    "timonel.schema": ("Image", "Pixels", "Unrecorded"),
}
_OWNERS = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AllAtOnce",
    "Answer",
    "BlueGreen",
    "Cache",
    "Canary",
    "Choice",
    "Cleaning",
    "Concat",
    "Contract",
    "Csv",
    "Drift",
    "Embedded",
    "File",
    "FirstOf",
    "Float",
    "Gate",
    "Grid",
    "Idx",
    "Image",
    "Integer",
    "Layout",
    "Limits",
    "Model",
    "Optuna",
    "Parquet",
    "Pixels",
    "Portal",
    "Pretrained",
    "Project",
    "Python",
    "Quality",
    "Read",
    "Retention",
    "Retrain",
    "Rows",
    "Shadow",
    "Socrata",
    "Split",
    "Table",
    "Tables",
    "Unrecorded",
    "Upload",
    "labels",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("timonel")
    if name not in _OWNERS:
        raise AttributeError(f"module 'timonel' has no attribute {name!r}")
    return getattr(import_module(_OWNERS[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
