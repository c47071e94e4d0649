"""What every kind of object store must do; a kind is finished when this class passes over it."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from timonel.errors import BadRequest, StoreError
from timonel.stores.objects import ObjectStore

_WRONG_KEYS = [
    "",
    ".",
    "..",
    "../a",
    "/a",
    "/etc/passwd",
    "a/",
    "a//b",
    "a/../b",
    "a/./b",
    "a\\b",
    "a\n",
    "a\0",
    ".hidden",
    "a b",
    "é",
    "sha256/ab/cd",
    "sha256/ab/" + "c" * 64,
]


class ObjectStoreContract:
    """Give `store` (empty) as a fixture."""

    def test_bytes_come_back_under_the_key_of_their_hash(self, store: ObjectStore) -> None:
        digest = hashlib.sha256(b"rows").hexdigest()
        key = store.put(b"rows")
        assert key == f"sha256/{digest[:2]}/{digest}"
        assert store.get(key) == b"rows"
        assert store.exists(key)

    def test_putting_twice_changes_nothing(self, store: ObjectStore) -> None:
        assert store.put(b"rows") == store.put(b"rows")
        assert len(store.list()) == 1

    def test_no_bytes_are_bytes_too(self, store: ObjectStore) -> None:
        assert store.get(store.put(b"")) == b""

    def test_a_large_file_is_put_and_fetched_whole(
        self, store: ObjectStore, tmp_path: Path
    ) -> None:
        source = tmp_path / "large"
        source.write_bytes(bytes(range(256)) * 50_000)
        key = store.put(source)
        store.fetch(key, tmp_path / "new" / "copy")
        assert (tmp_path / "new" / "copy").read_bytes() == source.read_bytes()
        assert key == store.put(source.read_bytes())

    def test_fetch_replaces_the_file_and_leaves_no_other(
        self, store: ObjectStore, tmp_path: Path
    ) -> None:
        target = tmp_path / "to" / "file"
        target.parent.mkdir()
        target.write_bytes(b"old")
        store.fetch(store.put(b"new"), target)
        assert target.read_bytes() == b"new"
        assert list(target.parent.iterdir()) == [target]

    def test_a_failed_fetch_leaves_the_file_as_it_was(
        self, store: ObjectStore, tmp_path: Path
    ) -> None:
        target = tmp_path / "to" / "file"
        target.parent.mkdir()
        target.write_bytes(b"old")
        with pytest.raises(StoreError):
            store.fetch("nothing/there", target)
        assert target.read_bytes() == b"old"
        assert list(target.parent.iterdir()) == [target]

    def test_a_missing_file_cannot_be_put(self, store: ObjectStore, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="Expected a file to store"):
            store.put(tmp_path / "none")

    def test_a_missing_object_is_a_store_error_that_names_it(self, store: ObjectStore) -> None:
        assert not store.exists("nothing/there")
        assert store.size("nothing/there") is None
        with pytest.raises(StoreError, match="nothing/there"):
            store.get("nothing/there")

    def test_a_named_object_is_replaced(self, store: ObjectStore) -> None:
        store.write("logs/a.txt", b"one")
        assert store.size("logs/a.txt") == 3
        store.write("logs/a.txt", b"2")
        assert store.size("logs/a.txt") == 1
        assert store.get("logs/a.txt") == b"2"

    def test_list_gives_the_keys_under_a_folder_sorted(self, store: ObjectStore) -> None:
        for key in ("b/2", "a/1", "b/c/3", "bc/4"):
            store.write(key, b"")
        assert store.list("b") == ["b/2", "b/c/3"]
        assert store.list("b/") == ["b/2", "b/c/3"]
        assert store.list() == ["a/1", "b/2", "b/c/3", "bc/4"]
        assert store.list("none") == []

    def test_delete_removes_and_may_be_repeated(self, store: ObjectStore) -> None:
        key = store.put(b"rows")
        store.delete(key)
        store.delete(key)
        assert not store.exists(key)

    @pytest.mark.parametrize("key", _WRONG_KEYS)
    def test_a_wrong_key_is_refused_everywhere(
        self, store: ObjectStore, key: str, tmp_path: Path
    ) -> None:
        for call in (
            lambda: store.get(key),
            lambda: store.fetch(key, tmp_path / "f"),
            lambda: store.exists(key),
            lambda: store.size(key),
            lambda: store.write(key, b""),
            lambda: store.append(key, b"", 0),
            lambda: store.delete(key),
        ):
            with pytest.raises(BadRequest, match="Expected a key"):
                call()
        assert store.list() == []

    def test_what_is_kept_by_hash_cannot_be_written_or_appended_to(
        self, store: ObjectStore
    ) -> None:
        key = store.put(b"rows")
        with pytest.raises(BadRequest, match="named key"):
            store.write(key, b"others")
        with pytest.raises(BadRequest, match="named key"):
            store.append(key, b"more", 4)
        assert store.get(key) == b"rows"

    @pytest.mark.parametrize("at", [-1, 4])
    def test_an_append_outside_of_what_is_there_is_refused(
        self, store: ObjectStore, at: int
    ) -> None:
        store.write("log", b"abc")
        with pytest.raises(StoreError, match="within the 3 bytes"):
            store.append("log", b"x", at)
        assert store.get("log") == b"abc"

    def test_a_refused_append_makes_nothing(self, store: ObjectStore) -> None:
        with pytest.raises(StoreError):
            store.append("logs/new", b"x", 1)
        assert store.list() == []

    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(
        pieces=st.lists(st.tuples(st.binary(max_size=9), st.integers(1, 3)), max_size=8),
        torn=st.binary(max_size=5),
    )
    def test_appends_may_be_repeated_and_torn(
        self, store: ObjectStore, pieces: list[tuple[bytes, int]], torn: bytes
    ) -> None:
        store.write("log", b"")
        whole = b""
        for data, times in pieces:
            store.append("log", torn, len(whole))
            for _ in range(times):
                store.append("log", data, len(whole))
            whole += data
            assert store.get("log") == whole
