"""Feedback for a server elsewhere."""

import csv
import io
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from timonel.errors import BadRequest, StoreError, TimonelError

__all__ = ["send"]

_AT_ONCE = 10_000  # rows of a file in one request
_PATIENCE = 60.0  # seconds


def send(project: str, body: bytes, url: str, key: str | None, *, is_json: bool) -> dict[str, int]:
    """Tell the server at `url` a JSON or CSV body, a part of a long table at a time.

    Returns how many rows were `received` and how many labels `recorded`.

    Raises:
        BadRequest: the server refuses it, or the table cannot be read.
        StoreError: it does not answer, or cannot record.
    """
    total = {"received": 0, "recorded": 0}
    for part in [body] if is_json else _parts(body):
        reply = _asked(project, part, url, key, is_json=is_json)
        try:
            total = {name: count + int(reply[name]) for name, count in total.items()}
        except (KeyError, TypeError, ValueError):
            raise StoreError(f"{url}: expected a server of Timonel, got another's reply.") from None
    return total


def _asked(project: str, body: bytes, url: str, key: str | None, *, is_json: bool) -> Any:
    from urllib.error import HTTPError, URLError
    from urllib.parse import quote, urlsplit
    from urllib.request import Request, urlopen

    if urlsplit(url).scheme not in ("http", "https"):
        raise BadRequest(f"Expected --url to begin with http:// or https://, got {url}.")
    headers = {"Content-Type": "application/json" if is_json else "text/csv"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    address = f"{url.rstrip('/')}/{quote(project, safe='')}/feedback"
    request = Request(address, body, headers, method="POST")  # noqa: S310 (checked above)
    try:
        with urlopen(request, timeout=_PATIENCE) as reply:  # noqa: S310
            return json.loads(reply.read())
    except HTTPError as error:
        with error:
            said = error.read(100_000).decode(errors="replace")
        raise _refusal(address, error.code, said) from None
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise StoreError(
            f"{address}: expected a server to answer, got: {reason}.",
            remedy="What it has recorded counts once, however often it is sent: try again.",
        ) from None


def _refusal(address: str, status: int, said: str) -> TimonelError:
    """What a server's refusal is here."""
    try:
        detail = json.loads(said)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = said[:200]
    if isinstance(detail, list):
        detail = " ".join(_complaint(one) for one in detail)
    kind = StoreError if status >= 500 else BadRequest
    return kind(f"{address} answered {status}: {detail}")


def _complaint(one: Any) -> str:
    if not isinstance(one, dict):
        return str(one)
    place = ", ".join(map(str, one.get("loc", ())[1:]))
    return f"{place}: {one.get('msg')}" if place else str(one.get("msg"))


def _parts(body: bytes) -> Iterator[bytes]:
    """A CSV file in parts that a server takes, each with the heading."""
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""))
        heading = next(lines, [])
        while True:
            rows = list(islice(lines, _AT_ONCE))
            if rows or heading:
                text = io.StringIO()
                csv.writer(text).writerows([heading, *rows])
                yield text.getvalue().encode()
            if len(rows) < _AT_ONCE:
                return
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"Expected feedback as CSV in UTF-8, got: {error}.") from None
