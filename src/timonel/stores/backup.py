"""A home as one file, taken while a server runs, and a home made from such a file.

The order makes it consistent: first the journal's files, then the databases, at last the objects.
What is exported meanwhile is in one of them at least, and exporting it twice is safe. Objects that
the database names are there already and never change; nothing deletes them meanwhile (`keeping`).

An archive is a tar: `backup.json`, the files, and `manifest.json` with their hashes, whose
absence at the end shows an archive that was cut.
"""

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy.engine import make_url

from timonel.errors import BadRequest, Busy, MissingExtra, StoreError
from timonel.settings import Settings
from timonel.stores.database import Clock, Database
from timonel.stores.events import record
from timonel.stores.objects import ObjectStore

__all__ = ["FORMAT", "Backup", "back_up", "keeping", "restore"]

FORMAT = 1
_FIRST, _LAST = "backup.json", "manifest.json"
_PIECE = 1024 * 1024
_NAME = re.compile(r"(timonel\.db|mlflow\.db|(journal|objects|mlflow-artifacts)(/[^/\0]+)+)")
_JOURNAL = (".open", ".closed", ".damaged")
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow keeps the folder of its artifacts, as an absolute address."""

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


@contextmanager
def keeping(home: Path, *, deleting: bool = False, wait: bool = True) -> Iterator[None]:
    """Let no object go meanwhile; with `deleting`, be the one that lets some go.

    Raises:
        Busy: without `wait`, others keep them, or let some go.
    """
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / "objects.lock", os.O_RDWR | os.O_CREAT, 0o644)
    kind = fcntl.LOCK_EX if deleting else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Busy(
            f"Expected a home of which no backup is being made, got {home}.",
            remedy="Wait for it to end.",
        ) from None
    finally:
        os.close(descriptor)


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
    packing = _packing(out)
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
    packing = _packing(file)
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
        read = _Hashing(content, self._tell)
        self._add(name, read, size)
        self.files[name] = {"size": size, "sha256": read.digest.hexdigest()}

    def _add(self, name: str, content: Any, size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, int(self.created)
        self.tar.addfile(info, content)

    def _tell(self, count: int) -> None:
        self.done += count
        self.report(self.done, max(self.total, self.done))


class _Hashing:
    """A file that is read, and hashed on the way."""

    def __init__(self, content: Any, tell: Callable[[int], None]) -> None:
        self._content = content
        self._tell = tell
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = bytes(self._content.read(size))
        self.digest.update(piece)
        self._tell(len(piece))
        return piece


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
        _stream(part, packing, "w") as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        made = _Writer(tar, now, total, report)
        made.json(_FIRST, first | {"artifacts": (place / "mlflow-artifacts").as_uri()})
        for name, path in paths:
            made.file(name, path)
        for key in keys:
            with objects.reading(key) as (content, size):
                made.put(f"objects/{key}", content, size)
        made.json(_LAST, made.files)
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


def _unpack(
    file: Path, packing: str, staging: Path, report: Report
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Write an archive's files out and check them; what its first and last say."""
    size, first, last = file.stat().st_size, None, None
    found: dict[str, dict[str, Any]] = {}
    try:
        with (
            file.open("rb") as raw,
            _stream(raw, packing, "r") as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            for member in tar:
                content = tar.extractfile(member)
                if content is None or not member.isfile():
                    raise _wrong(file, f"{member.name!r}, which is no file")
                if first is None:
                    first = _opening(file, member, content)
                elif member.name == _LAST:
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
    if member.name != _FIRST:
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
    read = _Hashing(content, lambda count: None)
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


def _packing(file: Path) -> str:
    for suffix, packing in ((".tar", ""), (".tar.gz", "gz"), (".tgz", "gz"), (".tar.zst", "zst")):
        if file.name.endswith(suffix):
            return packing
    raise BadRequest(
        f"Expected a file called .tar, .tar.gz, .tgz or .tar.zst, got {file.name}.",
        remedy="The name says how it is packed.",
    )


@contextmanager
def _stream(file: Path | IO[bytes], packing: str, mode: str) -> Iterator[Any]:
    """The unpacked bytes of a file that is read or written."""
    with open(file, "xb") if isinstance(file, Path) else _as_is(file) as raw:  # noqa: PTH123
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


@contextmanager
def _as_is(file: IO[bytes]) -> Iterator[IO[bytes]]:
    yield file


def _sqlite(url: str) -> Path | None:
    """The file of an SQLite database; None of a server's."""
    if "://" not in url:
        return None
    parsed = make_url(url) if url.startswith("sqlite") else None
    return Path(parsed.database).expanduser().absolute() if parsed and parsed.database else None


def _wrong(file: Path, what: str) -> BadRequest:
    return BadRequest(f"Expected only a home's files in {file}, got {what}.")
