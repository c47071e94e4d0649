"""Keys: a secret is given once, and every change is one event."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stores.conftest import Clock
from timonel.errors import BadRequest, NotFound
from timonel.stores.database import Database
from timonel.stores.events import Events
from timonel.stores.keys import Keys, Scope, digest_of


def drawing() -> Callable[[int], bytes]:
    """Bytes that differ from draw to draw, and are the same in every test."""
    drawn = iter(range(1, 200))
    return lambda count: bytes([next(drawn)]) * count


@pytest.fixture
def keys(database: Database) -> Keys:
    return Keys(database, draw=drawing())


def test_a_key_is_kept_as_its_hash_alone(keys: Keys, database: Database, tmp_path: Path) -> None:
    key, token = keys.create("shop", who="ana", projects=["digits"], rate=60, expires=2_000.0)
    assert keys.list() == keys.valid() == [key]
    assert key.digest == digest_of(token)
    assert token.startswith(f"timonel_{key.id}_")
    assert (key.scopes, key.projects, key.rate) == (("predict",), ("digits",), 60)
    database.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
    assert token.rpartition("_")[2].encode() not in kept


def test_two_keys_differ_by_themselves(database: Database) -> None:
    made = [Keys(database).create(name, who="ana") for name in "ab"]
    assert made[0][0].id != made[1][0].id
    assert len(made[0][1]) == len("timonel_12345678_") + 64


def test_every_change_is_one_event_without_the_secret(keys: Keys, database: Database) -> None:
    key, first = keys.create("shop", who="ana", scopes=["operate", "predict"])
    _, second = keys.rotate("shop", who="ben", overlap=60.0)
    keys.revoke(key.id, who="eva")
    events = Events(database).list()
    assert [(e.who, e.kind, e.before, e.after) for e in events] == [
        ("eva", "key", "valid", "revoked"),
        ("ben", "key", "valid", "valid"),
        ("ana", "key", None, "valid"),
    ]
    assert {e.subject for e in events} == {f"key/{key.id}"}
    assert events[1].evidence == {"name": "shop", "former_until": 1_060.0}
    assert events[2].evidence["scopes"] == ["operate", "predict"]
    said = str(events)
    assert not any(part in said for t in (first, second) for part in (t, digest_of(t)))
    assert database.generation() == 3


def test_a_rotated_key_keeps_its_id_and_the_former_secret_for_a_while(keys: Keys) -> None:
    key, first = keys.create("shop", who="ana")
    rotated, second = keys.rotate("shop", who="ana", overlap=60.0)
    assert rotated.id == key.id
    assert first != second
    assert (rotated.digest, rotated.former) == (digest_of(second), digest_of(first))
    assert rotated.former_until == 1_060.0
    at_once, _ = keys.rotate("shop", who="ana", overlap=0.0)
    assert (at_once.former, at_once.former_until) == (None, None)


def test_a_revoked_key_stays_in_the_list_and_frees_its_name(keys: Keys, clock: Clock) -> None:
    former, _ = keys.create("shop", who="ana")
    assert keys.revoke("shop", who="ana").revoked == clock.now
    assert keys.valid() == []
    assert [key.id for key in keys.list()] == [former.id]
    key, _ = keys.create("shop", who="ana")
    assert [k.id for k in keys.valid()] == [key.id]
    with pytest.raises(NotFound, match="timonel keys list"):
        keys.revoke(former.id, who="ana")


def test_an_expired_key_opens_nothing(keys: Keys, clock: Clock) -> None:
    key, _ = keys.create("shop", who="ana", expires=1_010.0)
    assert key.is_valid(1_009.9)
    clock.now = 1_010.0
    assert keys.valid() == []


def test_no_key_is_named_as_anothers_id_is(keys: Keys) -> None:
    key, _ = keys.create("shop", who="ana")
    with pytest.raises(BadRequest, match=key.id):
        keys.create(key.id, who="ana")


def test_a_name_has_one_key(keys: Keys) -> None:
    keys.create("shop", who="ana")
    with pytest.raises(BadRequest, match="timonel keys rotate shop"):
        keys.create("shop", who="ana")


@pytest.mark.parametrize("change", [lambda k: k.revoke("x", who="a"), lambda k: k.rotate(
    "x", who="a", overlap=1.0)])  # fmt: skip
def test_what_is_not_there_cannot_be_changed(keys: Keys, change: Callable[[Keys], object]) -> None:
    with pytest.raises(NotFound, match="'x'"):
        change(keys)


@pytest.mark.parametrize(
    ("name", "scopes", "projects", "rate", "expires", "wrong"),
    [
        (" ", ["predict"], None, None, None, "a name"),
        ("a\nb", ["predict"], None, None, None, "a name"),
        ("a", [], None, None, None, "scopes"),
        ("a", ["all"], None, None, None, "scopes"),
        ("a", ["predict"], [], None, None, "projects"),
        ("a", ["predict"], None, 0, None, "rate"),
        ("a", ["predict"], None, None, 1_000.0, "an end"),
    ],
)
def test_a_key_that_opens_nothing_is_not_made(
    keys: Keys,
    name: str,
    scopes: list[Scope],
    projects: list[str] | None,
    rate: int | None,
    expires: float | None,
    wrong: str,
) -> None:
    with pytest.raises(BadRequest, match=wrong):
        keys.create(name, who="a", scopes=scopes, projects=projects, rate=rate, expires=expires)
    assert keys.list() == []
