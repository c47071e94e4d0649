"""Files: where one is looked for, and how one is downloaded."""

import gzip
import hashlib
import os
import shutil
import socket
import tempfile
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from timonel.errors import MissingExtra, SourceError, SourceMissing
from timonel.project import File, Read

if TYPE_CHECKING:
    import requests
    from tenacity import Retrying

__all__ = ["Unfit", "download", "locate"]

_CONNECT_SECONDS = 3.0  # a machine without a network must know within a few seconds
_READ_SECONDS = 30.0
_ATTEMPTS = 3
_PAUSE = 0.5  # seconds after the first attempt, doubled each time
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK = 1 << 18


class Unfit(Exception):
    """One place does not have the file; the message says why."""


class _Transient(Unfit):
    """The same place may have it a moment later."""


def locate(file: File, read: Read) -> Path:
    """The path of a file, downloaded if need be.

    Looked for in this order: the data folder, the path itself, the cache, each address. The
    `sha256` is checked wherever it was found; a cached copy that fails it is fetched again.

    Raises:
        SourceError: it is nowhere, naming every place that was tried, or its content is not the
            expected one.
    """
    tried: list[str] = []
    places = [Path(file.name).expanduser()]
    if read.folder is not None:
        places.insert(0, read.folder / file.name)
    for place in places:
        if place.is_file():
            if wrong := _mismatch(file, place):
                raise SourceError(
                    f"{place}: {wrong}.",
                    remedy="Replace the file, or correct the sha256 in the project's definition.",
                )
            return place
        tried.append(f"{place.absolute()} (no such file)")
    cached = _cached(file, read)
    if cached.is_file():
        if not (wrong := _mismatch(file, cached)):
            return cached
        tried.append(f"{cached} ({wrong})")
    unreachable: set[str] = set()
    for url in file.urls:
        try:
            return _fetch(file, url, cached, read, unreachable)
        except Unfit as error:
            tried.append(f"{url} ({error})")
    raise SourceMissing(
        f"Expected the file {file.name}, found it nowhere. Tried: {'; '.join(tried)}.",
        remedy=f"Put {file.name} into a folder and name that folder in TIMONEL_DATA"
        + (f" (now {read.folder})." if read.folder else "."),
    )


def _mismatch(file: File, path: Path) -> str | None:
    if file.sha256 is None:
        return None
    try:
        packed = file.name.endswith(".gz")
        with gzip.open(path) if packed else path.open("rb") as stream:
            got = hashlib.file_digest(stream, "sha256").hexdigest()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        return f"expected a gzip file, got: {error}"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if got == file.sha256.lower() else f"expected sha256 {file.sha256}, got {got}"


def _cached(file: File, read: Read) -> Path:
    # Two projects may both call a file train.csv: without a checksum the addresses tell them apart.
    key = file.sha256 or hashlib.sha256("\n".join((file.name, *file.urls)).encode()).hexdigest()
    return read.cache / key.lower() / Path(file.name).name


def _fetch(file: File, url: str, target: Path, read: Read, unreachable: set[str]) -> Path:
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if not path.is_file():
            raise Unfit("no such file")
        if wrong := _mismatch(file, path):
            raise Unfit(wrong)
        return path
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unfit("expected an address that starts with https://, http:// or file://")
    if parts.netloc in unreachable:
        raise Unfit("the host could not be reached")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
        os.close(handle)
        part = Path(name)
        try:
            download(url, part, read, name=target.name, unreachable=unreachable)
            if wrong := _mismatch(file, part):
                raise Unfit(wrong)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise SourceError(
            f"Expected to write to the cache {read.cache}, got: {error}.",
            remedy="Make it writable or set TIMONEL_HOME to another folder.",
        ) from None
    return target


def download(
    url: str,
    part: Path,
    read: Read,
    *,
    name: str,
    headers: Mapping[str, str] | None = None,
    unreachable: set[str] | None = None,
) -> None:
    """Write what an address answers to `part`, trying again when that may help.

    `name` is what progress calls it. `headers` are sent to this address only: it may then not
    lead elsewhere. A host that cannot be reached is added to `unreachable`.

    Raises:
        Unfit: it cannot be had; the message says why, and no header.
    """
    for attempt in _attempts():
        with attempt:
            _download(
                url, part, name, read, headers or {}, set() if unreachable is None else unreachable
            )


def _attempts() -> "Retrying":
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    return Retrying(
        retry=retry_if_exception_type(_Transient),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(_PAUSE),
        reraise=True,
    )


def _download(
    url: str,
    part: Path,
    name: str,
    read: Read,
    headers: Mapping[str, str],
    unreachable: set[str],
) -> None:
    try:
        import requests
        import urllib3
    except ImportError:
        raise MissingExtra("Downloading", "train") from None

    phrase = f"downloading {name}"
    read.report(phrase, None)
    answered = False
    try:
        if not requests.utils.get_environ_proxies(url) and not _resolves(url):
            raise requests.ConnectTimeout(url)
        with requests.get(
            url,
            stream=True,
            timeout=(_CONNECT_SECONDS, _READ_SECONDS),
            headers={"Accept-Encoding": "identity", "User-Agent": "timonel", **headers},
            allow_redirects=not headers,
        ) as response:
            answered = True
            _refuse(response)
            total = int(response.headers.get("Content-Length") or 0)
            _room(part, total)
            done = 0
            with part.open("wb") as stream:
                for chunk in response.iter_content(_CHUNK):
                    done += stream.write(chunk)
                    read.report(phrase, min(done / total, 1.0) if total else None)
    except requests.exceptions.ChunkedEncodingError:
        raise _Transient("the connection broke off") from None
    except requests.ReadTimeout:
        raise _Transient(f"no answer for {_READ_SECONDS:g} s") from None
    except requests.ConnectionError as error:
        if answered or isinstance(error.args[0], urllib3.exceptions.ProtocolError):
            raise _Transient("the connection broke off or stood still") from None
        unreachable.add(urlsplit(url).netloc)
        refused = isinstance(error, requests.exceptions.SSLError)
        what = "certificate or encryption refused" if refused else "the host could not be reached"
        raise Unfit(what) from None
    except requests.RequestException as error:
        raise Unfit(f"{type(error).__name__}: {error}") from None


def _refuse(response: "requests.Response") -> None:
    if response.status_code in _TRANSIENT:
        raise _Transient(f"HTTP status {response.status_code}")
    if response.status_code != 200:
        raise Unfit(f"HTTP status {response.status_code}")


def _room(part: Path, size: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if size > free:
        raise Unfit(f"{size:,} bytes, and only {free:,} are free in {part.parent}")


def _resolves(url: str) -> bool:
    """Whether the host's name is known in time: the system's own look-up takes no time-out."""
    parts = urlsplit(url)
    known = threading.Event()

    def look_up() -> None:
        try:
            socket.getaddrinfo(parts.hostname, parts.port or 443)
        except OSError:
            return
        known.set()

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    return known.is_set()
