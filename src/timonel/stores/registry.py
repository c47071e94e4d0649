"""Experiments, runs and registered versions: MLflow behind few methods, with no global state."""

import contextlib
import logging
import sqlite3
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from timonel.errors import StoreError
from timonel.stores.flavours import save_estimator, save_onnx
from timonel.stores.marks import ALIASES, STAGE

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from timonel.schema import Column
    from timonel.signature import Binding

__all__ = ["Registered", "Registry"]

_LONGEST_PARAMETER = 6_000  # MLflow's limit
_BATCH = 100  # parameters a batch may hold; metrics may be 1,000
_MIGRATION_SECONDS = 300


@dataclass(frozen=True)
class Registered:
    """A version in MLflow's registry; `model` is the URI that MLflow loads it by."""

    name: str
    number: int
    run_id: str | None
    source: str
    description: str = ""
    stage: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The URI of exactly this version."""
        return f"models:/{self.name}/{self.number}"


class Registry:
    """MLflow at one address; safe to use from several threads."""

    def __init__(
        self,
        url: str,
        client: "MlflowClient",
        artifacts: Path | None,
        clock: Callable[[], float],
    ) -> None:
        self._url = url
        self._client = client
        self._artifacts = artifacts
        self._clock = clock
        self._lock = threading.Lock()
        self._experiments: dict[str, str] = {}
        self._trusted: dict[type, list[str]] = {}

    @classmethod
    def open(
        cls,
        url: str,
        *,
        artifacts: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """The registry at an MLflow tracking URI: `sqlite:///PATH` or `http(s)://…`.

        A SQLite file is made and migrated once, whoever comes first; that takes some seconds.
        `artifacts` is the folder for models and files of new experiments; by default the folder
        `mlflow-artifacts` beside the SQLite file, and a server's own choice elsewhere.

        Raises:
            StoreError: it cannot be reached, or the address is of another kind.
        """
        path: Path | None = None
        if url.startswith("sqlite:///"):
            path = Path(url.removeprefix("sqlite:///").partition("?")[0]).absolute()
            artifacts = artifacts or path.parent / "mlflow-artifacts"
        elif "://" not in url or url.startswith("file:"):
            raise StoreError(
                f"Expected an MLflow address: sqlite:///PATH or http://HOST:PORT, got {url}.",
                remedy="Set TIMONEL_REGISTRY; MLflow keeps no registry in a plain folder.",
            )
        with _told(url):
            import mlflow

            with _prepared(path):
                client = mlflow.MlflowClient(tracking_uri=url, registry_uri=url)
                client.search_experiments(max_results=1)
        return cls(url, client, artifacts, clock)

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, made when there is none."""
        from mlflow.exceptions import MlflowException

        with self._lock, _told(f"experiment {name}"):
            if name not in self._experiments:
                found = self._client.get_experiment_by_name(name)
                if found is not None:
                    if found.lifecycle_stage == "deleted":
                        self._client.restore_experiment(found.experiment_id)
                    self._experiments[name] = found.experiment_id
                    return self._experiments[name]
                location = None
                if self._artifacts is not None:
                    self._artifacts.mkdir(parents=True, exist_ok=True)
                    location = self._artifacts.as_uri()
                try:
                    made = self._client.create_experiment(name, artifact_location=location)
                except MlflowException:  # another process was faster
                    found = self._client.get_experiment_by_name(name)
                    if found is None:
                        raise
                    made = found.experiment_id
                self._experiments[name] = made
            return self._experiments[name]

    def start(
        self,
        experiment: str,
        name: str,
        *,
        parent: str | None = None,
        parameters: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Start a run, nested in `parent` when given; its id."""
        given = {**(tags or {}), **({"mlflow.parentRunId": parent} if parent else {})}
        experiment_id = self.experiment(experiment)
        with _told(f"run {name}"):
            run = self._client.create_run(
                experiment_id, start_time=self._now(), run_name=name, tags=given
            )
        run_id: str = run.info.run_id
        if parameters:
            self.log(run_id, parameters=parameters)
        return run_id

    def log(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        parameters: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Record numbers, parameters and tags of a run in one go."""
        from mlflow.entities import Metric, Param, RunTag

        now = self._now()
        params = [
            Param(key, str(value)[:_LONGEST_PARAMETER]) for key, value in (parameters or {}).items()
        ]
        with _told(f"run {run_id}"):
            for start in range(0, max(len(params), 1), _BATCH):
                first = start == 0
                self._client.log_batch(
                    run_id,
                    metrics=[
                        Metric(key, float(value), now, 0)
                        for key, value in ((metrics or {}) if first else {}).items()
                    ],
                    params=params[start : start + _BATCH],
                    tags=[RunTag(k, v) for k, v in ((tags or {}) if first else {}).items()],
                )

    def log_file(self, run_id: str, name: str, content: bytes | str) -> None:
        """Keep content as the file `name` (a relative path) of a run."""
        target = Path(name)
        with _told(f"run {run_id}, file {name}"), tempfile.TemporaryDirectory() as folder:
            path = Path(folder, target.name)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            inside = None if target.parent == Path() else target.parent.as_posix()
            self._client.log_artifact(run_id, str(path), inside)

    def log_folder(self, run_id: str, folder: Path, name: str | None = None) -> None:
        """Keep a folder's files with a run, in its folder `name`."""
        with _told(f"run {run_id}, folder {folder}"):
            self._client.log_artifacts(run_id, str(folder), name)

    def read_file(self, run_id: str, name: str) -> bytes:
        """The content of a run's file."""
        with _told(f"run {run_id}, file {name}"), tempfile.TemporaryDirectory() as folder:
            found = Path(self._client.download_artifacts(run_id, name, folder))
            return found.read_bytes()

    def log_dataset(
        self,
        run_id: str,
        name: str,
        digest: str,
        *,
        source: str,
        columns: Sequence["Column"],
        rows: int,
        context: str = "training",
    ) -> None:
        """Record which data a run used: a name, its hash, where it came from, its columns."""
        import json

        from mlflow.entities import Dataset, DatasetInput, InputTag

        schema = {"columns": [{"name": c.name, "kind": c.kind} for c in columns]}
        dataset = Dataset(
            name=name,
            digest=digest[:36],  # MLflow's limit
            source_type="local",
            source=json.dumps({"uri": source, "digest": digest}),
            schema=json.dumps(schema),
            profile=json.dumps({"num_rows": rows}),
        )
        with _told(f"run {run_id}, dataset {name}"):
            self._client.log_inputs(
                run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
            )

    def log_estimator(
        self,
        run_id: str,
        estimator: Any,
        columns: Sequence["Column"],
        *,
        name: str = "model",
        metrics: Mapping[str, float] | None = None,
    ) -> str:
        """Keep a fitted scikit-learn estimator with a run; the URI to register it by.

        It is written with skops, which runs no code when it is loaded.

        Raises:
            StoreError: it holds types other than scikit-learn's and numpy's.
        """
        kind = type(estimator)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            with _told(f"run {run_id}, model {name}"):
                # The trials of a search are alike.
                trusted = save_estimator(estimator, columns, path, self._trusted.get(kind))
                self._trusted[kind] = trusted
            return self._log_model(run_id, name, path, metrics)

    def log_onnx(
        self,
        run_id: str,
        content: bytes,
        columns: Sequence["Column"],
        binding: "Binding",
        *,
        name: str = "model",
        metrics: Mapping[str, float] | None = None,
    ) -> str:
        """Keep an ONNX file with a run; the URI to register it by."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            with _told(f"run {run_id}, model {name}"):
                save_onnx(content, columns, binding, path)
            return self._log_model(run_id, name, path, metrics)

    def finish(
        self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED"
    ) -> None:
        """End a run."""
        with _told(f"run {run_id}"):
            self._client.set_terminated(run_id, status, end_time=self._now())

    def register(
        self,
        name: str,
        run_id: str,
        uri: str,
        *,
        tags: Mapping[str, str] | None = None,
        description: str = "",
    ) -> int:
        """Make the model at `uri` (from `log_estimator` or `log_onnx`) the next version of `name`.

        `tags` should hold the artifact's hash; the version's number.
        """
        from mlflow.exceptions import MlflowException

        with _told(f"registered model {name}"):
            try:
                self._client.get_registered_model(name)
            except MlflowException:
                # Another process may make it at the same moment.
                with contextlib.suppress(MlflowException):
                    self._client.create_registered_model(name)
            model_id = uri.removeprefix("models:/")
            made = self._client.create_model_version(
                name,
                source=self._client.get_logged_model(model_id).artifact_location,
                run_id=run_id,
                tags=dict(tags or {}),
                description=description,
                model_id=model_id,
            )
        return int(made.version)

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        with _told(f"registered model {name}, alias {alias}"):
            self._client.set_registered_model_alias(name, alias, str(number))

    def mark(self, name: str, number: int | None) -> None:
        """Have exactly this version marked as the one that serves, or none.

        It gets the aliases `champion` and `production` and the stage Production, where the server
        still has stages; a version that had that stage is archived.
        """
        before = self.versions(name)
        for alias in ALIASES:
            if number is not None:
                self.set_alias(name, alias, number)
            else:
                self.delete_alias(name, alias)
        for version in before:
            wanted = STAGE if version.number == number else "Archived"
            if version.stage != wanted and STAGE in (version.stage, wanted):
                self._move_stage(name, version.number, wanted)

    def _move_stage(self, name: str, number: int, stage: str) -> None:
        from mlflow.exceptions import MlflowException

        with _told(f"registered model {name}, version {number}"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow warns that stages will go
            # Without stages the aliases say it all.
            with contextlib.suppress(AttributeError, MlflowException):
                self._client.transition_model_version_stage(name, str(number), stage)

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; nothing happens when there is none."""
        with _told(f"registered model {name}, alias {alias}"):
            if alias in self.aliases(name):
                self._client.delete_registered_model_alias(name, alias)

    def set_tags(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with _told(f"registered model {name}, version {number}"):
            for key, value in tags.items():
                self._client.set_model_version_tag(name, str(number), key, value)

    def aliases(self, name: str) -> dict[str, int]:
        """Alias → number of a registered model; empty when there is no such model."""
        from mlflow.exceptions import MlflowException

        with _told(f"registered model {name}"):
            try:
                found = self._client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return {}
                raise
        return {alias: int(number) for alias, number in found.aliases.items()}

    def versions(self, name: str) -> list[Registered]:
        """The versions of a registered model, oldest first; empty when there is no such model."""
        aliases = self.aliases(name)
        found: list[Any] = []
        token: str | None = None
        quoted = name.replace("'", "''")
        with _told(f"registered model {name}"):
            while True:
                page = self._client.search_model_versions(f"name = '{quoted}'", page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        versions = [
            Registered(
                name=name,
                number=int(item.version),  # str over HTTP, int on SQLite
                run_id=item.run_id or None,
                source=item.source or "",
                description=item.description or "",
                stage=item.current_stage or "",
                tags=dict(item.tags or {}),
                # The search leaves aliases out.
                aliases=tuple(
                    sorted(a for a, number in aliases.items() if number == int(item.version))
                ),
            )
            for item in found
        ]
        return sorted(versions, key=lambda version: version.number)

    def download(self, version: Registered, folder: Path) -> Path:
        """Copy a version's MLflow model into a folder; where it is."""
        from mlflow.artifacts import download_artifacts

        with _told(f"{version.name} version {version.number}"):
            folder.mkdir(parents=True, exist_ok=True)
            uri = self._client.get_model_version_download_uri(version.name, str(version.number))
            return Path(
                download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=self._url)
            )

    def _log_model(
        self, run_id: str, name: str, path: Path, metrics: Mapping[str, float] | None
    ) -> str:
        from mlflow.entities import LoggedModelOutput, Metric

        with _told(f"run {run_id}, model {name}"):
            run = self._client.get_run(run_id)
            model = self._client.create_logged_model(
                run.info.experiment_id, name=name, source_run_id=run_id
            )
            self._client.log_model_artifacts(model.model_id, str(path))
            self._client.finalize_logged_model(model.model_id, "READY")
            self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
            if metrics:
                now = self._now()
                self._client.log_batch(
                    run_id,
                    metrics=[
                        Metric(key, float(value), now, 0, model_id=model.model_id, run_id=run_id)
                        for key, value in metrics.items()
                    ],
                )
            return f"models:/{model.model_id}"

    def _now(self) -> int:
        return int(self._clock() * 1000)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Any error of MLflow or its database as ours."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # MLflow lets its database's and its HTTP client's errors through
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StoreError(f"MLflow, {what}: {first}") from error


@contextlib.contextmanager
def _prepared(path: Path | None) -> Iterator[None]:
    """Hold the lock of a SQLite file while MLflow makes and migrates its tables."""
    if path is None:
        yield
        return
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=_MIGRATION_SECONDS):
        if not path.exists():
            _make(path)
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        yield


def _make(path: Path) -> None:
    """Make the tables beside the place and move them there whole.

    MLflow's migrations are no transaction: a file that was left halfway could never be opened.
    """
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    # MLflow tells of it on standard error, in the middle of what is shown there.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    unfinished = path.with_name(f"{path.name}.new")
    for leftover in path.parent.glob(f"{unfinished.name}*"):
        leftover.unlink()
    engine = create_sqlalchemy_engine(f"sqlite:///{unfinished}")  # type: ignore[no-untyped-call]
    try:
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()
    unfinished.rename(path)
