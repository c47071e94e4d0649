"""A version's files and the one hash that names them all."""

import hashlib
from pathlib import Path

from timonel.errors import ArtifactError

__all__ = ["FILES", "digest_of", "seal", "verify"]

FILES = (
    "card.md",
    "metrics.json",
    "model.onnx",
    "reference.parquet",
    "signature.json",
    "sketch.bin",
)
"""What a version's folder holds, sorted."""

_REQUIRED = ("model.onnx", "signature.json")


def digest_of(hashes: dict[str, str]) -> str:
    """The digest of files whose names and SHA-256 are given: a hash over their sorted lines."""
    lines = "".join(f"{name} {hashes[name]}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def seal(folder: Path) -> tuple[str, dict[str, str]]:
    """The digest of a version's folder, and the SHA-256 of each of its files.

    Raises:
        ArtifactError: a file that every version must have is missing.
    """
    missing = [name for name in _REQUIRED if not (folder / name).is_file()]
    if missing:
        raise ArtifactError(f"{folder}: expected {', '.join(_REQUIRED)}, {missing[0]} is missing.")
    hashes = {name: _sha256(folder / name) for name in FILES if (folder / name).is_file()}
    return digest_of(hashes), hashes


def verify(folder: Path, digest: str) -> None:
    """Check a folder against the digest it must have, before anything in it is loaded.

    Raises:
        ArtifactError: a file is missing or was changed.
    """
    found, _ = seal(folder)
    if found != digest:
        raise ArtifactError(
            f"{folder}: expected the files of version {digest[:12]}…, got {found[:12]}….",
            remedy="Delete this folder; it is copied anew from the object store.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
