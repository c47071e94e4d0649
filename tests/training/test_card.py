"""The model card."""

from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import BaseModel, Field

from timonel.schema import Image, Pixels, columns_of
from timonel.signature import Binding, Signature
from timonel.training.card import card
from timonel.training.evaluate import Evaluation, evaluate


class Passenger(BaseModel):
    age: float | None = Field(ge=0, le=120)
    siblings: int = Field(gt=-1)
    alone: bool
    sex: Literal["male", "female"]
    fare: float = Field(lt=600)
    name: str
    note: float


class Digit(BaseModel):
    pixels: Annotated[Pixels, Image(28, 28)]


def signature(features: type[BaseModel]) -> Signature:
    return Signature(
        "titanic", "lr", columns_of(features), "survived", ("no|never", "yes"),
        Binding("columns", ()),
    )  # fmt: skip


@pytest.fixture
def evaluation() -> Evaluation:
    y = np.array([0, 1] * 40)
    return evaluate(y, np.where(np.arange(80) < 70, y, 1 - y), None, ("no|never", "yes"))


def test_a_card_says_what_is_known(evaluation: Evaluation) -> None:
    text = card(
        signature=signature(Passenger),
        version="titanic/lr@4",
        description="Who survives.",
        evaluation=evaluation,
        origin="titanic/train.csv",
        dataset="abc123",
        rows={"train": 700, "test": 80},
        notes=("177 rows lack an age.",),
        embedded=True,
        estimator="Pipeline",
        parameters={"C": 1.0},
        cross_validation=(0.81, 0.02),
        seed=7,
        gate="titanic/lr@4 passed as the first version.",
        made="2026-11-20",
    )
    for part in (
        "# titanic/lr@4",
        "Who survives.",
        "passed as the first version",
        "`abc123`",
        "train 700, test 80",
        "177 rows lack an age",
        "small data set that ships",
        "C=1.0",
        "| accuracy | 0.8750 | 0.7",
        "0.8100",
        "no\\|never",
        "| `age` | number, ≥ 0, ≤ 120 or missing |",
        'timonel.load("titanic/lr").predict',
        "'sex': 'male'",
    ):
        assert part in text


def test_the_example_of_use_runs_as_python(evaluation: Evaluation) -> None:
    text = card(
        signature=signature(Passenger), version="titanic/lr@1", description="",
        evaluation=evaluation, origin="x", dataset="y", rows={},
    )  # fmt: skip
    code = text.split("```python\n")[1].split("```")[0]
    row = eval(code.split(".predict(")[1].rsplit(")", 1)[0])
    Passenger.model_validate(row)


def test_a_picture_is_not_spelled_out(evaluation: Evaluation) -> None:
    text = card(
        signature=signature(Digit), version="digits/cnn@1", description="", evaluation=evaluation,
        origin="x", dataset="y", rows={"train": 1},
    )  # fmt: skip
    assert "784 numbers" in text
