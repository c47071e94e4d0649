"""The ceiling: one model and nothing else, as fast as is sensible in Python.

JSON straight into typed numbers, one session of one thread, replies made beforehand. No journal,
no ids, no routing, no metrics, no sentence for what is refused.
"""

import json
import os
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import onnxruntime

FOLDER = Path(os.environ["BENCH_VERSION"])
BINDING = json.loads((FOLDER / "signature.json").read_text())["binding"]


class Penguin(msgspec.Struct, gc=False):
    bill_length_mm: float
    bill_depth_mm: float
    flipper_length_mm: float
    body_mass_g: float


class Digit(msgspec.Struct, gc=False):
    # Decoded as they come: sooner than making floats of them twice.
    pixels: Annotated[list[int | float], msgspec.Meta(min_length=784, max_length=784)]


def open_session():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(FOLDER / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )


def reply(status, body):
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    return start, {"type": "http.response.body", "body": body}


run = open_session().run
(name,) = BINDING["inputs"]
outputs = [BINDING["label"] or BINDING["scores"]]
shape = (1, *BINDING["shape"])
REFUSED = reply(400, b'{"detail":"not what the model takes"}')

if BINDING["layout"] == "image":
    decode = msgspec.json.Decoder(Digit).decode
    replies = [reply(200, b'{"prediccion":%d,"prediction":%d}' % (n, n)) for n in range(10)]

    def tensor(row):
        return np.fromiter(row.pixels, np.float32, 784).reshape(shape)
else:
    decode = msgspec.json.Decoder(Penguin).decode
    replies = [reply(200, b'{"prediction":[%d]}' % n) for n in range(3)]

    def tensor(row):
        values = (row.bill_length_mm, row.bill_depth_mm, row.flipper_length_mm, row.body_mass_g)
        return np.array((values,), np.float32)


if BINDING["label"]:

    def answer(row):
        return replies[run(outputs, {name: tensor(row)})[0][0]]
else:

    def answer(row):
        return replies[run(outputs, {name: tensor(row)})[0].argmax()]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    try:
        start, content = answer(decode(body))
    except (msgspec.MsgspecError, ValueError):
        start, content = REFUSED
    await send(start)
    await send(content)
