"""A home as one file, taken while a server runs.

The order makes it consistent: first the journal's files, then the databases, at last the objects.
What is exported meanwhile is in one of them at least, and exporting it twice is safe. Objects that
the database names are there already and never change; nothing deletes them meanwhile (`keeping`).
"""

import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from timonel.errors import BadRequest, StoreError
from timonel.settings import Settings
from timonel.stores.archive import (
    FIRST,
    FORMAT,
    LAST,
    Backup,
    Hashing,
    Report,
    packed,
    packing_of,
)
from timonel.stores.database import Clock
from timonel.stores.keeping import keeping
from timonel.stores.objects import ObjectStore

__all__ = ["back_up"]

_JOURNAL = (".open", ".closed", ".damaged")


def back_up(
    settings: Settings,
    out: Path,
    *,
    clock: Clock,
    report: Report = lambda done, total: None,
) -> Backup:
    """Write the home's state to `out`, which appears whole or not at all.

    Its name says how it is packed: .tar, .tar.gz, .tgz or .tar.zst.

    Raises:
        BadRequest: another name, or there is such a file already.
        StoreError: there is nothing to back up, or it cannot be read.
    """
    packing = packing_of(out)
    if out.exists():
        raise BadRequest(f"Expected a new file, got {out}, which exists.", remedy="Name another.")
    database = _sqlite(settings.database_url)
    if database is None or not database.is_file():
        raise StoreError(
            f"Expected a home to back up, got {settings.root}, which has no timonel.db.",
            remedy="Name the home with --home.",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with (
            keeping(settings.root),
            tempfile.TemporaryDirectory(prefix="timonel-backup-", dir=out.parent) as folder,
        ):
            writer, notes = _fill(part, packing, settings, database, Path(folder), clock(), report)
        _flush(part)
        part.rename(out)
    except OSError as error:
        raise StoreError(f"The backup to {out} failed: {error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return Backup(out, writer.created, len(writer.files), writer.done, tuple(notes))


@dataclass
class _Writer:
    """A tar that is written, and what was put into it."""

    tar: tarfile.TarFile
    created: float
    total: int
    report: Report
    done: int = 0
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def json(self, name: str, value: Any) -> None:
        data = json.dumps(value, indent=1).encode()
        self._add(name, io.BytesIO(data), len(data))

    def file(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            self.put(name, file, os.fstat(file.fileno()).st_size)

    def put(self, name: str, content: Any, size: int) -> None:
        read = Hashing(content, self._tell)
        self._add(name, read, size)
        self.files[name] = {"size": size, "sha256": read.digest.hexdigest()}

    def _add(self, name: str, content: Any, size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, int(self.created)
        self.tar.addfile(info, content)

    def _tell(self, count: int) -> None:
        self.done += count
        self.report(self.done, max(self.total, self.done))


def _fill(
    part: Path,
    packing: str,
    settings: Settings,
    database: Path,
    folder: Path,
    now: float,
    report: Report,
) -> tuple[_Writer, Sequence[str]]:
    """Write the archive; what was put into it, and what is not in it."""
    notes = []
    journal = _journal(settings.journal_folder, folder)
    databases = {"timonel.db": _snapshot(database, folder / "timonel.db")}
    registry = _sqlite(settings.registry_url)
    artifacts: list[tuple[str, Path]] = []
    if registry is None:
        notes.append("MLflow is a server of its own, and is not in the backup.")
    elif registry.is_file():
        databases["mlflow.db"] = _snapshot(registry, folder / "mlflow.db")
        artifacts = _below(registry.parent / "mlflow-artifacts", "mlflow-artifacts")
    objects = ObjectStore.open(settings.objects_url)
    keys = objects.list()
    paths = [*journal, *databases.items(), *artifacts]
    total = sum(path.stat().st_size for _, path in paths)
    total += sum(objects.size(key) or 0 for key in keys)
    place = registry.parent if registry else settings.root
    first = {"format": FORMAT, "created": now, "notes": notes}
    with (
        packed(part, packing, "w") as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        made = _Writer(tar, now, total, report)
        made.json(FIRST, first | {"artifacts": (place / "mlflow-artifacts").as_uri()})
        for name, path in paths:
            made.file(name, path)
        for key in keys:
            with objects.reading(key) as (content, size):
                made.put(f"objects/{key}", content, size)
        made.json(LAST, made.files)
    return made, notes


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _journal(folder: Path, into: Path) -> list[tuple[str, Path]]:
    """Copies of the journal's files; one that is exported meanwhile is in the database by now."""
    found = []
    stems = {path.stem: path for path in folder.glob("*") if path.suffix in _JOURNAL}
    for stem, path in sorted(stems.items()):
        for candidate in (path, path.with_suffix(".closed"), path.with_suffix(".damaged")):
            copy = into / "journal" / candidate.name
            copy.parent.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(candidate, copy)
                found.append((f"journal/{stem}{candidate.suffix}", copy))
                break
    return found


def _snapshot(path: Path, copy: Path) -> Path:
    """A consistent copy of an SQLite file that others may be writing to."""
    try:
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            [found] = target.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"Expected an SQLite file at {path}, got: {error}.") from error
    if found != "ok":
        raise StoreError(
            f"Expected a whole database at {path}, got a damaged one: {found}.",
            remedy="Restore the last backup that was made of it.",
        )
    return copy


def _below(folder: Path, name: str) -> list[tuple[str, Path]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [(f"{name}/{path.relative_to(folder).as_posix()}", path) for path in files]


def _sqlite(url: str) -> Path | None:
    """The file of an SQLite database; None of a server's."""
    if "://" not in url:
        return None
    parsed = make_url(url) if url.startswith("sqlite") else None
    return Path(parsed.database).expanduser().absolute() if parsed and parsed.database else None
