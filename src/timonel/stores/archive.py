"""A backup's file: a tar, packed as its name says.

In it are `backup.json`, a home's files, and at last `manifest.json` with their hashes: without it,
the archive was cut.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from timonel.errors import BadRequest, MissingExtra

__all__ = ["FIRST", "FORMAT", "LAST", "Backup", "Hashing", "Report", "packed", "packing_of"]

FORMAT = 1
FIRST, LAST = "backup.json", "manifest.json"

Report = Callable[[int, int], None]
"""Is told how many bytes are done, of how many (about)."""


@dataclass(frozen=True)
class Backup:
    """What an archive holds: files and bytes of each part, and what is not in it, in sentences."""

    file: Path
    created: float
    files: int
    bytes: int
    notes: tuple[str, ...] = ()


class Hashing:
    """A file that is read, and hashed on the way."""

    def __init__(self, content: Any, tell: Callable[[int], None]) -> None:
        self._content = content
        self._tell = tell
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`."""
        piece = bytes(self._content.read(size))
        self.digest.update(piece)
        self._tell(len(piece))
        return piece


def packing_of(file: Path) -> str:
    """How a file is packed by its name: "", "gz" or "zst". Raises BadRequest for another."""
    for suffix, packing in ((".tar", ""), (".tar.gz", "gz"), (".tgz", "gz"), (".tar.zst", "zst")):
        if file.name.endswith(suffix):
            return packing
    raise BadRequest(
        f"Expected a file called .tar, .tar.gz, .tgz or .tar.zst, got {file.name}.",
        remedy="The name says how it is packed.",
    )


@contextmanager
def packed(file: Path | IO[bytes], packing: str, mode: str) -> Iterator[Any]:
    """The unpacked bytes of a file that is read or written."""
    with open(file, "xb") if isinstance(file, Path) else nullcontext(file) as raw:  # noqa: PTH123
        if isinstance(file, Path):
            file.chmod(0o600)  # it holds what people asked
        if packing == "gz":
            import gzip

            with gzip.GzipFile(fileobj=raw, mode=f"{mode}b", compresslevel=6) as stream:
                yield stream
        elif packing == "zst":
            try:
                import pyarrow as pa
            except ImportError:
                raise MissingExtra("A backup packed with zstd", "train") from None
            made = pa.CompressedOutputStream if mode == "w" else pa.CompressedInputStream
            with made(raw, "zstd") as stream:
                yield stream
        else:
            yield raw
