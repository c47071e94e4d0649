"""The verified copies of versions in the home's `serving/`: is one changed, and which may go."""

import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

__all__ = ["Fingerprint", "fingerprint", "prune"]

Fingerprint = tuple[tuple[str, int, int, int], ...]

_COPY = re.compile(r"[0-9a-f]{64}")
_DRAFTS = ("fetch-", "gone-")


def fingerprint(folder: Path) -> Fingerprint:
    """What shows, without reading them, that a folder's files were changed; empty without any."""
    try:
        found = [(entry.name, entry.stat()) for entry in os.scandir(folder)]
    except OSError:
        return ()
    return tuple(sorted((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found))


def prune(serving_folder: Path, keep: Collection[str], before: float) -> list[str]:
    """Delete the copies that nobody used since `before` (seconds since 1970); returns their names.

    Those whose digest is in `keep` stay, and count as used now. So do newer ones: a command may be
    reading one that it has just fetched. Drafts that killed processes left go as well.
    """
    gone = []
    for folder in _folders(serving_folder):
        if folder.name in keep:
            with suppress(OSError):
                os.utime(folder)
            continue
        is_draft = folder.name.startswith(_DRAFTS)
        if not is_draft and not _COPY.fullmatch(folder.name):
            continue
        with suppress(OSError):  # another may be deleting it as well
            if folder.stat().st_mtime >= before:
                continue
            # Under another name first, so that nobody takes half a copy for one that is damaged.
            away = folder if is_draft else folder.rename(folder.with_name(f"gone-{folder.name}"))
            shutil.rmtree(away, ignore_errors=True)
            if not is_draft:
                gone.append(folder.name)
    return gone


def _folders(serving_folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(serving_folder) if entry.is_dir()]
    except OSError:
        return []
