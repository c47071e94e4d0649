"""Requests to a server: one at a time, to see that it answers right, and many, by wrk."""

import http.client
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["ask", "parse", "wrk"]

_SCRIPT = Path(__file__).parent / "rotate.lua"


def ask(port: int, path: str, bodies: Sequence[bytes], timeout: float = 10.0) -> list[Any]:
    """The replies to some bodies, over one connection.

    Raises:
        OSError, http.client.HTTPException: it cannot be reached.
        ValueError: a reply is not 200, or not JSON.
    """
    replies = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        for body in bodies:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise ValueError(f"{response.status}: {content[:300]!r}")
            replies.append(json.loads(content))
    finally:
        connection.close()
    return replies


def wrk(port: int, path: str, payloads: Path, *, connections: int, seconds: float) -> Any:
    """Load from one thread of wrk for some seconds; see `parse`.

    Raises:
        RuntimeError: wrk is missing or failed.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    command += ["-s", str(_SCRIPT), f"http://127.0.0.1:{port}{path}", "--", str(payloads)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + 60
        )
    except FileNotFoundError:
        raise RuntimeError("Expected wrk, found none; on Debian: apt-get install wrk.") from None
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stdout[-300:]}{done.stderr[-300:]}")
    return parse(done.stdout)


def parse(output: str) -> dict[str, float]:
    """What rotate.lua prints: `requests`, `failed`, `req_s`, and `p50_ms` and `p99_ms` of replies.

    Raises:
        ValueError: there is no such line.
    """
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise ValueError(f"Expected a line of JSON from rotate.lua, got: {output[-300:]!r}")
    found = json.loads(lines[-1])
    broken = sum(found[kind] for kind in ("connect", "read", "write", "timeout"))
    return {
        "requests": found["requests"],
        "failed": found["status"] + broken,
        "req_s": (found["requests"] - found["status"]) / (found["microseconds"] / 1e6),
        "p50_ms": found["p50"] / 1e3,
        "p99_ms": found["p99"] / 1e3,
    }
