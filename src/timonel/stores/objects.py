"""The object store: bytes by content hash, and a few named files.

Keys are slash-separated names of letters, digits and `._=@+-`, the same in every kind of store.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from typing_extensions import Buffer

from timonel.errors import BadRequest, StoreError

if TYPE_CHECKING:
    from obstore.store import LocalStore

__all__ = ["ObjectStore", "Readable"]

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=@+-]*(/[A-Za-z0-9_][A-Za-z0-9._=@+-]*)*")
_HASHED = re.compile(r"sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_PIECE = 4 * 1024 * 1024  # bytes read at a time


class Readable(Protocol):
    """Something to read from."""

    def read(self, size: int, /) -> Buffer:
        """The next bytes, at most `size`; none at the end."""
        ...


class ObjectStore:
    """Bytes under keys.

    Every method raises StoreError when the store cannot answer, and BadRequest for a wrong key.
    """

    def __init__(self, store: "LocalStore", root: Path) -> None:
        self._store = store
        self._root = root

    @classmethod
    def open(cls, url: str | Path) -> "ObjectStore":
        """The store at `url`: a folder's path or file:// URL, made where it is missing."""
        from obstore.exceptions import BaseError
        from obstore.store import LocalStore

        root = _folder_of(str(url))
        try:
            return cls(LocalStore(root, mkdir=True), root)
        except (BaseError, OSError) as error:
            raise StoreError(
                f"Expected a folder for objects at {root}, got: {_first_line(error)}",
                remedy="Set TIMONEL_OBJECTS to a folder that can be written.",
            ) from error

    def put(self, data: bytes | Path) -> str:
        """Store the bytes, or the file's, under the key "sha256/ab/<hex>" that they give.

        Storing them again changes nothing. A file is streamed, never read whole.
        """
        import obstore

        size, digest = _measure(data)
        key = f"sha256/{digest[:2]}/{digest}"
        with self._errors(key):
            # By size as well: a lost host can leave a shorter file than was put there.
            if self._head(key) != size:
                obstore.put(self._store, key, data)
                self._flush(key)
        return key

    def get(self, key: str) -> bytes:
        """The bytes at `key`. Raises StoreError when there are none, or not those of its hash."""
        import obstore

        _check(key)
        with self._errors(key):
            data = obstore.get(self._store, key).bytes().to_bytes()
        _require_hash(key, hashlib.sha256(data).hexdigest())
        return data

    def fetch(self, key: str, path: Path) -> None:
        """Copy the bytes at `key` to the file `path`, which appears whole or not at all."""
        import obstore

        _check(key)
        digest = hashlib.sha256()
        with self._errors(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=path.parent, prefix=f".{path.name}.", delete=False
            ) as file:
                part = Path(file.name)
                try:
                    for piece in obstore.get(self._store, key).stream(min_chunk_size=_PIECE):
                        digest.update(piece)
                        file.write(piece)
                    _require_hash(key, digest.hexdigest())
                except BaseException:
                    part.unlink()
                    raise
            part.replace(path)

    @contextmanager
    def reading(self, key: str) -> Iterator[tuple["Readable", int]]:
        """What is at `key`, to be read piece by piece and unchecked, and how many bytes it has."""
        import obstore

        _check(key)
        with self._errors(key):
            size = obstore.head(self._store, key)["size"]
            yield obstore.open_reader(self._store, key, size=size), size

    def exists(self, key: str) -> bool:
        """Whether there is an object at `key`."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """How many bytes are at `key`; None when there is no object."""
        _check(key)
        with self._errors(key):
            return self._head(key)

    def write(self, key: str, data: bytes) -> None:
        """Set the bytes at a named key; readers see the old ones or the new ones."""
        import obstore

        _check_named(key)
        with self._errors(key):
            obstore.put(self._store, key, data)
            self._flush(key)

    def append(self, key: str, data: bytes, at: int) -> None:
        """Make `data` the end of a named key's bytes, from offset `at`, and flush it to the disk.

        What was there from `at` on is cut off first, so that repeating a call changes nothing.
        Raises StoreError when there are fewer than `at` bytes.
        """
        _check_named(key)
        path = self._root / key
        with self._errors(key):
            size = path.stat().st_size if path.exists() else 0
            if not 0 <= at <= size:
                raise StoreError(
                    f"Expected an offset within the {size} bytes to append to, got {at} at {path}.",
                    remedy="Was the file cut or removed by hand? Put it back.",
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.truncate(at)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    def list(self, prefix: str = "") -> Sequence[str]:
        """The keys under the folder `prefix` ("" for all), sorted."""
        import obstore

        if prefix:
            _check(prefix.removesuffix("/"))
        with self._errors(prefix):
            pages = obstore.list(self._store, prefix or None)
            return sorted(entry["path"] for page in pages for entry in page)

    def delete(self, key: str) -> None:
        """Remove what is at `key`; nothing there is no error."""
        import obstore

        _check(key)
        with self._errors(key):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return

    def _head(self, key: str) -> int | None:
        import obstore

        try:
            return obstore.head(self._store, key)["size"]
        except FileNotFoundError:
            return None

    def _flush(self, key: str) -> None:
        # The database, which is flushed, must not outlive what it names when the host goes down.
        for path in (self._root / key, (self._root / key).parent):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(f"Expected an object at {key} in {self._root}, got none.") from error
        except (BaseError, OSError) as error:
            raise StoreError(
                f"The object store at {self._root} failed at {key}: {_first_line(error)}"
            ) from error


def _folder_of(url: str) -> Path:
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return Path(unquote(parts.path))
    if "://" in url or not url:
        raise StoreError(
            f"Expected a folder or a file:// URL for objects, got {parts.scheme or 'nothing'}://…",
            remedy="Set TIMONEL_OBJECTS to one, or unset it for a folder in the home.",
        )
    return Path(url).expanduser().absolute()


def _measure(data: bytes | Path) -> tuple[int, str]:
    if not isinstance(data, Path):
        return len(data), hashlib.sha256(data).hexdigest()
    try:
        with data.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), digest
    except OSError as error:
        raise StoreError(f"Expected a file to store at {data}, got: {error.strerror}.") from error


def _check(key: str) -> None:
    hashed = key.startswith("sha256/") and key.count("/") == 2
    if not _KEY.fullmatch(key) or (hashed and not _HASHED.fullmatch(key)):
        raise BadRequest(
            f"Expected a key of names and slashes such as logs/a.txt or sha256/ab/…, got {key!r}."
        )


def _check_named(key: str) -> None:
    _check(key)
    if key.startswith("sha256/"):
        raise BadRequest(f"Expected a named key, got {key}, whose bytes never change.")


def _require_hash(key: str, digest: str) -> None:
    if (hashed := _HASHED.fullmatch(key)) and hashed[2] != digest:
        raise StoreError(
            f"Expected bytes with the hash of their key {key}, got those of {digest}.",
            remedy="They were damaged; delete the object and make it again.",
        )


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
