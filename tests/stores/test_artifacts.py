"""Versions' files: kept by their hashes, fetched whole and verified."""

from pathlib import Path

import pytest

from timonel import artifact
from timonel.errors import ArtifactError, StoreError
from timonel.stores.artifacts import fetch_version, save_version
from timonel.stores.objects import ObjectStore


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore.open((tmp_path / "objects").as_uri())


@pytest.fixture
def digest(tmp_path: Path, objects: ObjectStore) -> str:
    folder = tmp_path / "made"
    folder.mkdir()
    for name in artifact.FILES:
        (folder / name).write_text(f"content of {name}")
    return save_version(folder, objects)


def test_a_version_comes_back_as_it_was(tmp_path: Path, objects: ObjectStore, digest: str) -> None:
    folder = fetch_version(digest, objects, tmp_path / "serving")
    artifact.verify(folder, digest)
    assert {path.name for path in folder.iterdir()} == set(artifact.FILES)
    assert [path.name for path in (tmp_path / "serving").iterdir()] == [digest]


def test_saving_a_version_again_changes_nothing(
    tmp_path: Path, objects: ObjectStore, digest: str
) -> None:
    before = objects.list()
    assert save_version(tmp_path / "made", objects) == digest
    assert objects.list() == before


def test_a_changed_copy_is_fetched_anew(tmp_path: Path, objects: ObjectStore, digest: str) -> None:
    folder = fetch_version(digest, objects, tmp_path / "serving")
    (folder / "model.onnx").write_text("changed")
    artifact.verify(fetch_version(digest, objects, tmp_path / "serving"), digest)


def test_a_version_that_there_is_not_is_said(tmp_path: Path, objects: ObjectStore) -> None:
    with pytest.raises(StoreError):
        fetch_version("0" * 64, objects, tmp_path / "serving")
    assert not list((tmp_path / "serving").glob("*"))


def test_a_manifest_that_names_other_files_is_refused(
    tmp_path: Path, objects: ObjectStore, digest: str
) -> None:
    key = objects.put(b"import os")
    objects.write(f"versions/{digest}.json", f'{{"../setup.py": "{key}"}}'.encode())
    with pytest.raises(ArtifactError, match="expected no file called"):
        fetch_version(digest, objects, tmp_path / "serving")
    assert not (tmp_path / "setup.py").exists()
