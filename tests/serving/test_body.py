"""A body may be packed, and its limit holds for what is in it."""

import gzip
import json
import zlib

import pytest
from starlette.testclient import TestClient

ROW = {"bill_length_mm": 20, "bill_depth_mm": 40, "flipper_length_mm": 200, "body_mass_g": 4000}
CONTENT = json.dumps(ROW).encode()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(CONTENT)),
        ("GZIP", gzip.compress(CONTENT)),
        ("deflate", zlib.compress(CONTENT)),
        ("identity", CONTENT),
    ],
)
def test_a_packed_body_is_unpacked(encoding: str, body: bytes, mounted: TestClient) -> None:
    reply = mounted.post("/penguins/predict", content=body, headers={"Content-Encoding": encoding})
    assert reply.json() == {"prediction": [0]}


@pytest.mark.parametrize(
    ("encoding", "body", "status", "told"),
    [
        ("br", CONTENT, 415, "Expected a Content-Encoding of gzip or deflate or none, got 'br'."),
        ("gzip", CONTENT, 400, "Expected a body packed with gzip, got: "),
        ("gzip", b"", 400, "Expected a body packed with gzip, got one cut short."),
        ("deflate", zlib.compress(CONTENT)[:-6], 400, "got one cut short."),
        ("gzip", gzip.compress(bytes(200_000_000), 1), 413, "Expected a body of at most 8,000,000"),
    ],
    ids=["unknown", "not packed", "empty", "cut short", "a bomb"],
)
def test_what_cannot_be_unpacked_is_refused(
    encoding: str, body: bytes, status: int, told: str, mounted: TestClient
) -> None:
    reply = mounted.post("/penguins/predict", content=body, headers={"Content-Encoding": encoding})
    assert reply.status_code == status
    assert told in reply.json()["detail"]
