"""Answers that may be given again: in this process's memory, or in a Redis that several share.

A cache that fails is no error: it holds nothing until it works again, and says why it does not.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, cast
from urllib.parse import urlsplit

from timonel.errors import MissingExtra, StoreError

__all__ = ["Answers", "MemoryAnswers", "RedisAnswers"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Answers(Protocol):
    """Bytes under keys, for a while; of one event loop. No method raises."""

    @property
    def trouble(self) -> str | None:
        """A sentence when the cache does not work now."""
        ...

    def start(self) -> None:
        """Begin to be used by the loop that runs."""
        ...

    async def get(self, key: bytes) -> bytes | None:
        """What was put there less than its `ttl` ago, or None; also None when it fails."""
        ...

    async def put(self, key: bytes, value: bytes, ttl: float) -> None:
        """Keep a value for `ttl` seconds at most; it may be forgotten sooner."""
        ...

    async def close(self) -> None:
        """Let go of what is held open."""
        ...


class MemoryAnswers:
    """Keeps the `most` values used last, and no more than `most_bytes` of them."""

    trouble = None

    def __init__(
        self,
        most: int,
        *,
        most_bytes: int = 64_000_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def start(self) -> None:
        """See `Answers`."""

    async def get(self, key: bytes) -> bytes | None:
        """See `Answers`."""
        if key not in self._kept:
            return None
        until, value = self._kept[key]
        if self._clock() >= until:
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return value

    async def put(self, key: bytes, value: bytes, ttl: float) -> None:
        """See `Answers`; a value of more than `most_bytes` is not kept."""
        self._forget(key)
        if len(value) > self._most_bytes:
            return
        self._kept[key] = (self._clock() + ttl, value)
        self._bytes += len(value)
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._forget(next(iter(self._kept)))

    async def close(self) -> None:
        """See `Answers`."""
        self._kept.clear()
        self._bytes = 0

    def _forget(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept:
            self._bytes -= len(kept[1])


class RedisAnswers:
    """Keeps values in Redis, which bounds them by its own `maxmemory`.

    What takes longer than `patience` seconds has failed. After a failure nothing is asked until a
    ping, sent every `pause` seconds beside the answers, has come back in time: so only those that
    were under way are slowed, and by no more than `patience`.

    Raises:
        MissingExtra: redis-py is not installed.
        StoreError: the address is none of Redis.
    """

    def __init__(
        self, url: str, *, patience: float = 0.05, pause: float = 1.0, connections: int = 32
    ) -> None:
        try:
            import redis.asyncio
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError:
            raise MissingExtra("An answers cache in Redis", "redis") from None
        try:
            pool = redis.asyncio.BlockingConnectionPool.from_url(
                url,
                max_connections=connections,
                timeout=patience,
                socket_timeout=None,  # `patience` and `pause` bound the whole
                socket_connect_timeout=None,
                retry=Retry(NoBackoff(), 0),
            )
            # Never the whole address: it may hold a password.
            parts = urlsplit(url)
            self._where = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path
        except ValueError as error:
            raise StoreError(
                f"Expected TIMONEL_ANSWERS to be the address of a Redis, got: {error}.",
                remedy="Write it as redis://HOST:PORT/NUMBER.",
            ) from None
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._patience = patience
        self._pause = pause
        self._watch: asyncio.Task[None] | None = None
        self.trouble: str | None = None

    def start(self) -> None:
        """See `Answers`."""
        self._watch = asyncio.create_task(self._keep_watch())

    async def get(self, key: bytes) -> bytes | None:
        """See `Answers`."""
        return await self._ask(lambda: cast(Awaitable[bytes | None], self._redis.get(_named(key))))

    async def put(self, key: bytes, value: bytes, ttl: float) -> None:
        """See `Answers`."""
        milliseconds = max(1, round(ttl * 1000))
        await self._ask(lambda: self._redis.set(_named(key), value, px=milliseconds))

    async def close(self) -> None:
        """See `Answers`."""
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        with contextlib.suppress(Exception):
            await self._redis.aclose()

    async def _ask(self, command: Callable[[], Awaitable[_T]]) -> _T | None:
        if self.trouble:
            return None
        try:
            async with asyncio.timeout(self._patience):
                return await command()
        except Exception as error:  # noqa: BLE001 (no failure of a cache may become an answer's)
            self._failed(error)
            return None

    async def _keep_watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(max(self._patience, self._pause)):
                    await self._redis.ping()  # connects, which may take longer
                async with asyncio.timeout(self._patience):
                    await self._redis.ping()
            except Exception as error:  # noqa: BLE001 (whatever it is, it may pass)
                self._failed(error)
            else:
                if self.trouble:
                    self.trouble = None
                    _log.warning("The answers cache at %s works again.", self._where)
            await asyncio.sleep(self._pause)

    def _failed(self, error: Exception) -> None:
        if self.trouble:  # of those that fail one after the other, the first says so
            return
        why = str(error) or "it does not reply in time"
        self.trouble = (
            f"The answers cache at {self._where} does not work, so every answer is computed: "
            f"{why.rstrip('.')}."
        )
        _log.warning("%s", self.trouble)


def _named(key: bytes) -> str:
    return f"timonel:answer:{key.hex()}"
