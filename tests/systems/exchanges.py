"""Golden exchanges: read from files, sent, and compared to the letter."""

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import httpx2

__all__ = ["load", "matches", "send"]


def load(path: Path) -> tuple[str, list[Any]]:
    """A file's project, and its exchanges with their pictures and files filled in."""
    content = json.loads(path.read_text())
    pixels = [value for row in content.get("picture", ()) for value in bytes.fromhex(row)]
    unit = [value / 255 for value in pixels]
    variables = {
        "$pixels": pixels,
        "$unit": unit,
        "$nested": _rows(pixels),
        "$nested_unit": _rows(unit),
        "$short": pixels[:-1],
        "$long": [*pixels, 0],
        "$worded": [*pixels[:-1], "0"],
        "$holed": [*pixels[:-1], None],
        "$nan": [*pixels[:-1], math.nan],
        "$bright": [*pixels[:-1], 256],
    }
    files = {name: base64.b64decode(data) for name, data in content.get("files", {}).items()}
    exchanges = content["exchanges"]
    for exchange in exchanges:
        request = exchange["request"]
        if "json" in request:
            request["text"] = json.dumps(_filled(request.pop("json"), variables))
        if "files" in request:
            request["files"] = {
                field: (name, files[name]) for field, name in request["files"].items()
            }
    return content["project"], exchanges


def send(client: Any, exchange: Any, prefix: str = "", suffix: str = "") -> Any:
    """The reply to an exchange's request, its path between `prefix` and `suffix`."""
    request = exchange["request"]
    path = f"{prefix}{request['path']}{suffix}"
    if "text" in request:
        return client.request(
            request["method"],
            path,
            content=request["text"].encode(),
            headers={"Content-Type": "application/json"},
            follow_redirects=False,
        )
    if "data" in request:
        # A part without a file name keeps a form of texts alone multipart.
        parts = [(name, (None, value)) for name, value in request["data"].items()]
        parts += list(request["files"].items())
        sent = parts or [("nothing", (None, ""))]
        return client.request(request["method"], path, files=sent, follow_redirects=False)
    return client.request(request["method"], path, follow_redirects=False)


def matches(reply: httpx2.Response, expected: Any) -> bool:
    """Whether status and body are the golden ones; an assertion shows what differs."""
    assert reply.status_code == expected["status"], reply.text
    if "body" in expected:
        assert reply.content == expected["body"].encode()
    else:
        assert re.fullmatch(expected["pattern"], reply.text), reply.text
    return True


def _rows(values: list[Any]) -> list[list[Any]]:
    return [values[start : start + 28] for start in range(0, 784, 28)]


def _filled(value: Any, variables: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return variables.get(value, value)
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, variables) for key, item in value.items()}
    return value
