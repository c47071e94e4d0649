"""Which models gain by answering requests together: `python bench/batching/batching.py`.

A network with random weights, small or large, is loaded as a version of the digits and measured
as a worker measures it. Then 64 callers ask it one row at a time, each again when it has its
answer, with the queue that batches and without; the two take turns, and what counts is the ratio
of answers a second of processor time, since workers share the cores. Every answer is compared
with the model's own to that row alone.
"""

import argparse
import asyncio
import json
import statistics
import time
from functools import partial
from typing import Any

import numpy as np

from timonel.project import load_project
from timonel.runtime import OnnxModel
from timonel.serving.batching import Batcher
from timonel.serving.measure import Measured, measure
from timonel.serving.threads import Threads
from timonel.signature import Binding, Signature
from timonel.tensors import Arrays

CALLERS = 64
ROUNDS = 3


def network(channels: int, hidden: int, seed: int = 0) -> bytes:
    """A convolution, and two dense layers of `hidden` and 10, as ONNX."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> Any:
        drawn = rng.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32)
        return numpy_helper.from_array(drawn, name)

    made = helper.make_node
    nodes = [
        made("Conv", ["pixels", "kernel"], ["c"], kernel_shape=[5, 5], strides=[2, 2]),
        made("Relu", ["c"], ["r"]),
        made("Flatten", ["r"], ["f"]),
        made("MatMul", ["f", "first"], ["h"]),
        made("Relu", ["h"], ["g"]),
        made("MatMul", ["g", "second"], ["scores"]),
    ]
    tensor = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "network",
        [tensor("pixels", shape=["n", 1, 28, 28])],
        [tensor("scores", shape=["n", 10])],
        [
            weights("kernel", channels, 1, 5, 5),
            weights("first", channels * 144, hidden),
            weights("second", hidden, 10),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    content: bytes = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    return content


def loaded(content: bytes) -> OnnxModel:
    """The network as a version of the digits."""
    project = load_project("digits")
    binding = Binding(
        "image", ("pixels",), shape=(1, 28, 28), label=None, scores="scores", logits=True
    )
    signature = Signature("digits", "cnn", project.columns, "label", tuple(range(10)), binding)
    return OnnxModel(content, signature)


async def rate(ask: Any, rows: list[Arrays], right: list[int], seconds: float) -> float:
    """Answers a second of processor time, to callers that ask one row at a time."""
    until, answers = time.perf_counter() + seconds, 0

    async def call(place: int) -> None:
        nonlocal answers
        while time.perf_counter() < until:
            indices, _ = await ask(rows[place])
            if indices != [right[place]]:
                raise ValueError(f"caller {place}: expected {right[place]}, got {indices}")
            answers += 1
            place = (place + CALLERS) % len(rows)
            await asyncio.sleep(0)

    started = time.process_time()
    await asyncio.gather(*(call(place) for place in range(CALLERS)))
    return answers / (time.process_time() - started)


def compare(model: OnnxModel, found: Measured, seconds: float) -> dict[str, float]:
    """Medians of both ways, and their ratio."""
    rng = np.random.default_rng(1)
    rows = [{"pixels": rng.uniform(0, 255, (1, 784)).astype(np.float32)} for _ in range(256)]
    right = [model.answer(row)[0][0] for row in rows]

    async def run() -> tuple[list[float], list[float]]:
        threads = Threads()

        async def alone(arrays: Arrays) -> Any:
            if found.is_quick(1):
                return model.answer(arrays)
            return await threads(partial(model.answer, arrays))

        together = Batcher(model.answer, max(found.batch_rows, 32))
        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            rates[0].append(await rate(alone, rows, right, seconds))
            rates[1].append(await rate(lambda a: together(a, 1), rows, right, seconds))
        return rates

    alone, batched = (statistics.median(rates) for rates in asyncio.run(run()))
    return {"alone": alone, "batched": batched, "ratio": batched / alone}


def _run(model: OnnxModel, rows: int) -> None:
    model.answer({"pixels": np.zeros((rows, 784), np.float32)})


def main() -> None:
    """Print a JSON line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way in each round")
    seconds = parser.parse_args().seconds
    for name, channels, hidden in (("small", 8, 64), ("large", 32, 2048)):
        model = loaded(network(channels, hidden))
        found = measure(partial(_run, model), batch=True)
        figures = {
            "network": name,
            "row_ms": found.row_seconds * 1e3,
            "batches": found.batches,
            "batch_rows": found.batch_rows,
            "row_ms_in_batch": found.batch_seconds / found.batch_rows * 1e3,
            **compare(model, found, seconds),
        }
        line = {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}
        print(json.dumps(line))  # noqa: T201


if __name__ == "__main__":
    main()
