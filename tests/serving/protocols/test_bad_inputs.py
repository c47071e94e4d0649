"""The same bad input through every protocol: refused alike, with the field in the sentence."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.serving.bad_inputs import BODIES, PENGUINS, PICTURES, VALUES, BadBody

ROW = {"bill_length_mm": "20", "bill_depth_mm": "40", "flipper_length_mm": "200"}
"""The fields before `body_mass_g`, as JSON."""
DOORS = [f"/{name}/invocations" for name in ("digits", "penguins")]
DOORS += [f"/v2/models/{name}/infer" for name in ("digits", "penguins")]

Write = Callable[[Mapping[str, str]], str]


def _record(row: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'"{name}": {value}' for name, value in row.items()) + "}"


def _values(row: Mapping[str, str]) -> str:
    return "[" + ", ".join(row.values()) + "]"


def _split(row: Mapping[str, str]) -> str:
    names = ", ".join(f'"{name}"' for name in row)
    return f'{{"dataframe_split": {{"columns": [{names}], "data": [{_values(row)}]}}}}'


def _columns(row: Mapping[str, str]) -> str:
    return f'{{"inputs": {_record({name: f"[{value}]" for name, value in row.items()})}}}'


def _tensors(row: Mapping[str, str]) -> str:
    tensors = [
        f'{{"name": "{name}", "datatype": "FP64", "data": {value}, "shape": [1'
        f"{', ' + str(value.count(',') + 1) if value.startswith('[') else ''}]}}"
        for name, value in (
            (name, value if value.startswith("[") else f"[{value}]") for name, value in row.items()
        )
    ]
    return f'{{"inputs": [{", ".join(tensors)}]}}'


# Of each protocol: the path behind the project's name and how it writes a row.
PROTOCOLS: dict[str, tuple[str, Write]] = {
    "native": ("/{}/predict", _record),
    "v2": ("/v2/models/{}/infer", _tensors),
    "dataframe_split": ("/{}/invocations", _split),
    "dataframe_records": (
        "/{}/invocations",
        lambda row: f'{{"dataframe_records": [{_record(row)}]}}',
    ),
    "instances": ("/{}/invocations", lambda row: f'{{"instances": [{_values(row)}]}}'),
    "inputs": ("/{}/invocations", _columns),
}


def said(reply: Any) -> str:
    """The sentence of a refusal in any protocol's form, places included."""
    body = reply.json()
    sentence = body.get("error") or body.get("message") or body["detail"]
    if isinstance(sentence, list):
        sentence = "; ".join(f"{item['loc']}: {item['msg']}" for item in sentence)
    return str(sentence)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No refusal is an error of the server's."""
    with caplog.at_level(logging.WARNING):
        yield
    assert not caplog.records


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_bad_value_is_refused_by_every_protocol_naming_the_field(
    protocol: str, value: str, client: TestClient
) -> None:
    path, write = PROTOCOLS[protocol]
    reply = client.post(
        path.format("penguins"), content=write({**ROW, "body_mass_g": VALUES[value]})
    )
    assert reply.status_code == 422, reply.text[:500]
    # A number that JSON itself cannot hold has no place yet.
    assert "body_mass_g" in said(reply) or value == "5,000 digits"
    good = client.post(path.format("penguins"), content=write({**ROW, "body_mass_g": "4000"}))
    assert good.status_code == 200, good.text


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "instances"])
def test_a_missing_field_is_named_by_every_protocol(protocol: str, client: TestClient) -> None:
    path, write = PROTOCOLS[protocol]
    reply = client.post(path.format("penguins"), content=write(ROW))
    assert reply.status_code == 422
    assert "body_mass_g" in said(reply)
    assert "Field required" in said(reply)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_bad_picture_is_refused_by_every_protocol(
    protocol: str, picture: str, client: TestClient
) -> None:
    path, write = PROTOCOLS[protocol]
    numbers = PICTURES[picture]
    if len(numbers) == 1:
        numbers = ["0"] * 783 + numbers
    reply = client.post(path.format("digits"), content=write({"pixels": f"[{', '.join(numbers)}]"}))
    assert reply.status_code == (400 if "785" in picture or "783" in picture else 422), reply.text
    assert len(said(reply).split()) > 3
    good = write({"pixels": "[" + ", ".join(["0"] * 783 + ["9"]) + "]"})
    assert client.post(path.format("digits"), content=good).status_code == 200


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("bad", [*BODIES, *PENGUINS], ids=lambda bad: str(bad.name))
def test_a_body_that_is_nothing_of_the_kind_is_refused(
    bad: BadBody, door: str, client: TestClient
) -> None:
    reply = client.post(door, content=bad.body, headers={"Content-Type": bad.kind})
    assert 400 <= reply.status_code < 500, reply.text[:500]
    assert len(said(reply).split()) >= 2
    assert len(reply.content) < 10_000


@pytest.mark.parametrize("value", [-1.0, 50_000.0, np.nan, np.inf, -np.inf, 1e300])
def test_a_bad_number_is_refused_as_bytes_too(value: float, client: TestClient) -> None:
    names = [*ROW, "body_mass_g"]
    head = _record(
        {
            "inputs": "["
            + ", ".join(
                f'{{"name": "{name}", "datatype": "FP64", "shape": [1],'
                ' "parameters": {"binary_data_size": 8}}'
                for name in names
            )
            + "]"
        }
    ).encode()
    reply = client.post(
        "/v2/models/penguins/infer",
        content=head + np.array([20, 40, 200, value], "<f8").tobytes(),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert reply.status_code == 422
    assert said(reply).startswith("row 0, body_mass_g: Input should be")


@pytest.mark.parametrize("value", [-1.0, 256.0, np.nan, np.inf, -np.inf])
def test_a_bad_pixel_is_refused_as_bytes_too(value: float, client: TestClient) -> None:
    pixels = np.full((3, 784), 7, "<f4")
    pixels[2, 100] = value
    head = (
        b'{"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [3, 784],'
        b' "parameters": {"binary_data_size": 9408}}]}'
    )
    reply = client.post(
        "/v2/models/digits/infer",
        content=head + pixels.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert reply.status_code == 422
    assert said(reply).startswith("row 2, pixels: Expected numbers in 0.0..255.0, got ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2", 405),
        ("POST", "/v2/health/live", 405),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2//", 404),
        ("GET", "/v2/models/%ff%fe", 404),
        ("GET", "/v2/models/%ED%A0%80/ready", 404),
        ("GET", "/v2/models/%00", 404),
        ("GET", "/v2/models/" + "m" * 10_000, 404),
        ("GET", "/v2/models/digits/versions/%00", 404),
        ("GET", "/v2/models/digits/versions/" + "9" * 5_000, 404),
        ("GET", "/penguins/invocations", 405),
        ("POST", "/cats/invocations", 404),
        ("POST", "/invocations", 404),
        ("POST", "/endpoints/cats/invocations", 404),
        ("POST", "/ping", 405),
    ],
)
def test_a_request_for_what_there_is_not_is_refused_in_the_protocols_form(
    method: str, path: str, status: int, client: TestClient
) -> None:
    reply = client.request(method, path)
    assert reply.status_code == status
    body = reply.json()
    assert set(body) == ({"error"} if path.startswith("/v2") else {"error_code", "message"})
    assert len(said(reply).split()) > 3
    assert len(reply.content) < 12_000
