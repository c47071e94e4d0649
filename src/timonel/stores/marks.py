"""What MLflow says serves: read every second, so without MLflow, which takes seconds to import.

A version is marked by the alias `champion`, the alias `production` or the stage Production: three
habits of the same wish.
"""

import contextlib
import json
import os
import sqlite3
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from timonel.errors import StoreError

__all__ = ["ALIASES", "STAGE", "Marks", "watch"]

ALIASES = ("champion", "production")
STAGE = "Production"

_LONGEST_ANSWER = 10_000_000  # bytes


class Marks(NamedTuple):
    """The number of the version that carries each mark; None where none does.

    Of several in the stage Production, the one that was changed last.
    """

    champion: int | None = None
    production: int | None = None
    stage: int | None = None


def watch(url: str, names: Sequence[str], *, timeout: float = 2.0) -> dict[str, Marks]:
    """The marks of registered models, by name; those without any have empty ones.

    `url` is MLflow's: `sqlite:///PATH`, read only and without waiting for writers, or a server's.
    `timeout` is in seconds, for each question.

    Raises:
        StoreError: it cannot be asked.
    """
    if not names:
        return {}
    if url.startswith("sqlite:///"):
        return _in_file(Path(url.removeprefix("sqlite:///").partition("?")[0]), names, timeout)
    if urlsplit(url).scheme in ("http", "https"):
        return {name: _at_server(url, name, timeout) for name in names}
    raise StoreError(
        "Expected an MLflow address: sqlite:///PATH or http://HOST:PORT, got another kind.",
        remedy="Set TIMONEL_REGISTRY.",
    )


def _in_file(path: Path, names: Sequence[str], timeout: float) -> dict[str, Marks]:
    holes = ", ".join("?" * len(names))
    try:
        address = f"file:{quote(str(path.absolute()))}?mode=ro"
        connection = sqlite3.connect(address, uri=True, timeout=timeout)
        with contextlib.closing(connection), connection:
            connection.execute("BEGIN")  # both queries see one moment
            aliases = connection.execute(
                f"SELECT name, alias, version FROM registered_model_aliases WHERE name IN ({holes})"  # noqa: S608 (only question marks)
                " AND alias IN (?, ?)",
                (*names, *ALIASES),
            ).fetchall()
            staged = connection.execute(
                f"SELECT name, version FROM model_versions WHERE name IN ({holes})"  # noqa: S608
                " AND current_stage = ? ORDER BY last_updated_time, version",
                (*names, STAGE),
            ).fetchall()
    except sqlite3.Error as error:
        raise StoreError(
            f"MLflow's database at {path} could not be read: {error}.",
            remedy="See what holds or lacks it with: timonel doctor",
        ) from error
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for name, alias, version in aliases:
        found[name][alias] = int(version)
    for name, version in staged:
        found[name]["stage"] = int(version)
    return {name: Marks(**marks) for name, marks in found.items()}


def _at_server(url: str, name: str, timeout: float) -> Marks:
    model = _ask(url, "registered-models/get", {"name": name}, timeout)
    if model is None:
        return Marks()
    aliases = {
        item["alias"]: int(item["version"])
        for item in model.get("registered_model", {}).get("aliases", ())
        if item["alias"] in ALIASES
    }
    quoted = name.replace("'", "''")
    query = {
        "filter": f"name = '{quoted}'",
        "max_results": "200",
        "order_by": "last_updated_timestamp DESC",
    }
    page = _ask(url, "model-versions/search", query, timeout) or {}
    staged = [
        int(item["version"])
        for item in page.get("model_versions", ())
        if item.get("current_stage") == STAGE
    ]
    return Marks(**aliases, stage=staged[0] if staged else None)


def _ask(url: str, what: str, query: Mapping[str, str], timeout: float) -> dict[str, Any] | None:
    """A server's answer to a question; None when it knows nothing of that name."""
    parts = urlsplit(url)
    server = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    address = f"{server}/api/2.0/mlflow/{what}?{urlencode(query)}"
    with _told(url):
        request = urllib.request.Request(address, headers=_headers(url))  # noqa: S310 (http only)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:  # noqa: S310
                answer: dict[str, Any] = json.loads(reply.read(_LONGEST_ANSWER))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404 and b"RESOURCE_DOES_NOT_EXIST" in error.read(10_000):
                    return None
            raise
    return answer


def _headers(url: str) -> dict[str, str]:
    """What MLflow's own client would send to prove who asks."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or urlsplit(url).username
    if user:
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or urlsplit(url).password or ""
        return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}
    return {}


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "reason", None) or error
        host = urlsplit(url).hostname
        raise StoreError(
            f"MLflow at {host} did not answer: {reason}.",
            remedy="What serves goes on; changes made in MLflow are seen when it is back.",
        ) from error
