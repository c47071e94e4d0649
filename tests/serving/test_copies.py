"""Copies that nobody needs go; those that somebody may be reading stay."""

import os
from pathlib import Path

from timonel.serving.copies import fingerprint, prune

NEEDED, OLD, NEW = ("a" * 64, "b" * 64, "c" * 64)


def copy(folder: Path, name: str, at: float) -> Path:
    made = folder / name
    made.mkdir()
    (made / "model.onnx").write_bytes(b"graph")
    os.utime(made, (at, at))
    return made


def test_only_old_copies_that_nobody_needs_and_old_drafts_are_deleted(tmp_path: Path) -> None:
    for name in (NEEDED, OLD, "fetch-left", "metrics-1", "gone-left"):
        copy(tmp_path, name, 100.0)
    for name in (NEW, "fetch-going"):
        copy(tmp_path, name, 900.0)
    (tmp_path / "state.json").write_text("{}")
    assert prune(tmp_path, {NEEDED}, before=500.0) == [OLD]
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {NEEDED, NEW, "fetch-going", "metrics-1", "state.json"}
    assert prune(tmp_path, (), before=500.0) == []  # it was in use a moment ago
    assert prune(tmp_path / "nowhere", (), before=500.0) == []


def test_a_fingerprint_shows_that_a_file_was_changed_or_lost(tmp_path: Path) -> None:
    made = copy(tmp_path, NEEDED, 100.0)
    before = fingerprint(made)
    os.utime(made)
    assert fingerprint(made) == before
    (made / "model.onnx").write_bytes(b"other")
    assert fingerprint(made) != before
    assert fingerprint(tmp_path / "nowhere") == ()
