"""FastAPI and ONNX Runtime as in a tutorial, as a function and as a coroutine."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1  # a worker a core
session = onnxruntime.InferenceSession(
    str(Path(os.environ["BENCH_VERSION"]) / "model.onnx"),
    options,
    providers=["CPUExecutionProvider"],
)
name = session.get_inputs()[0].name


class Digit(BaseModel):
    pixels: list[float]


def answer(digit: Digit) -> dict:
    if len(digit.pixels) != 784:
        raise HTTPException(400, "Expected 784 numbers.")
    picture = np.array(digit.pixels, dtype=np.float32).reshape(1, 1, 28, 28)
    return {"prediction": int(np.argmax(session.run(None, {name: picture})[0]))}


@app.post("/predict")
def predict(digit: Digit):
    return answer(digit)


@app.post("/predict-async")
async def predict_async(digit: Digit):
    return answer(digit)
