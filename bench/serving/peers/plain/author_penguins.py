"""FastAPI and scikit-learn as in a tutorial: a pydantic row, a frame of one row, a joblib file.

Written both ways that authors choose: a function, which FastAPI runs in threads, and a coroutine.
"""

import os

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(os.environ["BENCH_JOBLIB"])


class Penguin(BaseModel):
    bill_length_mm: float
    bill_depth_mm: float
    flipper_length_mm: float
    body_mass_g: float


def answer(penguin: Penguin) -> dict:
    frame = pd.DataFrame([penguin.model_dump()])
    return {"prediction": [int(label) for label in model.predict(frame)]}


@app.post("/predict")
def predict(penguin: Penguin):
    return answer(penguin)


@app.post("/predict-async")
async def predict_async(penguin: Penguin):
    return answer(penguin)
