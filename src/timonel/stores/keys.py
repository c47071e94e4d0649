"""Keys of the HTTP API: made, listed, rotated and revoked. Only their hashes are kept.

A key's secret is 256 random bits, which no list and no search finds: a plain hash keeps it as well
as a slow one would, and costs each request half a microsecond.
"""

import hashlib
import json
import secrets
from base64 import b32encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, insert, or_, select, update

from timonel.errors import BadRequest, NotFound
from timonel.stores import tables
from timonel.stores.database import Database, raise_generation
from timonel.stores.events import record

__all__ = ["PREFIX", "Key", "Keys", "Scope", "digest_of"]

PREFIX = "timonel"
"""What every key begins with, so that those who look for leaked secrets know one."""

Scope = Literal["predict", "operate"]
"""What a key is for: predictions, or what changes something."""

_SECRET_BYTES = 32
_ID_BYTES = 5


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is kept of a key. `projects` None: all of them; `rate`: requests a minute, None: any.

    Until `former_until` the secret before the last rotation, `former`, is as good as `digest`.
    Times are seconds since 1970, UTC.
    """

    id: str
    name: str
    digest: str
    former: str | None
    former_until: float | None
    scopes: tuple[Scope, ...]
    projects: tuple[str, ...] | None
    rate: int | None
    created: float
    expires: float | None
    revoked: float | None

    def is_valid(self, now: float) -> bool:
        """Whether it opens anything at that time."""
        return self.revoked is None and (self.expires is None or now < self.expires)


def digest_of(token: str) -> str:
    """What is kept of a key as it is sent: SHA-256, in hexadecimal digits."""
    return hashlib.sha256(token.encode()).hexdigest()


class Keys:
    """The keys in the database; each change is one transaction with one event.

    `draw` gives so many random bytes.
    """

    def __init__(
        self, database: Database, *, draw: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._database = database
        self._draw = draw

    def create(
        self,
        name: str,
        *,
        who: str,
        scopes: Sequence[Scope] = ("predict",),
        projects: Sequence[str] | None = None,
        rate: int | None = None,
        expires: float | None = None,
    ) -> tuple[Key, str]:
        """A new key, and what its holder sends, which nobody can ask for again.

        Raises:
            BadRequest: the name is empty or has a key, or a limit is none.
        """
        now = self._database.clock()
        _check(name, scopes, projects, rate, expires, now)
        identifier = b32encode(self._draw(_ID_BYTES)).decode().lower()
        token = self._token(identifier)
        key = Key(
            id=identifier,
            name=name,
            digest=digest_of(token),
            former=None,
            former_until=None,
            scopes=tuple(dict.fromkeys(scopes)),
            projects=None if projects is None else tuple(dict.fromkeys(projects)),
            rate=rate,
            created=now,
            expires=expires,
            revoked=None,
        )
        with self._database.begin() as connection:
            if _find(connection, name) is not None:
                raise BadRequest(
                    f"Expected the name of a new key, got {name!r}, which there is.",
                    remedy=f"Give it a new secret with: timonel keys rotate {name}",
                )
            row = vars(key) | {"scopes": list(key.scopes)}
            row["projects"] = None if key.projects is None else list(key.projects)
            connection.execute(insert(tables.keys).values(**row))
            self._changed(connection, key, who, None, "valid", _grants(key))
        return key, token

    def rotate(self, reference: str, *, who: str, overlap: float) -> tuple[Key, str]:
        """A new secret; the one before stays good for `overlap` seconds.

        `reference` is a name or an id. Raises NotFound.
        """
        with self._database.begin() as connection:
            key = _get(connection, reference)
            token = self._token(key.id)
            until = self._database.clock() + overlap
            _set(
                connection,
                key,
                digest=digest_of(token),
                former=key.digest if overlap > 0 else None,
                former_until=until if overlap > 0 else None,
            )
            self._changed(connection, key, who, "valid", "valid", {"former_until": until})
            return _get(connection, key.id), token

    def revoke(self, reference: str, *, who: str) -> Key:
        """End a key, by its name or id. Raises NotFound."""
        with self._database.begin() as connection:
            key = _get(connection, reference)
            _set(connection, key, revoked=self._database.clock())
            self._changed(connection, key, who, "valid", "revoked", {})
            query = select(tables.keys).where(tables.keys.c.id == key.id)
            return _key(connection.execute(query).mappings().one())

    def list(self) -> Sequence[Key]:
        """Every key there ever was, the oldest first."""
        query = select(tables.keys).order_by(tables.keys.c.created, tables.keys.c.id)
        with self._database.read() as connection:
            return [_key(row) for row in connection.execute(query).mappings()]

    def valid(self) -> Sequence[Key]:
        """The keys that open something now."""
        now = self._database.clock()
        query = select(tables.keys).where(tables.keys.c.revoked.is_(None)).order_by("id")
        with self._database.read() as connection:
            keys = [_key(row) for row in connection.execute(query).mappings()]
        return [key for key in keys if key.is_valid(now)]

    def _token(self, identifier: str) -> str:
        return f"{PREFIX}_{identifier}_{self._draw(_SECRET_BYTES).hex()}"

    def _changed(
        self,
        connection: Connection,
        key: Key,
        who: str,
        before: str | None,
        after: str,
        evidence: Mapping[str, Any],
    ) -> None:
        raise_generation(connection)
        record(
            connection,
            at=self._database.clock(),
            who=who,
            kind="key",
            subject=f"key/{key.id}",
            before=before,
            after=after,
            evidence={"name": key.name, **evidence},
        )


def _check(
    name: str,
    scopes: Sequence[Scope],
    projects: Sequence[str] | None,
    rate: int | None,
    expires: float | None,
    now: float,
) -> None:
    wrong = None
    if not name.strip() or not name.isprintable():
        wrong = f"a name, got {name!r}"
    elif not scopes or set(scopes) - {"predict", "operate"}:
        wrong = f"scopes of predict and operate, got {', '.join(scopes) or 'none'}"
    elif projects is not None and not projects:
        wrong = "projects, or none for all, got an empty list"
    elif rate is not None and rate < 1:
        wrong = f"a rate of at least 1 a minute, got {rate}"
    elif expires is not None and expires <= now:
        wrong = "an end that is to come, got one that is over"
    if wrong:
        raise BadRequest(f"Expected {wrong}.")


def _grants(key: Key) -> dict[str, Any]:
    # As JSON gives it back, and without anything of the secret.
    facts = {"scopes": key.scopes, "projects": key.projects, "rate": key.rate}
    found: dict[str, Any] = json.loads(json.dumps(facts | {"expires": key.expires}))
    return found


def _key(row: Mapping[Any, Any]) -> Key:
    facts = dict(row)
    facts["scopes"] = tuple(facts["scopes"])
    facts["projects"] = None if facts["projects"] is None else tuple(facts["projects"])
    return Key(**facts)


def _find(connection: Connection, reference: str) -> Key | None:
    table = tables.keys.c
    query = select(tables.keys).where(
        or_(table.name == reference, table.id == reference), table.revoked.is_(None)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else _key(row)


def _get(connection: Connection, reference: str) -> Key:
    if (key := _find(connection, reference)) is None:
        raise NotFound(
            f"Expected the name or id of a key, got {reference!r}, which there is not.",
            remedy="See those there are with: timonel keys list",
        )
    return key


def _set(connection: Connection, key: Key, **values: Any) -> None:
    connection.execute(update(tables.keys).where(tables.keys.c.id == key.id).values(**values))
