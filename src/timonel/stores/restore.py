"""A home made of a backup: in a folder beside it, renamed when every file in it is right."""

import json
import re
import shutil
import sqlite3
import tarfile
import tempfile
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from timonel.errors import BadRequest, StoreError
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
from timonel.stores.database import Clock, Database
from timonel.stores.events import record

__all__ = ["restore"]

_PIECE = 1024 * 1024
_NAME = re.compile(r"(timonel\.db|mlflow\.db|(journal|objects|mlflow-artifacts)(/[^/\0]+)+)")
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow keeps the folder of its artifacts, as an absolute address."""


def restore(
    file: Path,
    home: Path,
    *,
    who: str,
    clock: Clock,
    replace: bool = False,
    report: Report = lambda done, total: None,
) -> Backup:
    """Make the home that an archive holds: in a folder beside it, renamed when all of it is right.

    A home that has files is refused, or with `replace` moved aside to `<home>.before-<time>`.

    Raises:
        BadRequest: the file is no backup, or the home has files.
        StoreError: the archive is cut or damaged, or cannot be written out.
    """
    packing = packing_of(file)
    if not file.is_file():
        raise BadRequest(f"Expected a backup, got {file}, which is no file.")
    if home.exists() and (not home.is_dir() or (any(home.iterdir()) and not replace)):
        raise BadRequest(
            f"Expected an empty home, got {home}, which has files.",
            remedy="Name another with --home, or add --replace to move this one aside.",
        )
    home.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{home.name}.restoring-", dir=home.parent))
    try:
        first, files = _unpack(file, packing, staging, report)
        _settle(staging, home, first, file, who, clock)
        notes = list(first["notes"])
        if home.exists() and any(home.iterdir()):
            stamp = datetime.fromtimestamp(clock(), UTC).strftime("%Y%m%dT%H%M%SZ")
            aside = home.with_name(f"{home.name}.before-{stamp}")
            home.rename(aside)
            notes.append(f"The home that was there is {aside}.")
        staging.rename(home)
    except OSError as error:
        raise StoreError(f"The restoring of {file} failed: {error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    size = sum(one["size"] for one in files.values())
    return Backup(file, first["created"], len(files), size, tuple(notes))


def _unpack(
    file: Path, packing: str, staging: Path, report: Report
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Write an archive's files out and check them; what its first and last say."""
    size, first, last = file.stat().st_size, None, None
    found: dict[str, dict[str, Any]] = {}
    try:
        with (
            file.open("rb") as raw,
            packed(raw, packing, "r") as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for member in tar:
                content = tar.extractfile(member)
                if content is None or not member.isfile():
                    raise _wrong(file, f"{member.name!r}, which is no file")
                if first is None:
                    first = _opening(file, member, content)
                elif member.name == LAST:
                    last = json.load(content)
                else:
                    found[member.name] = _write(file, member, content, staging)
                report(min(raw.tell(), size), size)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise StoreError(
            f"Expected a whole backup in {file}, got a damaged one: {error}.",
            remedy="Restore from another.",
        ) from error
    if first is None or last is None:
        raise StoreError(
            f"Expected a whole backup in {file}, got one that was cut.",
            remedy="Restore from another.",
        )
    if wrong := sorted(name for name in found.keys() | last if found.get(name) != last.get(name)):
        raise StoreError(
            f"Expected files with the hashes of the manifest in {file}, got others: "
            f"{', '.join(wrong[:3])} ({len(wrong)} in all).",
            remedy="Restore from another.",
        )
    return first, last


def _opening(file: Path, member: tarfile.TarInfo, content: IO[bytes]) -> dict[str, Any]:
    if member.name != FIRST:
        raise BadRequest(f"Expected a backup of a home, got {file}, which is another archive.")
    first: dict[str, Any] = json.load(content)
    if first["format"] > FORMAT:
        raise BadRequest(
            f"{file}: expected format {FORMAT} or older, got {first['format']}.",
            remedy="Upgrade timonel to read it.",
        )
    return first


def _write(
    file: Path, member: tarfile.TarInfo, content: IO[bytes], staging: Path
) -> dict[str, Any]:
    if not _NAME.fullmatch(member.name) or ".." in member.name.split("/"):
        raise _wrong(file, repr(member.name))
    path = staging / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    read = Hashing(content, lambda count: None)
    with path.open("xb") as target:
        while piece := read.read(_PIECE):
            target.write(piece)
        size = target.tell()
    return {"size": size, "sha256": read.digest.hexdigest()}


def _settle(
    staging: Path, home: Path, first: dict[str, Any], file: Path, who: str, clock: Clock
) -> None:
    """Make what was written out a home of its own place and time."""
    if (staging / "mlflow.db").is_file():
        new = (home / "mlflow-artifacts").as_uri()
        _move_artifacts(staging / "mlflow.db", first["artifacts"], new)
    url = f"sqlite:///{staging / 'timonel.db'}"
    with closing(Database.open(url, clock=clock)) as database, database.begin() as connection:
        record(
            connection,
            at=clock(),
            who=who,
            kind="home",
            subject="home",
            before=None,
            after="restored",
            evidence={
                "reason": f"restored from {file.name}",
                "taken": datetime.fromtimestamp(first["created"], UTC).isoformat(),
            },
        )


def _move_artifacts(database: Path, old: str, new: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in _PLACES:
            # An older or newer MLflow may not have one of them.
            with suppress(sqlite3.OperationalError):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )


def _wrong(file: Path, what: str) -> BadRequest:
    return BadRequest(f"Expected only a home's files in {file}, got {what}.")
