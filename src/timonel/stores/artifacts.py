"""A version's files in the object store: each by its own hash, all under the version's digest."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec

from timonel import artifact
from timonel.errors import ArtifactError
from timonel.stores.objects import ObjectStore

__all__ = ["fetch_version", "save_version"]


def _manifest(digest: str) -> str:
    return f"versions/{digest}.json"


def save_version(folder: Path, objects: ObjectStore) -> str:
    """Put a version's folder into the store; returns its digest. Repeating it changes nothing."""
    digest, hashes = artifact.seal(folder)
    keys = {name: objects.put(folder / name) for name in hashes}
    objects.write(_manifest(digest), msgspec.json.encode(keys))
    return digest


def fetch_version(digest: str, objects: ObjectStore, serving_folder: Path) -> Path:
    """A verified copy of a version under `serving_folder`; fetched when missing or changed.

    Raises:
        ArtifactError: what the store holds is not what the digest names.
        StoreError: the store does not answer, or holds no such version.
    """
    folder = serving_folder / digest
    if folder.is_dir():
        try:
            artifact.verify(folder, digest)
        except ArtifactError:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with suppress(OSError):
                os.utime(folder)  # a copy that is in use is not tidied away
            return folder
    keys = msgspec.json.decode(objects.get(_manifest(digest)), type=dict[str, str])
    serving_folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="fetch-", dir=serving_folder))
    try:
        for name, key in keys.items():
            if name not in artifact.FILES:
                raise ArtifactError(f"Version {digest[:12]}…: expected no file called {name!r}.")
            objects.fetch(key, draft / name)
        artifact.verify(draft, digest)
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was quicker
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
