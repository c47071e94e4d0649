"""The keys that callers show: which are valid, and how often each may ask."""

import hashlib
import hmac
import math
import time
from collections.abc import Callable, Sequence

from timonel.errors import TooManyRequests
from timonel.serving.state import Key

__all__ = ["Keyring"]

_LONGEST = 200  # characters of what may be a key at all
_NOBODYS = "0" * 64
_MINUTE = 60.0


class _Held:
    """A key, and the requests that it has left in this process."""

    def __init__(self, key: Key, workers: int, now: float) -> None:
        self.key = key
        self.share = (key.rate or 0) / workers
        self.left = max(self.share, 1.0)
        self.since = now


class Keyring:
    """The keys that `told` gives now; used on the event loop.

    A key's rate is divided among `workers` processes that know nothing of each other: a caller
    whose connections all lead to one of them gets that one's share. `clock` gives seconds since
    1970.
    """

    def __init__(
        self,
        told: Callable[[], Sequence[Key]],
        *,
        workers: int = 1,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._told = told
        self._workers = workers
        self._clock = clock
        self._timer = timer
        self._learnt: Sequence[Key] = ()
        self._held: dict[str, _Held] = {}

    def find(self, token: str) -> Key | None:
        """The valid key with this secret; how long it takes says nothing of the secret."""
        if (told := self._told()) is not self._learnt:
            self._learn(told)
        if len(token) > _LONGEST:
            return None
        digest = hashlib.sha256(token.encode()).hexdigest()
        parts = token.split("_", 2)
        held = self._held.get(parts[1]) if len(parts) == 3 else None
        key = held.key if held else None
        now = self._clock()
        is_former = hmac.compare_digest(digest, (key and key.former) or _NOBODYS)
        if not hmac.compare_digest(digest, key.digest if key else _NOBODYS) and not (
            is_former and key and key.former_until and now < key.former_until
        ):
            return None
        return key if key and (key.expires is None or now < key.expires) else None

    def spend(self, key: Key) -> None:
        """Take one of a key's requests.

        Raises:
            TooManyRequests: none is left; says when there is one again.
        """
        held = self._held.get(key.id)
        if held is None or key.rate is None:
            return
        now = self._timer()
        gained = (now - held.since) * held.share / _MINUTE
        held.left, held.since = min(max(held.share, 1.0), held.left + gained), now
        if held.left < 1.0:
            raise TooManyRequests(
                f"Expected at most {key.rate} requests a minute with key {key.name}, got more.",
                remedy="Ask again after the seconds of Retry-After.",
                retry_after=math.ceil((1.0 - held.left) * _MINUTE / held.share),
            )
        held.left -= 1.0

    def _learn(self, keys: Sequence[Key]) -> None:
        now = self._timer()
        held = {}
        for key in keys:
            known = self._held.get(key.id)
            if known is None or known.key.rate != key.rate:
                known = _Held(key, self._workers, now)
            known.key = key
            held[key.id] = known
        self._held, self._learnt = held, keys
