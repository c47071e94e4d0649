"""A version's files: one hash names them all, and any change shows."""

from pathlib import Path

import pytest

from timonel.artifact import FILES, seal, verify
from timonel.errors import ArtifactError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).write_text(f"content of {name}")
    return tmp_path


def test_the_same_files_have_the_same_digest(folder: Path) -> None:
    assert seal(folder)[0] == seal(folder)[0]
    verify(folder, seal(folder)[0])


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_found(folder: Path, name: str) -> None:
    digest, _ = seal(folder)
    (folder / name).write_text("changed")
    with pytest.raises(ArtifactError, match=f"expected the files of version {digest[:12]}"):
        verify(folder, digest)


def test_a_missing_file_is_found(folder: Path) -> None:
    digest, _ = seal(folder)
    (folder / "card.md").unlink()
    with pytest.raises(ArtifactError):
        verify(folder, digest)
    (folder / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx is missing"):
        seal(folder)


def test_files_that_are_not_a_versions_do_not_count(folder: Path) -> None:
    digest, _ = seal(folder)
    (folder / "notes.txt").write_text("mine")
    verify(folder, digest)
