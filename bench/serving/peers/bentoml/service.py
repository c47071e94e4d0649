"""BentoML with adaptive batching: two workers, an endpoint a model, arrays in and out."""

import os
from pathlib import Path

import bentoml
import numpy as np


@bentoml.service(workers=2)
class Penguins:
    def __init__(self) -> None:
        import joblib

        self.model = joblib.load(os.environ["BENCH_JOBLIB"])

    @bentoml.api(batchable=True)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(rows)


@bentoml.service(workers=2)
class Digits:
    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = str(Path(os.environ["BENCH_VERSION"]) / "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options)
        self.name = self.session.get_inputs()[0].name

    @bentoml.api(batchable=True)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        pictures = rows.astype(np.float32).reshape(-1, 1, 1, 28, 28)
        # The graph takes one picture at a time.
        scores = [self.session.run(None, {self.name: picture})[0] for picture in pictures]
        return np.concatenate(scores).argmax(axis=1)
