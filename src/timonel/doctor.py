"""What `timonel doctor` looks at: each check says what it found, and what to do where it is wrong.

Looking changes nothing: what is not there yet is not made.
"""

import importlib.util
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from timonel.errors import TimonelError
from timonel.settings import Settings

__all__ = ["Finding", "examine"]

_SPACE_WARNING = 2_000_000_000  # bytes
_SPACE_PROBLEM = 200_000_000
_PATIENCE = 2.0  # seconds that another process or host may take to answer
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: a sentence, and what to do about it where it is not ok."""

    name: str
    status: Literal["ok", "warning", "problem"]
    sentence: str
    remedy: str | None = None


def examine(settings: Settings, *, clock: Callable[[], float] = time.time) -> list[Finding]:
    """Look at everything that Timonel stands on; takes a few seconds at most.

    `clock` gives seconds since 1970.
    """
    checks: list[Callable[[], Finding]] = [
        lambda: _python(sys.version_info[:3]),
        _packages,
        lambda: _clock(clock()),
        lambda: _home(settings.root),
        lambda: _database(settings.database_url),
        lambda: _objects(settings),
        lambda: _registry(settings.registry_url),
        lambda: _data(settings.data),
        lambda: _port(settings.host, settings.port),
    ]
    return [check() for check in checks]


def _python(version: tuple[int, ...]) -> Finding:
    shown = ".".join(map(str, version))
    if version >= (3, 11):
        return Finding("python", "ok", f"Python {shown}.")
    return Finding(
        "python",
        "problem",
        f"Expected Python 3.11 or newer, got {shown}.",
        "Install a newer one, and make the environment anew with it.",
    )


def _packages(distribution: str = "timonel", extra: str = "train") -> Finding:
    """The distributions of an extra, with their versions."""
    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return Finding(
            "packages",
            "warning",
            f"{distribution} is not installed, so what it needs is not known.",
            "Install it with: pip install .",
        )
    mark = re.compile(rf"""extra\s*==\s*['"]{extra}['"]""")
    names = [re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in required if mark.search(one)]
    versions, missing = [], []
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "packages",
            "warning",
            f"Training needs packages that are not installed: {', '.join(missing)}. What was "
            "trained elsewhere can be served.",
            f"Install them with: pip install '{distribution}[{extra}]'",
        )
    return Finding("packages", "ok", f"Training has {', '.join(versions)}.")


def _clock(now: float) -> Finding:
    # This very file cannot have been written in the future.
    known = Path(__file__).stat().st_mtime
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < known - 86_400:
        return Finding(
            "clock",
            "problem",
            f"Expected a time after this release was installed, got {shown}.",
            "Set the clock: prediction ids and the journal sort by it.",
        )
    return Finding("clock", "ok", f"It is {shown}.")


def _home(root: Path) -> Finding:
    remedy = "Set TIMONEL_HOME to a folder that can be written."
    place = root
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        sentence = f"Expected a folder for the home at {root}, got the file {place}."
        return Finding("home", "problem", sentence, remedy)
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("home", "problem", f"{place} cannot be written by this user.", remedy)
    free = shutil.disk_usage(place).free
    if free < _SPACE_WARNING:
        return Finding(
            "home",
            "problem" if free < _SPACE_PROBLEM else "warning",
            f"{place} has {free / 1e6:,.0f} MB free; expected {_SPACE_WARNING / 1e6:,.0f} MB.",
            "Free some space. Deleting serving/, cache/ and logs/ in the home loses nothing.",
        )
    there = f"{root} can be written" if place == root else f"{root} will be made when it is needed"
    return Finding("home", "ok", f"{there}; {free / 1e9:,.1f} GB are free.")


def _database(url: str) -> Finding:
    from sqlalchemy import text

    from timonel.stores.database import Database

    path = _sqlite_file(url)
    if path is not None and not path.exists():
        return Finding("database", "ok", f"None yet; {path} is made when it is needed.")
    try:
        # For reading first: opening for writing would migrate it, and looking changes nothing.
        reader = Database.open(url, read_only=True, wait=_PATIENCE)
        with reader.read() as connection:
            query = text("SELECT version_num FROM alembic_version")
            revision = connection.execute(query).scalar_one()
        reader.close()
        writer = Database.open(url, wait=_PATIENCE)
        with writer.begin():
            pass
        writer.close()
    except TimonelError as error:
        remedy = error.remedy
        if path is not None and "locked" in error.message:
            remedy = f"A process holds its write lock. Find it with: fuser -v {path}"
        elif path is not None and not os.access(path, os.W_OK):
            remedy = f"Let this user write to {path} and its folder."
        elif remedy is None or "doctor" in remedy:
            remedy = "Move the file away (what serves and what ran is in it) or restore a copy."
        return Finding("database", "problem", error.message, remedy)
    where = path if path is not None else urlsplit(url).hostname
    return Finding("database", "ok", f"{where} answers; its tables are of revision {revision}.")


def _objects(settings: Settings) -> Finding:
    from timonel.stores.objects import ObjectStore

    url = settings.objects_url
    folder = settings.root / "objects"
    if settings.objects is None and not folder.exists():
        return Finding("objects", "ok", f"None yet; {folder} is made when it is needed.")
    key, probe = f"doctor-{os.getpid()}", os.urandom(16)
    try:
        store = ObjectStore.open(url)
        store.write(key, probe)
        try:
            same = store.get(key) == probe
        finally:
            store.delete(key)
    except TimonelError as error:
        remedy = error.remedy or "Let this user write there, or set TIMONEL_OBJECTS elsewhere."
        return Finding("objects", "problem", error.message, remedy)
    if not same:
        return Finding(
            "objects",
            "problem",
            f"{url} gave back other bytes than were written.",
            "Check the disk, or set TIMONEL_OBJECTS elsewhere.",
        )
    return Finding("objects", "ok", f"{url} was written, read and cleaned.")


def _registry(url: str) -> Finding:
    if importlib.util.find_spec("mlflow") is None:
        return Finding(
            "registry",
            "warning",
            "MLflow is not installed: models can be served, not trained or registered.",
            "Install it with: pip install 'timonel[train]'",
        )
    release = f"MLflow {metadata.version('mlflow')}"
    path = _sqlite_file(url)
    if path is not None:
        return _registry_file(path, release)
    scheme = urlsplit(url).scheme
    if scheme not in ("http", "https"):
        return Finding("registry", "ok", f"{release}, at a {scheme or 'folder'} address.")
    status = _status(f"{url.rstrip('/')}/health")
    where = urlsplit(url).hostname
    if status == 200:
        return Finding("registry", "ok", f"{release}; the server at {where} answers.")
    got = f"status {status}" if status else f"no answer within {_PATIENCE:g} s"
    return Finding(
        "registry",
        "problem",
        f"Expected an MLflow server at {where}, got {got}.",
        "Start it, or correct TIMONEL_REGISTRY (or MLFLOW_TRACKING_URI). What serves goes on "
        "from local copies; training cannot register.",
    )


def _registry_file(path: Path, release: str) -> Finding:
    """SQLite is looked at without MLflow, whose import alone takes seconds."""
    import sqlite3
    from urllib.parse import quote

    if not path.exists():
        return Finding("registry", "ok", f"{release}; {path} is made when it is needed.")
    try:
        address = f"file:{quote(str(path))}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.Error as error:
        return Finding(
            "registry",
            "problem",
            f"Expected MLflow's database at {path}, got: {error}.",
            f"Find what holds it with: fuser -v {path}"
            if "locked" in str(error)
            else "Let this user write to it, or restore a copy.",
        )
    return Finding("registry", "ok", f"{release}; {path} answers.")


def _data(folder: Path | None) -> Finding:
    if folder is None:
        return Finding("data", "ok", "TIMONEL_DATA is not set: sources use their addresses.")
    if folder.expanduser().is_dir():
        return Finding("data", "ok", f"{folder} is searched before any address.")
    return Finding(
        "data",
        "problem",
        f"Expected TIMONEL_DATA to be a folder, got {folder}, which there is not.",
        "Correct it, or unset it.",
    )


def _port(host: str, port: int) -> Finding:
    try:
        places: Sequence[tuple[int, int, int, str, tuple[object, ...]]] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
        family, kind, _, _, address = places[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        if _is_timonel(host, port):
            return Finding("port", "ok", f"A server of Timonel answers at {host}:{port}.")
        return Finding(
            "port",
            "problem",
            f"Expected to listen on {host}:{port}, got: {error.strerror or error}.",
            "Stop what listens there, or choose another with --port or TIMONEL_PORT.",
        )
    return Finding("port", "ok", f"{host}:{port} is free.")


def _is_timonel(host: str, port: int) -> bool:
    from http.client import HTTPConnection, HTTPException

    try:
        with closing(HTTPConnection(host, port, timeout=_PATIENCE)) as connection:
            connection.request("GET", "/live")
            found = json.loads(connection.getresponse().read(1_000))
    except (OSError, HTTPException, ValueError):
        return False
    return isinstance(found, dict) and found.get("status") == "ok"


def _status(url: str) -> int | None:
    """The HTTP status of an address, or None when nothing answers in time."""
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=_PATIENCE)
        with closing(connection):
            connection.request("GET", parts.path)
            return connection.getresponse().status
    except (OSError, HTTPException, ValueError):
        return None


def _sqlite_file(url: str) -> Path | None:
    """The file of a SQLite address, or None for any other."""
    return Path(url.removeprefix(_SQLITE)).expanduser() if url.startswith(_SQLITE) else None
