"""LitServe with batching, two workers and as many API servers."""

import os
import sys
from pathlib import Path

import litserve
import numpy as np


class Penguins(litserve.LitAPI):
    def setup(self, device):
        import joblib

        self.model = joblib.load(os.environ["BENCH_JOBLIB"])

    def decode_request(self, request):
        names = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
        return np.array([request[name] for name in names], dtype=np.float32)

    def predict(self, batch):
        return self.model.predict(batch)

    def encode_response(self, output):
        return {"prediction": [int(output)]}


class Digits(litserve.LitAPI):
    def setup(self, device):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = str(Path(os.environ["BENCH_VERSION"]) / "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options)
        self.name = self.session.get_inputs()[0].name

    def decode_request(self, request):
        return np.array(request["pixels"], dtype=np.float32).reshape(1, 1, 28, 28)

    def predict(self, batch):
        # The graph takes one picture at a time.
        return [self.session.run(None, {self.name: picture})[0].argmax() for picture in batch]

    def encode_response(self, output):
        return {"prediction": int(output)}


if __name__ == "__main__":
    kind = {"penguins": Penguins, "digits": Digits}[os.environ["BENCH_PROJECT"]]
    api = kind(max_batch_size=32, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
