"""Ray Serve with batching and two replicas, on this machine alone."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import ray
from ray import serve


@serve.deployment(num_replicas=2, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
class Penguins:
    def __init__(self):
        import joblib

        self.model = joblib.load(os.environ["BENCH_JOBLIB"])

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001)
    async def answer(self, rows):
        names = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
        labels = self.model.predict(np.array([[row[n] for n in names] for row in rows], np.float32))
        return [{"prediction": [int(label)]} for label in labels]

    async def __call__(self, request):
        return await self.answer(await request.json())


@serve.deployment(num_replicas=2, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
class Digits:
    def __init__(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = str(Path(os.environ["BENCH_VERSION"]) / "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options)
        self.name = self.session.get_inputs()[0].name

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001)
    async def answer(self, rows):
        pictures = np.array([row["pixels"] for row in rows], np.float32).reshape(-1, 1, 1, 28, 28)
        # The graph takes one picture at a time.
        scores = [self.session.run(None, {self.name: picture})[0] for picture in pictures]
        return [{"prediction": int(score.argmax())} for score in scores]

    async def __call__(self, request):
        return await self.answer(await request.json())


if __name__ == "__main__":
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        logging_level="warning",
        log_to_driver=False,
        object_store_memory=100_000_000,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1]), "access_log": False})
    kind = {"penguins": Penguins, "digits": Digits}[os.environ["BENCH_PROJECT"]]
    serve.run(kind.bind(), route_prefix="/predict")
    try:
        signal.pause()
    finally:
        serve.shutdown()
        ray.shutdown()
