"""Which inputs are equal, and one run for all who ask at once."""

import asyncio
import json
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.homes import app_of, home_at
from tests.serving.boats import boat, launch
from timonel.contract import Contract
from timonel.policies import Cache
from timonel.serving.cache import AnswerCache, key_of
from timonel.serving.routing import Routes, Served
from timonel.serving.rows import RowReader
from timonel.serving.state import Champion, read_state
from timonel.stores.answers import MemoryAnswers
from timonel.tensors import Arrays

CHAMPION = Champion("boat", "m1", 1, "0" * 64)
WRITINGS = [Contract(rows="one"), Contract(rows="many"), Contract(under="features")]


def arrays_of_body(contract: Contract, row: dict[str, Any]) -> Arrays:
    """The arrays of one row, written as a contract wants it."""
    body: Any = {contract.under: row} if contract.under else row
    reader = RowReader(boat(**vars(contract)), 10)
    rows, _ = reader.read(json.dumps([body] if contract.rows == "many" else body).encode())
    return reader.arrays(rows)


# Few values, so that equal rows are drawn often; and the same value in more than one writing.
numbers = st.sampled_from([None, 0, 0.0, -0.0, 1, 1.0, 22, 2.2e1, 0.1, 16_777_216, 1e-40])
rows = st.fixed_dictionaries(
    {"sex": st.sampled_from(["male", "female"])},
    optional={
        "age": numbers,
        "port": st.sampled_from([None, "S", "C"]),
        "deck": st.sampled_from(["", "a", "ab", "b", "1", "\x00", "é"]),
        "siblings": st.sampled_from([None, 0, 1, 1.0]),
        "alone": st.sampled_from([False, True]),
    },
)


_ONE, _MANY, _UNDER = WRITINGS


@given(rows, rows, st.sampled_from(WRITINGS), st.sampled_from(WRITINGS), st.randoms())
@example({"sex": "male", "age": 0}, {"sex": "male", "age": -0.0}, _ONE, _ONE, Random(0))
@example({"sex": "male", "age": 1}, {"sex": "male", "age": 1.0}, _ONE, _MANY, Random(0))
@example({"sex": "male"}, {"sex": "male", "age": None, "deck": ""}, _ONE, _UNDER, Random(0))
@example({"sex": "male", "deck": "a"}, {"sex": "male", "deck": "b"}, _ONE, _ONE, Random(0))
def test_keys_are_equal_exactly_when_the_model_is_given_equal_values(
    first: dict[str, Any], second: dict[str, Any], one: Contract, other: Contract, random: Any
) -> None:
    shuffled = dict(random.sample(list(second.items()), len(second)))
    left, right = arrays_of_body(one, first), arrays_of_body(other, shuffled)
    equal = all(
        np.array_equal(left[name], right[name], equal_nan=left[name].dtype != object)
        for name in left
    )
    assert (key_of(CHAMPION, left) == key_of(CHAMPION, right)) == equal


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_texts_that_read_the_same_in_a_row_are_told_apart(one: list[str], two: list[str]) -> None:
    keys = [key_of(CHAMPION, {"deck": np.array(texts, dtype=object)}) for texts in (one, two)]
    assert (keys[0] == keys[1]) == (one == two)


def test_keys_tell_versions_files_columns_and_rows_apart() -> None:
    numbers = np.arange(4, dtype=np.float32)
    arrays = {"a": numbers[:2], "b": numbers[2:]}
    keys = [
        key_of(CHAMPION, arrays),
        key_of(Champion("boat", "m1", 2, "0" * 64), arrays),
        key_of(Champion("boat", "m1", 1, "1" * 64), arrays),
        key_of(Champion("boat", "m2", 1, "0" * 64), arrays),
        key_of(Champion("raft", "m1", 1, "0" * 64), arrays),
        key_of(CHAMPION, {"b": numbers[:2], "a": numbers[2:]}),
        key_of(CHAMPION, {"a": numbers[:1], "b": numbers[1:]}),
        key_of(CHAMPION, {"a": numbers}),
        key_of(CHAMPION, {"a": numbers.reshape(2, 2)}),
        key_of(CHAMPION, {"a": numbers.reshape(1, 4)}),
    ]
    assert len(set(keys)) == len(keys)


# One run for all who ask at once


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A version of the boat, in memory."""
    settings, project = home_at(tmp_path_factory.mktemp("served")), boat()
    launch(project, settings)
    app_of([project], settings)
    routes, state = Routes([project], settings.serving_folder), read_state(settings.serving_folder)
    assert state is not None
    routes.follow(state)
    return routes.champion("boat", "m1")


class Model:
    """A run that takes until it is let go, counts, and may fail."""

    def __init__(self) -> None:
        self.runs = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> tuple[list[int], np.ndarray]:
        self.runs += 1
        await self.go.wait()
        if self.error:
            raise self.error
        return [1], np.array([[0.25, 0.75]], np.float32)


ROW: Arrays = {"age": np.array([22], np.float32)}


@pytest.mark.anyio
async def test_equal_requests_at_once_share_one_run(served: Served) -> None:
    cache, model = AnswerCache(Cache(), MemoryAnswers(10)), Model()
    asked = [asyncio.create_task(cache.answer(served, ROW, 1, model)) for _ in range(10)]
    other = asyncio.create_task(cache.answer(served, {"age": ROW["age"] + 1}, 1, model))
    await asyncio.sleep(0)
    model.go.set()
    answers = await asyncio.gather(*asked)
    await other
    assert model.runs == 2
    assert [found for _, _, found in answers] == [False] + [True] * 9
    assert all(indices == [1] for indices, _, _ in answers)
    answers[0][1][:] = 0  # what one does with its scores is no other's business
    assert all(scores.tolist() == [[0.25, 0.75]] for _, scores, _ in answers[1:])
    assert (await cache.answer(served, ROW, 1, model))[1].tolist() == [[0.25, 0.75]]
    assert model.runs == 2


@pytest.mark.anyio
async def test_one_who_leaves_ends_nothing_for_the_others(served: Served) -> None:
    cache, model = AnswerCache(Cache(), MemoryAnswers(10)), Model()
    asked = [asyncio.create_task(cache.answer(served, ROW, 1, model)) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    asked[2].cancel()
    await asyncio.sleep(0)
    model.go.set()
    assert (await asked[1])[0] == [1]
    assert asked[0].cancelled()
    assert asked[2].cancelled()
    assert model.runs == 1


@pytest.mark.anyio
async def test_an_error_reaches_all_and_is_not_kept(served: Served) -> None:
    cache, model = AnswerCache(Cache(), MemoryAnswers(10)), Model()
    model.error = KeyError("broken")
    model.go.set()
    asked = [asyncio.create_task(cache.answer(served, ROW, 1, model)) for _ in range(3)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [KeyError] * 3
    assert model.runs == 1
    model.error = None
    assert (await cache.answer(served, ROW, 1, model))[2] is False
    assert (await cache.answer(served, ROW, 1, model))[2] is True


@pytest.mark.anyio
async def test_an_error_that_nobody_waits_for_is_no_event(served: Served) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    cache, model = AnswerCache(Cache(), MemoryAnswers(10)), Model()
    model.error = KeyError("broken")
    asked = asyncio.create_task(cache.answer(served, ROW, 1, model))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    model.go.set()
    await cache.close()
    del asked
    assert told == []


class Shelf(MemoryAnswers):
    """A cache that is slow to write, and may hold what others wrote."""

    def __init__(self) -> None:
        super().__init__(10)
        self.go = asyncio.Event()
        self.foreign: bytes | None = None

    async def get(self, key: bytes) -> bytes | None:
        return await super().get(key) if self.foreign is None else self.foreign

    async def put(self, key: bytes, value: bytes, ttl: float) -> None:
        await self.go.wait()
        await super().put(key, value, ttl)


@pytest.mark.anyio
async def test_no_answer_waits_for_the_writing(served: Served) -> None:
    shelf, model = Shelf(), Model()
    model.go.set()
    cache = AnswerCache(Cache(), shelf)
    assert (await cache.answer(served, ROW, 1, model))[2] is False
    assert (await cache.answer(served, ROW, 1, model))[2] is True  # while it is being written
    shelf.go.set()
    await cache.close()
    assert await shelf.get(key_of(served.champion, ROW)) is not None
    assert model.runs == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    "foreign",
    [b"", b"other", b"\x02" + bytes(15), b"\xff" * 16],
    ids=["nothing", "too short", "a class too many", "a class below none"],
)
async def test_what_others_wrote_is_not_taken_for_an_answer(served: Served, foreign: bytes) -> None:
    shelf, model = Shelf(), Model()
    shelf.foreign = foreign
    model.go.set()
    shelf.go.set()
    indices, scores, found = await AnswerCache(Cache(), shelf).answer(served, ROW, 1, model)
    assert (indices, scores.tolist(), found) == ([1], [[0.25, 0.75]], False)
