"""What is measured side by side: how each server is started, asked and understood."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.serving.environments import PEERS
from bench.serving.home import Task, home_of

__all__ = ["SERVERS", "Place", "Server"]

_BOTH = frozenset({"penguins", "digits"})
_ALL = _BOTH | {"digits-cnn"}


@dataclass(frozen=True)
class Place:
    """Where a server is started: its project, its Python, a folder for its files, free ports."""

    task: Task
    python: Path
    folder: Path
    ports: tuple[int, int, int]

    @property
    def port(self) -> int:
        """The port that requests go to."""
        return self.ports[0]

    def variables(self) -> dict[str, str]:
        """The environment of the server."""
        given = home_of(self.task.home)
        if self.python != Path(sys.executable):
            given = {name: value for name, value in given.items() if name != "PYTHONPATH"}
            given["PATH"] = f"{self.python.parent}:{given['PATH']}"
        return given | {
            "BENCH_PROJECT": self.task.project,
            "BENCH_VERSION": str(self.task.version),
            "BENCH_JOBLIB": str(self.joblib),
            # What peers would otherwise send elsewhere, or ask elsewhere.
            "BENTOML_DO_NOT_TRACK": "true",
            "BENTOML_HOME": str(self.folder / "bentoml"),
            "DO_NOT_TRACK": "1",
            "LITSERVE_DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }

    @property
    def joblib(self) -> Path:
        """The forest, fitted in this environment."""
        return self.folder / "forest.joblib"

    def script(self, name: str, *words: str) -> None:
        """Run a script of `peers/` in this environment.

        Raises:
            RuntimeError: it failed; the message has its last words.
        """
        command = [str(self.python), str(PEERS / name), *words]
        done = subprocess.run(
            command,
            env=self.variables(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{name}: {(done.stdout + done.stderr)[-600:]}")


def _as_is(project: str, row: Any) -> Any:
    return row if isinstance(row, dict) else {"pixels": row}


def _prediction(project: str, reply: Any) -> int:
    label = reply["prediction"]
    return int(label[0] if isinstance(label, list) else label)


def _nothing(place: Place) -> None:
    return None


@dataclass(frozen=True)
class Server:
    """A server: `environment` None is ours. `checked` is False where replies are a constant."""

    title: str
    command: Callable[[Place], list[str]]
    setup: str
    environment: str | None = None
    path: str = "/predict"
    body: Callable[[str, Any], Any] = _as_is
    label: Callable[[str, Any], int] = _prediction
    prepare: Callable[[Place], None] = _nothing
    projects: frozenset[str] = _BOTH
    checked: bool = True
    packages: tuple[str, ...] = ()

    def payload(self, project: str, row: Any) -> bytes:
        """A request's body on one line."""
        return json.dumps(self.body(project, row), separators=(",", ":")).encode()


def _timonel(place: Place) -> list[str]:
    command = [str(place.python), "-m", "timonel", "serve", place.task.definition]
    return [*command, "--port", str(place.port), "--workers", "2"]


def _uvicorn(app: str, folder: str = "plain") -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        name = app.format(project=place.task.project)
        words = [str(place.python), "-m", "uvicorn", name, "--app-dir", str(PEERS / folder)]
        words += ["--host", "127.0.0.1", "--port", str(place.port), "--workers", "2"]
        return [*words, "--log-level", "warning", "--no-access-log"]

    return command


def _fitted(place: Place, *words: str) -> None:
    if place.task.training and not place.joblib.exists():
        place.script("fit.py", str(place.task.training), str(place.joblib), *words)


def _fitted_with_names(place: Place) -> None:
    _fitted(place, "--names")


def _saved(place: Place) -> None:
    _fitted_with_names(place)
    onnx = place.task.version / "model.onnx"
    source = place.joblib if place.task.training else onnx
    place.script("mlflow/save.py", place.task.project, str(source), str(place.folder / "model"))


def _mlflow(place: Place) -> list[str]:
    command = [str(place.python.with_name("mlflow")), "models", "serve", "--env-manager", "local"]
    command += ["-m", str(place.folder / "model"), "-h", "127.0.0.1", "-p", str(place.port)]
    return [*command, "-w", "2"]


def _invocation(project: str, row: Any) -> Any:
    if isinstance(row, dict):
        return {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}
    return {"inputs": [[[row[start : start + 28] for start in range(0, 784, 28)]]]}


def _invoked(project: str, reply: Any) -> int:
    found = reply["predictions"]
    if project == "penguins":
        return int(found[0])
    scores = (next(iter(found.values())) if isinstance(found, dict) else found)[0]
    return int(max(range(len(scores)), key=scores.__getitem__))


def _bentoml(place: Place) -> list[str]:
    service = f"service:{place.task.project.capitalize()}"
    command = [str(place.python.with_name("bentoml")), "serve", service, "--host", "127.0.0.1"]
    return [*command, "-p", str(place.port), "--working-dir", str(PEERS / "bentoml")]


def _rows(project: str, row: Any) -> Any:
    return {"rows": [list(row.values()) if isinstance(row, dict) else row]}


def _first(project: str, reply: Any) -> int:
    return int(reply[0])


def _script(name: str) -> Callable[[Place], list[str]]:
    return lambda place: [str(place.python), str(PEERS / name), str(place.port)]


def _mlserver(place: Place) -> list[str]:
    ports = [str(port) for port in place.ports]
    return [str(place.python), str(PEERS / "mlserver" / "configure.py"), str(place.folder), *ports]


def _tensor(project: str, row: Any) -> Any:
    values = list(row.values()) if isinstance(row, dict) else row
    kind = {"name": "rows", "shape": [1, len(values)], "datatype": "FP32", "data": values}
    return {"inputs": [kind]}


def _tensor_label(project: str, reply: Any) -> int:
    return int(reply["outputs"][0]["data"][0])


def _list(project: str, row: Any) -> Any:
    return [row]


def _vetiver_label(project: str, reply: Any) -> int:
    return int(reply["predict"][0])


SERVERS: Mapping[str, Server] = {
    "timonel": Server(
        "**Timonel**",
        _timonel,
        "`timonel serve`: supervisor, 2 workers, journal with rotation and export, `/metrics`",
        projects=_ALL,
        packages=("timonel", "uvicorn", "msgspec", "onnxruntime"),
    ),
    "noop": Server(
        "no-op route",
        _uvicorn("noop:app"),
        "raw ASGI on uvicorn (uvloop, httptools), 2 workers; reads the body, answers a constant",
        environment="plain",
        projects=frozenset({"penguins"}),
        checked=False,
        packages=("uvicorn", "uvloop", "httptools"),
    ),
    "handtuned": Server(
        "hand-tuned",
        _uvicorn("handtuned:app"),
        "the same, with msgspec, ONNX Runtime on 1 thread and replies made beforehand; "
        "no journal, ids, routing or metrics",
        environment="plain",
        projects=_ALL,
        packages=("msgspec", "onnxruntime", "uvicorn"),
    ),
    "fastapi": Server(
        "FastAPI, function",
        _uvicorn("author_{project}:app"),
        "pydantic model, `DataFrame([row])` and scikit-learn, or ONNX Runtime on 1 thread; "
        "uvicorn, 2 workers, access log off",
        environment="plain",
        prepare=_fitted_with_names,
        packages=("fastapi", "pydantic", "pandas", "scikit-learn", "onnxruntime"),
    ),
    "fastapi-async": Server(
        "FastAPI, coroutine",
        _uvicorn("author_{project}:app"),
        "the same as `async def`",
        environment="plain",
        path="/predict-async",
        prepare=_fitted_with_names,
        packages=("fastapi",),
    ),
    "mlflow": Server(
        "MLflow",
        _mlflow,
        "`mlflow models serve`, 2 workers; `dataframe_split`, or `inputs`",
        environment="mlflow",
        path="/invocations",
        body=_invocation,
        label=_invoked,
        prepare=_saved,
        packages=("mlflow", "scikit-learn", "onnxruntime"),
    ),
    "bentoml": Server(
        "BentoML",
        _bentoml,
        "`bentoml serve`, 2 workers, adaptive batching, arrays",
        environment="bentoml",
        body=_rows,
        label=_first,
        prepare=_fitted,
        packages=("bentoml", "scikit-learn", "onnxruntime"),
    ),
    "litserve": Server(
        "LitServe",
        _script("litserve/server.py"),
        "2 workers, 2 API servers, batches of up to 32 within 1 ms",
        environment="litserve",
        prepare=_fitted,
        packages=("litserve", "scikit-learn", "onnxruntime"),
    ),
    "mlserver": Server(
        "MLServer",
        _mlserver,
        "2 parallel workers, batches of up to 32 within 10 ms, Open Inference Protocol",
        environment="mlserver",
        path="/v2/models/model/infer",
        body=_tensor,
        label=_tensor_label,
        prepare=_fitted,
        packages=("mlserver", "scikit-learn", "onnxruntime"),
    ),
    "ray": Server(
        "Ray Serve",
        _script("ray/server.py"),
        "2 replicas, batches of up to 32 within 1 ms",
        environment="ray",
        prepare=_fitted,
        packages=("ray", "scikit-learn", "onnxruntime"),
    ),
    "vetiver": Server(
        "vetiver",
        _uvicorn("app:app", "vetiver"),
        "`VetiverAPI` on uvicorn, 2 workers, prototype checked",
        environment="vetiver",
        body=_list,
        label=_vetiver_label,
        prepare=_fitted_with_names,
        projects=frozenset({"penguins"}),
        packages=("vetiver", "scikit-learn"),
    ),
}
"""By the name that `--peers` takes, ours first."""
