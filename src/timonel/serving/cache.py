"""The answers cache of a project: which inputs are equal, and one run for all who ask at once."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b

import msgspec
import numpy as np

from timonel.policies import Cache
from timonel.serving.routing import Served
from timonel.serving.state import Champion
from timonel.stores.answers import Answers
from timonel.tensors import Arrays

__all__ = ["AnswerCache", "key_of"]

# Raised when what is hashed or kept changes, so that a shared cache is never misread.
_FORMAT = 1

Result = tuple[list[int], np.ndarray]
_Flight = asyncio.Future[tuple[list[int], np.ndarray, bool]]


def key_of(champion: Champion, arrays: Arrays) -> bytes:
    """The key of an input for a version: equal exactly when the model is given equal values.

    The arrays are what the rows of every contract become, so how an input was written does not
    count. The digest of the version's files is in the key too: homes that share a Redis may number
    theirs alike.
    """
    shapes = [(name, array.shape) for name, array in arrays.items()]
    digest = blake2b(
        msgspec.msgpack.encode((_FORMAT, champion.label, champion.digest, shapes)), digest_size=24
    )
    for array in arrays.values():
        if array.dtype == object:
            digest.update(msgspec.msgpack.encode(array.tolist()))
        else:
            digest.update((array + np.float32(0)).tobytes())  # -0.0 equals 0.0
    return digest.digest()


class AnswerCache:
    """Answers of one project's versions; a request is kept as a whole, whatever its rows.

    What is kept are class indices and probabilities, never a reply: that is built anew.
    """

    def __init__(self, policy: Cache, answers: Answers) -> None:
        self._ttl = policy.ttl
        self._answers = answers
        self._flights: dict[bytes, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def answer(
        self, version: Served, arrays: Arrays, rows: int, run: Callable[[], Awaitable[Result]]
    ) -> tuple[list[int], np.ndarray, bool]:
        """Class indices, probabilities float32 (rows, classes), and whether no run was needed.

        Equal inputs that are asked for at once share one run, and its error if it fails. One who
        stops waiting ends nothing for the others.
        """
        key = key_of(version.champion, arrays)
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = asyncio.get_running_loop().create_future()
            self._flights[key] = flight
            shape = (rows, len(version.model.signature.classes))
            task = asyncio.create_task(self._fly(key, shape, run, flight))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        indices, scores, found = await asyncio.shield(flight)
        return list(indices), scores.copy(), found or joined  # no reply changes another's

    async def close(self) -> None:
        """Wait for what is being kept."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _fly(
        self,
        key: bytes,
        shape: tuple[int, int],
        run: Callable[[], Awaitable[Result]],
        flight: _Flight,
    ) -> None:
        try:
            kept = await self._answers.get(key)
            found = None if kept is None else _unpack(kept, *shape)
            if found:
                flight.set_result((*found, True))
                return
            indices, scores = await run()
            flight.set_result((indices, scores, False))
            # Those who wait have their answer; those who come meanwhile still share it.
            await self._answers.put(key, _pack(indices, scores), self._ttl)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told to those who wait)
            flight.set_exception(error)
        finally:
            flight.cancel()  # of use only when the task itself was
            del self._flights[key]


def _pack(indices: list[int], scores: np.ndarray) -> bytes:
    return np.asarray(indices, "<i8").tobytes() + np.asarray(scores, "<f4").tobytes()


def _unpack(kept: bytes, rows: int, classes: int) -> Result | None:
    """None when the bytes are none of ours: somebody else may write to a Redis too."""
    if len(kept) != rows * (8 + 4 * classes):
        return None
    indices = np.frombuffer(kept, "<i8", rows)
    if ((indices < 0) | (indices >= classes)).any():
        return None
    return indices.tolist(), np.frombuffer(kept, "<f4", offset=8 * rows).reshape(rows, classes)
