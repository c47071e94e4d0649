"""The file between supervisor and workers."""

import os
from pathlib import Path

from timonel.serving.state import Champion, Key, Progress, State, read_state, write_state

STATE = State(
    champions=(Champion("digits", "cnn", 3, "ab" * 32),),
    runs=(Progress("penguins", "r1", "running", "step train, 40%"),),
    degraded=("The journal waits.",),
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_state(tmp_path / "new" / "folder", STATE)
    assert read_state(tmp_path / "new" / "folder") == STATE
    write_state(tmp_path / "new" / "folder", State())
    assert read_state(tmp_path / "new" / "folder") == State()
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["state.json"]


def test_no_file_and_a_damaged_one_are_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    for content in (b"", b"{", b"\xff\xfe", b'{"champions": 3}'):
        (tmp_path / "state.json").write_bytes(content)
        assert read_state(tmp_path) is None


def test_a_state_of_a_later_release_is_read_for_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b'{"champions": [], "rollouts": [1]}')
    assert read_state(tmp_path) == State()


def test_a_champion_has_a_label() -> None:
    assert STATE.champions[0].label == "digits/cnn@3"


def test_keys_are_told_to_nobody_elses_eyes(tmp_path: Path) -> None:
    key = Key("abcdefgh", "shop", "0" * 64, ("predict",), projects=("digits",), rate=60)
    (tmp_path / f"state.{os.getpid()}.tmp").write_text("left by a start that was killed")
    write_state(tmp_path, State(keys=(key,)))
    told = read_state(tmp_path)
    assert told is not None
    assert told.keys == (key,)
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600
