"""`python configure.py FOLDER PORT PORT PORT`: writes MLServer's settings, and becomes it."""

import json
import os
import sys
from pathlib import Path

folder = Path(sys.argv[1])
http, grpc, metrics = map(int, sys.argv[2:5])
folder.mkdir(parents=True, exist_ok=True)
penguins = os.environ["BENCH_PROJECT"] == "penguins"
settings = {
    "debug": False,
    "host": "127.0.0.1",
    "http_port": http,
    "grpc_port": grpc,
    "metrics_port": metrics,
    "parallel_workers": 2,
}
model = {
    "name": "model",
    "implementation": "mlserver_sklearn.SKLearnModel" if penguins else "network.Network",
    "max_batch_size": 32,
    "max_batch_time": 0.01,
    "parameters": {
        "uri": os.environ["BENCH_JOBLIB"]
        if penguins
        else os.environ["BENCH_VERSION"] + "/model.onnx"
    },
}
(folder / "settings.json").write_text(json.dumps(settings))
(folder / "model-settings.json").write_text(json.dumps(model))
os.chdir(folder)
os.environ["PYTHONPATH"] = str(Path(__file__).parent)
command = Path(sys.executable).parent / "mlserver"
os.execv(command, [str(command), "start", str(folder)])
