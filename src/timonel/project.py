"""The definition of a model project, and how it is found, loaded and checked."""

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel

from timonel.contract import Contract
from timonel.errors import DefinitionError, NotFound
from timonel.policies import (
    Cache,
    Drift,
    Gate,
    Grid,
    Layout,
    Optuna,
    Quality,
    Retention,
    Retrain,
    Split,
    Tables,
)
from timonel.rollouts import AllAtOnce, Rollout
from timonel.schema import Column, columns_of, unrecorded_of
from timonel.signature import Label

if TYPE_CHECKING:
    import polars

__all__ = [
    "BUNDLED",
    "HEAVY",
    "NAME",
    "RESERVED",
    "File",
    "Model",
    "Prepared",
    "Pretrained",
    "Project",
    "Read",
    "Rows",
    "Source",
    "load_project",
]

BUNDLED = {
    "crimes": "timonel.projects.crimes",
    "digits": "timonel.projects.digits",
    "penguins": "timonel.projects.penguins",
    "titanic": "timonel.projects.titanic",
}
"""The projects that ship with the package: name and module."""

RESERVED = frozenset({"api", "v2", "docs", "metrics", "health", "live", "ready", "ping"})

# A serving process loads the definition; these would cost it seconds and hundreds of megabytes.
HEAVY = frozenset(
    {
        "lightgbm",
        "mlflow",
        "pandas",
        "polars",
        "ray",
        "sklearn",
        "tensorflow",
        "torch",
        "xgboost",
    }
)

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
"""What projects and models may be called."""


@dataclass(frozen=True)
class Read:
    """What a source is given: where files are looked for and kept, and where progress is told.

    `folder` is searched for a file's `name` before its address is asked (TIMONEL_DATA); `cache`
    keeps downloads. `report` takes a phrase and a share done (0..1, or None when not known).
    """

    folder: Path | None
    cache: Path
    database: str
    report: Callable[[str, float | None], None] = lambda phrase, share: None


@dataclass(frozen=True)
class Rows:
    """What a source gives: the rows, where they came from, and what a person should know of it.

    `embedded` says that these are the small default used when nothing better could be reached.
    """

    frame: "polars.DataFrame"
    origin: str
    notes: tuple[str, ...] = ()
    embedded: bool = False


class Prepared(Protocol):
    """What `prepare` may return instead of a frame: with sentences about what it did."""

    @property
    def frame(self) -> "polars.DataFrame":
        """The rows."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of them."""
        ...


class Source(Protocol):
    """Where rows come from."""

    def read(self, read: Read) -> Rows:
        """The rows; raises SourceError when they cannot be had."""
        ...


@dataclass(frozen=True)
class File:
    """A file known by its `name` under the data folder, an address, or both.

    `name` is a path inside TIMONEL_DATA (or any path that exists); `urls` are tried in order when
    it is not there. `sha256` is checked however the file was got; of a name that ends in `.gz` it
    is that of the unpacked content, since the same content may be packed in many ways.
    """

    name: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """An ONNX file as a model: hashed, evaluated and gated like a trained one.

    `low`..`high` is the range of the numbers that the graph expects where the input is an image.
    Classes are taken in the project's order. `scores` names the output with a score a class
    (default: the only float output), `label` one with the label; `logits` says that the scores are
    not probabilities. `card` describes where the file comes from.
    """

    file: File
    low: float = 0.0
    high: float = 255.0
    label: str | None = None
    scores: str | None = None
    logits: bool = False
    card: Path | None = None


Recipe = Callable[..., Any]


@dataclass(frozen=True)
class Model:
    """One recipe of a project.

    `recipe` returns an unfitted scikit-learn estimator, or is a `Pretrained` file. Its parameters
    are what `search` may vary; a parameter called `seed` gets the run's seed. `metric` is
    `accuracy`, `balanced_accuracy` or `f1_weighted`. `folds` × `repeats` is the cross-validation
    that scores a candidate (0 folds: the validation rows do). `augment(X, y, rng)` adds rows to
    training only. `log_models` keeps every trial's model in MLflow or the best one's. `registered`
    is the name in MLflow's registry; `aliases` are further names that clients may use. `embedded`
    is a folder with a version's files that answers from the first start, until a run makes another.
    """

    name: str
    recipe: Recipe | Pretrained
    search: Grid | Optuna | None = None
    metric: Literal["accuracy", "balanced_accuracy", "f1_weighted"] = "accuracy"
    folds: int = 5
    repeats: int = 1
    augment: Callable[..., Any] | None = None
    log_models: Literal["best", "all"] = "best"
    registered: str | None = None
    aliases: tuple[str, ...] = ()
    embedded: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        where = f"Model {self.name!r}"
        if not NAME.fullmatch(self.name):
            raise DefinitionError(
                f"{where}: expected a name of lower-case letters, digits, - and _, "
                f"starting with a letter, got {self.name!r}."
            )
        if isinstance(self.recipe, Pretrained):
            if self.search:
                raise DefinitionError(f"{where}: a pretrained file has nothing to search.")
            return
        if not callable(self.recipe):
            raise DefinitionError(
                f"{where}: expected recipe to be a function or Pretrained(…), got {self.recipe!r}."
            )
        if self.metric not in ("accuracy", "balanced_accuracy", "f1_weighted"):
            raise DefinitionError(
                f"{where}: expected metric to be accuracy, balanced_accuracy or f1_weighted, "
                f"got {self.metric!r}."
            )
        if self.folds == 1 or self.folds < 0 or self.repeats < 1:
            raise DefinitionError(
                f"{where}: expected 0 or at least 2 folds and at least 1 repeat, "
                f"got folds={self.folds}, repeats={self.repeats}."
            )
        known = inspect.signature(self.recipe).parameters
        for parameter in self.search.parameters if self.search else ():
            if parameter not in known:
                raise DefinitionError(
                    f"{where}: search varies {parameter!r}, which its recipe does not take; "
                    f"expected one of: {', '.join(known) or 'none'}.",
                    remedy=f"Add {parameter}=… to the parameters of {self.recipe.__name__}.",
                )


@dataclass(frozen=True, kw_only=True)
class Project:
    """One definition of a model project; everything else is derived from it.

    `features` is a pydantic model: request, columns, form and documentation come from it.
    `target` is the column of the source to predict; `classes` its labels in order (default: those
    seen in training), or a mapping from label to description. `prepare` turns the source's frame
    into one that has the features' and the target's columns, such as a `Cleaning`, whose notes
    reach the run and the card. `layout` also keeps a run's rows under names. `cache` gives equal
    requests the same answer. `default` names the model that answers when a request names none
    (default: the first). `experiment` is MLflow's.
    `text_log` also keeps one line a prediction in `reportes/predicciones_<environment>.txt`.
    `tables` keeps a run's rows as tables of the database as well. `drift` says when live rows are
    compared with those of training, and what alarms; `retrain` when it is trained anew by itself;
    `rollout` how traffic moves to a version that passed the gate; `retention` how long what it was
    asked is kept. `reference` is what commands call the project: its name, or the path that it was
    loaded from.
    """

    name: str
    source: Source
    features: type[BaseModel]
    target: str
    models: Sequence[Model]
    classes: Sequence[Label] | Mapping[int, str] | Mapping[str, str] | None = None
    prepare: "Callable[[polars.DataFrame], polars.DataFrame | Prepared] | None" = None
    split: Split = field(default_factory=Split)
    quality: Quality = field(default_factory=Quality)
    gate: Gate = field(default_factory=Gate)
    drift: Drift = field(default_factory=Drift)
    retrain: Retrain = field(default_factory=Retrain)
    retention: Retention = field(default_factory=Retention)
    rollout: Rollout = field(default_factory=AllAtOnce)
    contract: Contract = field(default_factory=Contract)
    default: str | None = None
    experiment: str | None = None
    layout: Layout | None = None
    cache: Cache | None = None
    tables: Tables | None = None
    text_log: bool = False
    description: str = ""
    reference: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        where = f"Project {self.name!r}"
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise DefinitionError(
                f"{where}: expected a name of lower-case letters, digits, - and _, starting with "
                f"a letter, got {self.name!r}."
            )
        if self.name in RESERVED:
            raise DefinitionError(
                f"{where}: the names {', '.join(sorted(RESERVED))} are taken by the API.",
                remedy="Choose another name.",
            )
        if not (isinstance(self.features, type) and issubclass(self.features, BaseModel)):
            raise DefinitionError(
                f"{where}, features: expected a subclass of pydantic.BaseModel, "
                f"got {self.features!r}."
            )
        if not hasattr(self.source, "read"):
            raise DefinitionError(
                f"{where}, source: expected a source such as Csv(File('rows.csv')), "
                f"got {self.source!r}."
            )
        models = list(self.models) if isinstance(self.models, Sequence) else [self.models]
        names = [model.name for model in models if isinstance(model, Model)]
        if not names or len(names) != len(models) or len(set(names)) != len(names):
            raise DefinitionError(
                f"{where}, models: expected a list of Model with different names, "
                f"got {self.models!r}."
            )
        if self.default is not None and self.default not in names:
            raise DefinitionError(
                f"{where}, default: expected one of {', '.join(names)}, got {self.default!r}."
            )
        if self.target in self.features.model_fields:
            raise DefinitionError(
                f"{where}, target: {self.target!r} is also a feature, so the model would be given "
                "the answer.",
                remedy=f"Remove it from {self.features.__name__}.",
            )
        columns_of(self.features)
        self._settle_drift(where)
        if not self.reference:
            object.__setattr__(self, "reference", self.name)

    def _settle_drift(self, where: str) -> None:
        fields = list(self.features.model_fields)
        if hidden := set(self.unrecorded) - set(self.drift.exclude):
            # All of them missing in life would look like a change.
            exclude = (*self.drift.exclude, *sorted(hidden))
            object.__setattr__(self, "drift", replace(self.drift, exclude=exclude))
        for name in (*self.drift.exclude, *self.drift.season):
            if name.partition(".")[0] not in (*fields, "output"):
                raise DefinitionError(
                    f"{where}, drift: expected columns among {', '.join(fields)}, got {name!r}."
                )
        if self.retrain.half_life is not None and self.drift.dated is None:
            raise DefinitionError(
                f"{where}, retrain: expected drift to tell how old rows are when there is a "
                "half_life, got no date.",
                remedy='Name the column of the source with the time of each row: Drift(dated="…").',
            )

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The features as columns."""
        return columns_of(self.features)

    @cached_property
    def unrecorded(self) -> tuple[str, ...]:
        """The features that are kept out of the journal."""
        return unrecorded_of(self.features)

    @property
    def labels(self) -> tuple[Label, ...] | None:
        """The declared classes in order, or None when training is to find them."""
        return None if self.classes is None else tuple(self.classes)

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models' names, the default one first."""
        names = [model.name for model in self.models]
        first = self.default or names[0]
        return (first, *(name for name in names if name != first))

    @property
    def answering(self) -> tuple[str, ...]:
        """The models that answer a request which names none."""
        return self.model_names if self.contract.models == "all" else self.model_names[:1]

    def model(self, name: str | None = None) -> Model:
        """The model of that name or alias, or the default one.

        Raises:
            NotFound: naming the models there are.
        """
        name = self.model_names[0] if name is None else name
        for model in self.models:
            if name == model.name or name in model.aliases:
                return model
        raise NotFound(
            f"Project {self.name} has no model {name!r}; expected one of: "
            f"{', '.join(self.model_names)}."
        )

    def prepared(self, frame: "polars.DataFrame") -> "tuple[polars.DataFrame, tuple[str, ...]]":
        """The source's frame as `prepare` makes it, and sentences about what it did.

        Raises:
            DefinitionError: `prepare` returns something else.
        """
        made: Any = frame if self.prepare is None else self.prepare(frame)
        # What was prepared may come to be only when it is asked for, beside all that was read.
        del frame
        found = getattr(made, "frame", made)
        if not hasattr(found, "height"):
            raise DefinitionError(
                f"Project {self.name}, prepare: expected a Polars frame, got {type(made).__name__}."
            )
        return found, tuple(getattr(made, "notes", ()))

    def registered(self, model: str) -> str:
        """The name of a model in MLflow's registry."""
        return self.model(model).registered or f"{self.name}_{model}"


def load_project(name: str) -> Project:
    """The project of a bundled name, a path to a Python file, or an entry point's name.

    Raises:
        NotFound: there is none, naming those there are.
        DefinitionError: the definition is wrong: which file and field, expected, got, remedy.
    """
    if name in BUNDLED:
        return _project_in(importlib.import_module(BUNDLED[name]), name)
    path = Path(name)
    if name.endswith(".py") or path.is_file():
        return replace(_project_in(_module_at(path), str(path)), reference=str(path))
    for entry in entry_points(group="timonel.projects"):
        if entry.name == name:
            return _project_in(entry.load(), name)
    raise NotFound(
        f"There is no project {name!r}; expected {', '.join(BUNDLED)}, an installed one, or a "
        "path to a Python file.",
        remedy=f"Make one with: timonel new {name if NAME.fullmatch(name) else 'NAME'}",
    )


def _module_at(path: Path) -> Any:
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(f"timonel_project_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DefinitionError(f"{path}: expected a Python file (.py).")
    module = importlib.util.module_from_spec(spec)
    # pydantic and dataclasses look a class's module up while it is being made.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except DefinitionError as error:
        raise DefinitionError(f"{path}: {error.message}", remedy=error.remedy) from None
    except Exception as error:
        raise DefinitionError(
            f"{path}, line {_line_of(error, path)}: {type(error).__name__}: {error}."
        ) from error
    return module


def _line_of(error: BaseException, path: Path) -> int:
    line = getattr(error, "lineno", 0) or 0
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _project_in(found: Any, where: str) -> Project:
    if isinstance(found, Project):
        return found
    projects = {id(p): p for p in vars(found).values() if isinstance(p, Project)}
    if len(projects) != 1:
        names = ", ".join(project.name for project in projects.values()) or "none"
        raise DefinitionError(
            f"{where}: expected exactly one Project at the top level, got {names}.",
            remedy="Assign one: project = Project(name=…, …).",
        )
    return next(iter(projects.values()))
