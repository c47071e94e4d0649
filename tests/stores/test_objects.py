from pathlib import Path

import pytest

from tests.stores.contract_objects import ObjectStoreContract
from timonel.errors import StoreError
from timonel.stores.objects import ObjectStore


class TestFolder(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return ObjectStore.open((tmp_path / "objects").as_uri())


def test_a_path_and_its_url_are_the_same_store(tmp_path: Path) -> None:
    folder = tmp_path / "a folder, 100%"
    key = ObjectStore.open(str(folder)).put(b"rows")
    assert ObjectStore.open(folder).get(key) == b"rows"
    assert ObjectStore.open(folder.as_uri()).get(key) == b"rows"
    assert (folder / key).read_bytes() == b"rows"


@pytest.mark.parametrize("url", ["", "s3://key:secret@bucket", "https://host/a", "file://host/a"])
def test_a_url_that_is_no_folder_is_refused_without_telling_secrets(url: str) -> None:
    with pytest.raises(StoreError, match="Expected a folder or a file:// URL") as caught:
        ObjectStore.open(url)
    assert "secret" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="Expected a folder for objects"):
        ObjectStore.open(tmp_path / "file" / "objects")


def test_damaged_bytes_are_refused_and_not_fetched(tmp_path: Path) -> None:
    store = ObjectStore.open(tmp_path / "objects")
    key = store.put(b"rows")
    (tmp_path / "objects" / key).write_bytes(b"rowz")
    with pytest.raises(StoreError, match="Expected bytes with the hash"):
        store.get(key)
    with pytest.raises(StoreError, match="Expected bytes with the hash"):
        store.fetch(key, tmp_path / "to" / "file")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_put_mends_an_object_that_was_cut_short(tmp_path: Path) -> None:
    store = ObjectStore.open(tmp_path / "objects")
    key = store.put(b"rows")
    (tmp_path / "objects" / key).write_bytes(b"")
    assert store.get(store.put(b"rows")) == b"rows"


def test_a_folder_in_the_way_is_a_store_error(tmp_path: Path) -> None:
    store = ObjectStore.open(tmp_path / "objects")
    store.write("a/b", b"")
    for call in (
        lambda: store.get("a"),
        lambda: store.write("a", b""),
        lambda: store.write("a/b/c", b""),
        lambda: store.append("a", b"", 0),
        lambda: store.append("a/b/c", b"", 0),
        lambda: store.delete("a"),
    ):
        with pytest.raises(StoreError):
            call()


def test_a_store_that_was_removed_is_a_store_error_and_can_be_put_to_again(tmp_path: Path) -> None:
    store = ObjectStore.open(tmp_path / "objects")
    key = store.put(b"rows")
    (tmp_path / "objects").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="got none"):
        store.get(key)
    assert store.get(store.put(b"rows")) == b"rows"
