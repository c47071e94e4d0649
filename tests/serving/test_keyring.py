"""Keys as workers know them: who is let in, and how often."""

import msgspec
import pytest

from tests.stores.conftest import Clock
from timonel.errors import TooManyRequests
from timonel.serving.keyring import Keyring
from timonel.serving.state import Key
from timonel.stores.keys import digest_of

FORMER, TOKEN = (f"timonel_abcdefgh_{digit * 64}" for digit in "12")
KEY = Key("abcdefgh", "shop", digest_of(TOKEN), ("predict",))


class Told:
    """The keys of the state, which change."""

    def __init__(self, *keys: Key) -> None:
        self.keys = keys

    def __call__(self) -> tuple[Key, ...]:
        return self.keys


def test_a_key_is_found_by_its_secret_alone() -> None:
    keyring = Keyring(Told(KEY))
    assert keyring.find(TOKEN) == KEY
    wrong = (
        FORMER,
        TOKEN[:-1],
        TOKEN + "2",
        TOKEN.replace("abcdefgh", "abcdefgi"),
        TOKEN.removeprefix("timonel_"),
        KEY.digest,
        "timonel_abcdefgh_",
        "",
        "_" * 5_000,
        "é_abcdefgh_\udcff".encode("utf-8", "ignore").decode("latin-1"),
    )
    assert [keyring.find(token) for token in wrong] == [None] * len(wrong)


def test_a_revoked_key_is_forgotten_with_the_next_state() -> None:
    told = Told(KEY)
    keyring = Keyring(told)
    assert keyring.find(TOKEN)
    told.keys = ()
    assert keyring.find(TOKEN) is None


def test_a_key_ends_by_the_clock_alone() -> None:
    clock = Clock(1_000.0)
    key = msgspec.structs.replace(KEY, expires=1_010.0)
    keyring = Keyring(Told(key), clock=clock)
    assert keyring.find(TOKEN) == key
    clock.now = 1_010.0
    assert keyring.find(TOKEN) is None


def test_a_former_secret_is_good_until_its_time() -> None:
    clock = Clock(1_000.0)
    key = msgspec.structs.replace(KEY, former=digest_of(FORMER), former_until=1_060.0)
    keyring = Keyring(Told(key), clock=clock)
    assert keyring.find(FORMER) == keyring.find(TOKEN) == key
    clock.now = 1_060.0
    assert (keyring.find(FORMER), keyring.find(TOKEN)) == (None, key)


def test_the_digest_of_nobody_opens_nothing() -> None:
    key = msgspec.structs.replace(KEY, former="0" * 64, former_until=1e12)
    assert Keyring(Told(key)).find(FORMER) is None


def allowed(keyring: Keyring, key: Key, most: int = 100) -> int:
    for count in range(most):
        try:
            keyring.spend(key)
        except TooManyRequests:
            return count
    return most


def test_a_rate_is_shared_by_the_workers_and_comes_back_with_time() -> None:
    timer = Clock(0.0)
    key = msgspec.structs.replace(KEY, rate=40)
    keyrings = [Keyring(Told(key), workers=2, timer=timer) for _ in range(2)]
    for keyring in keyrings:
        keyring.find(TOKEN)
    assert [allowed(keyring, key) for keyring in keyrings] == [20, 20]
    timer.now = 15.0
    assert [allowed(keyring, key) for keyring in keyrings] == [5, 5]
    timer.now = 1_000.0
    assert allowed(keyrings[0], key) == 20


def test_a_refusal_says_when_there_is_room_again() -> None:
    timer = Clock(0.0)
    key = msgspec.structs.replace(KEY, rate=6)
    keyring = Keyring(Told(key), timer=timer)
    keyring.find(TOKEN)
    assert allowed(keyring, key) == 6
    with pytest.raises(TooManyRequests, match="at most 6 requests a minute") as refused:
        keyring.spend(key)
    assert refused.value.retry_after == 10
    timer.now = 10.0
    assert allowed(keyring, key) == 1


def test_a_rate_below_the_number_of_workers_lets_a_request_through_now_and_then() -> None:
    timer = Clock(0.0)
    key = msgspec.structs.replace(KEY, rate=1)
    keyring = Keyring(Told(key), workers=4, timer=timer)
    keyring.find(TOKEN)
    assert allowed(keyring, key) == 1
    timer.now = 240.0
    assert allowed(keyring, key) == 1


def test_what_was_spent_stays_spent_when_the_state_changes_elsewhere() -> None:
    key = msgspec.structs.replace(KEY, rate=6)
    told = Told(key)
    keyring = Keyring(told, timer=Clock(0.0))
    keyring.find(TOKEN)
    assert allowed(keyring, key) == 6
    told.keys = (msgspec.structs.replace(key, name="shops"),)
    found = keyring.find(TOKEN)
    assert found is not None
    assert (found.name, allowed(keyring, found)) == ("shops", 0)


def test_a_key_without_a_rate_may_ask_without_end() -> None:
    keyring = Keyring(Told(KEY))
    keyring.find(TOKEN)
    assert allowed(keyring, KEY, 1_000) == 1_000
