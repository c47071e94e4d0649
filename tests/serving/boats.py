"""A project with every kind of field, two models, and any contract; trained in a moment."""

from enum import Enum
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from tests.homes import deploy_trained
from timonel.contract import Contract
from timonel.project import Model, Project
from timonel.settings import Settings
from timonel.tensors import arrays_of

__all__ = ["FEMALE", "MALE", "boat", "launch"]


class Port(Enum):
    SOUTHAMPTON = "S"
    CHERBOURG = "C"


class Passenger(BaseModel):
    age: float | None = Field(None, examples=[22.0])
    sex: Literal["male", "female"] = Field(examples=["male"])
    port: Port | None = Field(None, examples=["S"])
    deck: str = Field("", examples=["C85"])
    siblings: int | None = Field(None, ge=0, examples=[1])
    alone: bool = Field(False, examples=[True])


MALE = {"sex": "male", "age": 22.0, "port": "S", "deck": "", "siblings": 1, "alone": False}
FEMALE = {"sex": "female", "age": 38.0, "port": "C", "deck": "C85", "siblings": 0, "alone": True}


class _Nowhere:
    def read(self, read: Any) -> Any:
        raise NotImplementedError


def _recipe() -> Any:
    raise NotImplementedError


def boat(count: int = 1, features: type[BaseModel] = Passenger, **contract: Any) -> Project:
    """The project with `count` models `m1`, `m2`… and a contract of these fields."""
    return Project(
        name="boat",
        source=_Nowhere(),
        features=features,
        target="fate",
        models=[Model(f"m{i + 1}", _recipe) for i in range(count)],
        classes=["drowned", "saved"],
        contract=Contract(**contract),
    )


def launch(
    project: Project, settings: Settings, *, number: int = 1, women_saved: bool = True
) -> None:
    """Make a champion of each model, which says that women are saved, or that men are."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rng = np.random.default_rng(0)
    women = rng.random(80) < 0.5
    values: dict[str, list[Any]] = {
        "age": [float(a) if a > 5 else None for a in rng.integers(0, 80, 80)],
        "sex": ["female" if w else "male" for w in women],
        "port": [[Port.CHERBOURG, Port.SOUTHAMPTON, None][i] for i in rng.integers(0, 3, 80)],
        "deck": [["", "C85"][i] for i in rng.integers(0, 2, 80)],
        "siblings": [int(s) if s else None for s in rng.integers(0, 5, 80)],
        "alone": [bool(b) for b in rng.integers(0, 2, 80)],
    }
    labels = ["saved" if w == women_saved else "drowned" for w in women]
    categories = ["sex", "port", "deck"]
    for name in project.model_names:
        estimator = make_pipeline(
            ColumnTransformer(
                [
                    ("texts", OneHotEncoder(handle_unknown="ignore"), categories),
                    ("numbers", SimpleImputer(), ["age", "siblings", "alone"]),
                ]
            ),
            LogisticRegression(max_iter=1000),
        )
        arrays = arrays_of(project.columns, values)
        deploy_trained(project, settings, estimator, arrays, labels, model=name, number=number)
