"""Who may ask what: the places of the API, and whom each is open to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from starlette.types import Scope

from timonel.errors import NotAllowed
from timonel.settings import is_loopback

__all__ = ["Kind", "Place", "check_near", "check_page", "client_of", "is_far", "place_of"]

Kind = Literal["probe", "about", "metrics", "predict", "feedback", "operate"]
"""`probe` says whether a server is well, `about` describes it, `operate` changes something."""

_PROBES = ("health", "live", "ready", "ping")
_ABOUT = ("", "docs", "openapi.json", "version")


@dataclass(frozen=True)
class Place:
    """What a path is, and the project that it belongs to, if to one alone."""

    kind: Kind
    project: str | None = None


def place_of(path: str, projects: Sequence[str], *, at_root: bool) -> Place:
    """The place of a path. What is not known is as guarded as a prediction.

    `projects` are those that are served; `at_root`: the only one answers without its name too.
    """
    parts = path.strip("/").split("/")
    first, last = parts[0], parts[-1]
    root = projects[0] if at_root and projects else None
    if first == "api":
        named = parts[2] if len(parts) > 2 and parts[1] == "projects" else None
        return Place("operate", named)
    if last == "run-pipeline" or parts[:2] == ["v2", "repository"]:
        return Place("operate", first if first in projects else root)
    if last in _PROBES and first != "docs":
        return Place("probe")
    if (len(parts) == 1 and first in _ABOUT) or first == "docs":
        return Place("about")
    if parts == ["metrics"]:
        return Place("metrics")
    if first in ("v2", "endpoints"):
        named = parts[2 if first == "v2" else 1] if len(parts) > 2 else None
        # A model may be called `digits/cnn` or `digits.cnn`.
        return Place("predict", named.partition(".")[0]) if named else Place("about")
    kind: Kind = "feedback" if last == "feedback" else "predict"
    return Place(kind, first if first in projects else root)


def check_near(client: str, host: str | None) -> None:
    """Let only callers on this machine pass, who also call it by a name that nobody can take.

    A site can give its own name this machine's address: its page then asks this server, but by the
    site's name.

    Raises:
        NotAllowed: the caller is another machine, or called this one by another name.
    """
    # Without an address: a test's client, or a Unix socket.
    if not (client in ("", "testclient") or is_loopback(client)):
        raise NotAllowed(
            f"Expected a caller on this machine, got {client}.",
            remedy="Ask for it on the machine that serves, or let it ask for keys: --keys",
        )
    if host is not None and client != "testclient" and not is_loopback(_name_in(f"//{host}")):
        raise NotAllowed(
            f"Expected this machine to be called localhost or 127.0.0.1, got {host}.",
            remedy="Call it so, or let it ask for keys: --keys",
        )


def check_page(headers: Mapping[bytes, bytes], origins: Sequence[str], *, locked: bool) -> None:
    """Let programs pass, and pages of this server or of `origins`; `locked`: a key was shown too.

    Raises:
        NotAllowed: the caller is a page of another site.
    """
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin:
        if headers.get(b"sec-fetch-site") != b"cross-site":
            return
        origin = "another site"
    elif origin in origins:
        return
    else:
        netloc = origin.partition("://")[2]
        own = netloc == headers.get(b"host", b"").decode("latin-1")
        if own and (locked or is_loopback(_name_in(origin))):
            return
    raise NotAllowed(f"Expected a page of this server, got one of {origin}.")


@lru_cache(maxsize=64)
def is_far(host: str) -> bool:
    """Whether a socket's own address is one that other machines reach."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return False  # no address: a Unix socket, or a test


def client_of(scope: Scope) -> str:
    """The address of who asks; empty where there is none."""
    client = scope.get("client")
    return client[0] if client else ""


def _name_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
