"""`timonel up` and `timonel serve`: what is refused before anything is served.

How they serve is tested in tests/serving/test_supervisor.py, with real processes.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from tests.cli.conftest import Timonel
from timonel.serving.state import Key, State, write_state


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


@pytest.mark.parametrize("command", ["up", "serve"])
@pytest.mark.parametrize("arguments", [["--host", "0.0.0.0"], ["--host", "::"], ["--keys"]])
def test_what_nobody_could_ask_is_not_served_and_the_way_out_is_said(
    timonel: Timonel, command: str, arguments: list[str]
) -> None:
    ended = timonel(command, "penguins", "--port", "0", *arguments)
    assert ended.code == 9
    assert "timonel keys create NAME" in ended.err
    assert "--open predict" in ended.err


def test_a_key_opens_a_public_address_until_it_is_revoked(timonel: Timonel, taken: int) -> None:
    timonel("keys", "create", "shop")
    locked = ["serve", "penguins", "--keys", "--port", taken]
    assert timonel(*locked).code == 8  # it went on to listen
    timonel("keys", "revoke", "shop")
    assert timonel(*locked).code == 9
    assert timonel(*locked, "--open", "predict").code == 8


def test_while_the_database_is_away_the_last_known_keys_count(
    timonel: Timonel, taken: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMONEL_DATABASE", "sqlite:////proc/none/timonel.db")
    locked = ["serve", "penguins", "--keys", "--port", taken]
    assert timonel(*locked).code == 9
    key = Key("abcdefgh", "shop", "0" * 64, ("predict",))
    write_state(home / "serving", State(keys=(key,)))
    assert timonel(*locked).code == 8
    ended = structs.replace(key, expires=1.0)
    write_state(home / "serving", State(keys=(ended,)))
    assert timonel(*locked).code == 9
