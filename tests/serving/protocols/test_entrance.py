"""Pictures in arrays are taken as those in lists are, whatever the project's own checks say."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.testclient import TestClient

from timonel.errors import TimonelError
from timonel.project import Model, Project
from timonel.schema import Image, Pixels
from timonel.serving.answer import Answerer
from timonel.serving.metrics import Metrics
from timonel.serving.protocols.entrance import Entrance
from timonel.serving.protocols.refusals import sentence_of
from timonel.serving.routing import Routes
from timonel.serving.rows import Inputs, RowReader

MEASURED = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


class Picture(BaseModel):
    pixels: Annotated[Pixels, Image(2, 2)]


class Checked(BaseModel):
    pixels: Annotated[Pixels, Image(2, 2)]

    @field_validator("pixels")
    @classmethod
    def has_ink(cls, value: Any) -> Any:
        if value.sum() < 100:
            raise ValueError("a blank page")
        return value


class Named(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    age: float | None = Field(None, validation_alias="Age")


class Nowhere:
    def read(self, read: Any) -> Any:
        raise NotImplementedError


def entrance(features: type[BaseModel]) -> Entrance:
    project = Project(
        name="shapes",
        source=Nowhere(),
        features=features,
        target="shape",
        models=[Model("m", lambda: None)],
    )
    answerer = Answerer(project, Routes([project], Path()), _record, Metrics())
    return Entrance(answerer, RowReader(project, 10), max_body=1_000, max_rows=10)


async def _record(entry: object) -> None:
    raise NotImplementedError


def taken(read: Any) -> tuple[Any, ...]:
    """What came of reading: the rows as arrays and for the journal, or the refusal."""
    try:
        inputs: Inputs = read()
    except (ValidationError, TimonelError) as error:
        return sentence_of(error)
    return inputs.arrays["pixels"].tolist(), inputs.count, list(inputs.values())


PIXELS = st.sampled_from([0.0, 0.25, 1.0, 1.5, 7.0, 255.0, 255.5, -1.0, np.nan, np.inf])


@given(
    st.sampled_from([Picture, Checked]),
    st.lists(st.lists(PIXELS, min_size=4, max_size=4), max_size=12),
    st.sampled_from([np.float32, np.float64]),
)
def test_an_array_of_pictures_is_read_as_lists_of_numbers_are(
    features: type[BaseModel], rows: list[list[float]], kind: type
) -> None:
    door = entrance(features)
    array: np.ndarray = np.array(rows, kind).reshape(len(rows), 4)
    assert taken(lambda: door.pictures("pixels", array)) == taken(
        lambda: door.inputs([{"pixels": row} for row in rows])
    )


def test_a_field_with_two_names_is_known_under_both() -> None:
    door = entrance(Named)
    for name in ("Age", "age"):
        assert door.column(name) is door.project.columns[0]
        inputs = door.inputs([{name: 3.0}, {name: float("nan")}])
        assert list(inputs.values()) == [(3.0,), (None,)]
    assert door.column("AGE") is None


@pytest.mark.parametrize(
    ("path", "key"), [("/v2/models/penguins/infer", "error"), ("/penguins/invocations", "message")]
)
def test_who_cannot_wait_is_told_so_in_the_protocols_form(
    path: str, key: str, app: FastAPI, client: TestClient
) -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "timonel.deadline": 0.0}, receive, send)

    tensors = [{"name": n, "shape": [1], "datatype": "FP64", "data": [20]} for n in MEASURED]
    body = {"inputs": tensors if key == "error" else dict.fromkeys(MEASURED, 20)}
    assert client.post(path, json=body).status_code == 200
    reply = TestClient(late).post(path, json=body)
    assert reply.status_code == 504
    assert "X-Request-Timeout" in reply.json()[key]
