"""`timonel up` and `timonel serve`: what is refused before anything is served.

How they serve is tested in tests/serving/test_supervisor.py, with real processes.
"""

import socket
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Timonel


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize("command", ["up", "serve"])
def test_a_port_that_is_taken_is_said_with_what_to_do(
    timonel: Timonel, taken: int, command: str
) -> None:
    ended = timonel(command, "penguins", "--port", taken)
    assert ended.code == 8
    assert f"Expected to listen on 127.0.0.1:{taken}" in ended.err
    assert "--port" in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["serve", "unicorns"], 2, "There is no project 'unicorns'"),
        (["serve", "penguins", "penguins"], 2, "got penguins twice"),
        (["serve", "penguins", "--workers", "0"], 1, "TIMONEL_WORKERS"),
        (["serve", "penguins", "--port", "70000"], 1, "TIMONEL_PORT"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(
    timonel: Timonel, arguments: list[str], code: int, said: str
) -> None:
    ended = timonel(*arguments)
    assert ended.code == code
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_json_says_a_refusal_as_json(timonel: Timonel) -> None:
    found = timonel("serve", "unicorns", "--json").json()
    assert found["kind"] == "NotFound"
