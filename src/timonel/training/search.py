"""The search for a recipe's parameters: every trial scored on the same seeded folds."""

import inspect
import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from timonel.engines.local import Local, cores
from timonel.errors import DefinitionError, RunFailed
from timonel.policies import Choice, Float, Grid, Integer, Optuna
from timonel.project import Model, Pretrained
from timonel.signature import Label
from timonel.training.evaluate import score_of

__all__ = ["Fitted", "Trial", "fit"]

# Trials of an Optuna search that are asked for together. It does not depend on the number of
# processes, so that two and four of them find the same.
_BATCH = 4
# Starting processes takes about this many seconds; less work than that is done here.
_WORTH_PROCESSES = 4.0
# Most bytes of folds that a process keeps transformed.
_KEPT_BYTES = 512_000_000

Rows = tuple[Any, Any]


@dataclass
class Trial:
    """One try of a search: its parameters and how they scored.

    `score` is the mean over folds and `spread` their standard deviation; `fold_scores` has fewer
    than all when it was pruned or failed. `seconds` is the time spent in all its folds.
    `estimator`, fitted on all training rows, is kept when the model logs all of its trials.
    """

    number: int
    parameters: dict[str, Any]
    score: float = float("nan")
    spread: float = 0.0
    fold_scores: list[float] = field(default_factory=list)
    seconds: float = 0.0
    state: Literal["running", "complete", "pruned", "failed"] = "running"
    error: str | None = None
    estimator: Any = None


@dataclass(frozen=True)
class Fitted:
    """What a search found: the estimator fitted on all training rows, and how it got there.

    `score` and `spread` (standard deviation) are over the folds of the best trial.
    """

    estimator: Any
    parameters: dict[str, Any]
    score: float
    spread: float
    fold_scores: list[float]
    trials: list[Trial]
    seed: int
    seconds: float


def fit(
    model: Model,
    X: Any,
    y: Sequence[Label] | np.ndarray,
    classes: Sequence[Label],
    *,
    validation: Rows | None = None,
    seed: int = 0,
    jobs: int = 0,
    on_trial: Callable[[Trial], None] = lambda _: None,
    report: Callable[[str, float | None], None] = lambda *_: None,
) -> Fitted:
    """Search, then fit the best parameters on all rows of X.

    `X` is a design matrix of n rows and `y` their labels, all among `classes`. With `model.folds`
    of 0, trials are scored on `validation` (X, y). `jobs` 0 means a process a core. The highest
    mean wins, the first of equals: list simpler values first. `on_trial` is called in this thread
    as each trial ends.

    Raises:
        DefinitionError: the model cannot be searched as it says.
        RunFailed: every trial failed, with the first one's reason.
    """
    if isinstance(model.recipe, Pretrained):
        raise DefinitionError(f"Model {model.name!r}: a pretrained file is not trained.")
    started = time.perf_counter()
    labels = _labels(y, classes)
    if model.folds and validation is not None:
        validation = None
    if validation is not None:
        validation = (validation[0], _labels(validation[1], classes))
    work = _Work(
        recipe=model.recipe,
        X=X,
        y=labels,
        folds=_folds(model, labels, seed, validation, report),
        held=validation,
        classes=tuple(classes),
        metric=model.metric,
        augment=model.augment,
        seed=seed,
    )
    strategy: _Strategy = (
        _Tpe(model.search, seed, len(work.folds))
        if isinstance(model.search, Optuna)
        else _Every(model.search or Grid())
    )
    if "seed" in strategy.names:
        raise DefinitionError(
            f"Model {model.name!r}: search varies 'seed', which would choose luck.",
            remedy="Use repeats=… to average over folds instead.",
        )
    batches = strategy.batches()
    asked = next(batches)
    first = _attempt(work, "score", asked[0].parameters, 0)
    calls = strategy.count * (len(work.folds) + (model.log_models == "all")) - 1
    few = calls < 2 or first[1] * calls < _WORTH_PROCESSES
    jobs = 1 if few else jobs or cores()
    with Local(work, jobs=jobs, code=(model.recipe, model.augment)) as engine:
        trials: list[Trial] = []
        search = _Search(engine, strategy, len(work.folds), model.log_models == "all")
        for batch in itertools.chain([asked], batches):
            for trial in search.run(batch, known={(0, 0): first}):
                trials.append(trial)
                on_trial(trial)
                report(
                    f"trial {len(trials)} of {strategy.count}: {_said(trial)}",
                    len(trials) / strategy.count,
                )
    trials.sort(key=lambda trial: trial.number)
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        raise RunFailed(
            f"Model {model.name!r}: expected a trial that can be fitted, all {len(trials)} "
            f"failed; the first: {trials[0].error}"
        )
    best = max(complete, key=lambda trial: round(trial.score, 12))
    if best.estimator is None:
        report("fitting the best parameters on all training rows", None)
        estimator, _ = work.fit(best.parameters)
    else:
        estimator = best.estimator
    return Fitted(
        estimator=estimator,
        parameters=best.parameters,
        score=best.score,
        spread=best.spread,
        fold_scores=best.fold_scores,
        trials=trials,
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def _said(trial: Trial) -> str:
    return f"{trial.score:.4f}" if trial.state == "complete" else trial.state


def _labels(y: Sequence[Label] | np.ndarray, classes: Sequence[Label]) -> np.ndarray:
    labels = np.asarray(y)
    if labels.dtype == object:
        labels = np.asarray([*labels])
    unknown = sorted(set(np.unique(labels).tolist()) - set(classes), key=str)
    if unknown:
        raise DefinitionError(
            f"Expected labels among {', '.join(map(str, classes))}, got {unknown[0]!r}."
        )
    if len(np.unique(labels)) < 2:
        raise RunFailed("Expected training rows of at least two classes, got one.")
    return labels


def _folds(
    model: Model,
    y: np.ndarray,
    seed: int,
    validation: Rows | None,
    report: Callable[[str, float | None], None],
) -> list[tuple[np.ndarray, np.ndarray] | None]:
    if not model.folds:
        if validation is None or not len(validation[1]):
            raise DefinitionError(
                f"Model {model.name!r}: folds=0 scores on the validation rows, and there are none.",
                remedy="Give Split(validation=…) a share, or the model folds.",
            )
        return [None]
    from sklearn.model_selection import RepeatedStratifiedKFold

    least = int(np.unique(y, return_counts=True)[1].min())
    if least < model.folds:
        report(f"a class has only {least} rows: some folds have none of it", None)
    splitter = RepeatedStratifiedKFold(
        n_splits=model.folds, n_repeats=model.repeats, random_state=seed
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it was reported above
            return list(splitter.split(np.zeros(len(y)), y))
    except ValueError as error:
        raise RunFailed(
            f"Model {model.name!r}: expected rows enough for {model.folds} folds: {error}"
        ) from None


@dataclass
class _Work:
    """What a process needs to score parameters on a fold; it remembers what it transformed."""

    recipe: Callable[..., Any]
    X: Any
    y: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray] | None]
    held: Rows | None
    classes: tuple[Label, ...]
    metric: str
    augment: Callable[..., Any] | None
    seed: int
    _kept: dict[int, tuple[Any, tuple[Any, ...]]] = field(default_factory=dict, repr=False)

    def score(self, parameters: Mapping[str, Any], fold: int) -> tuple[float, float]:
        """The metric on one fold, and the seconds it took."""
        estimator = self._build(parameters)
        prefix, last = _parts(estimator)
        started = time.perf_counter()  # what was imported above is imported once
        X, y, held, truth = self._rows(fold, prefix)
        last.fit(X, y)
        value = score_of(self.metric, truth, last.predict(held), self.classes)
        return value, time.perf_counter() - started

    def fit(self, parameters: Mapping[str, Any]) -> tuple[Any, float]:
        """The estimator fitted on all rows, and the seconds it took."""
        started = time.perf_counter()
        estimator = self._build(parameters)
        estimator.fit(*self._augmented(self.X, self.y, len(self.folds)))
        return estimator, time.perf_counter() - started

    def _build(self, parameters: Mapping[str, Any]) -> Any:
        given = dict(parameters)
        if "seed" in inspect.signature(self.recipe).parameters:
            given["seed"] = self.seed
        return self.recipe(**given)

    def _rows(self, fold: int, prefix: Any) -> tuple[Any, ...]:
        """Training X, y and held-out X, y of a fold, as `prefix` transforms them.

        Trials whose leading steps are equal share the result: it is transformed once.
        """
        try:
            described = None if prefix is None else _described(prefix.steps)
        except _NotComparableError:
            described = object()  # equal to no other
        kept = self._kept.get(fold)
        if kept is not None and kept[0] == described:
            return kept[1]
        indices = self.folds[fold]
        if indices is None:
            rows = (*self._augmented(self.X, self.y, fold), *(self.held or (self.X, self.y)))
        else:
            train, rest = indices
            rows = (
                *self._augmented(_take(self.X, train), self.y[train], fold),
                _take(self.X, rest),
                self.y[rest],
            )
        if prefix is not None:
            X, y, held, truth = rows
            X = prefix.fit_transform(X, y)
            for _, step in prefix.steps:
                # As a whole pipeline does, which asks none of its first steps if it is fitted.
                if step is not None and step != "passthrough":
                    held = step.transform(held)
            rows = (X, y, held, truth)
        self._keep(fold, described, rows)
        return rows

    def _keep(self, fold: int, described: Any, rows: tuple[Any, ...]) -> None:
        self._kept.pop(fold, None)
        self._kept[fold] = (described, rows)
        while len(self._kept) > 1 and (
            sum(_bytes(X) for kept in self._kept.values() for X in kept[1]) > _KEPT_BYTES
        ):
            del self._kept[next(iter(self._kept))]

    def _augmented(self, X: Any, y: np.ndarray, fold: int) -> tuple[Any, np.ndarray]:
        if self.augment is None:
            return X, y
        X, y = self.augment(X, y, np.random.default_rng([self.seed, fold]))
        return X, y


def _take(X: Any, rows: np.ndarray) -> Any:
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _bytes(X: Any) -> int:
    if hasattr(X, "memory_usage"):
        return int(X.memory_usage(deep=False).sum())
    return int(getattr(X, "nbytes", 0) or getattr(getattr(X, "data", None), "nbytes", 0))


def _parts(estimator: Any) -> tuple[Any, Any]:
    """The leading steps of a pipeline and its last; (None, estimator) when it has none."""
    from sklearn.pipeline import Pipeline

    plain = type(estimator) is Pipeline and len(estimator.steps) > 1
    if (
        not plain
        or not hasattr(estimator.steps[-1][1], "fit")
        or getattr(estimator, "transform_input", None)
    ):
        return None, estimator
    return estimator[:-1], estimator.steps[-1][1]


class _NotComparableError(Exception):
    """Two of these may differ though they look the same."""


def _described(value: Any) -> Any:
    """A value for `==` that is equal for estimators which transform alike.

    Raises:
        _NotComparableError: that cannot be told, or it differs each time it is fitted.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return type(value), value
    if isinstance(value, list | tuple):
        return type(value), tuple(_described(item) for item in value)
    if isinstance(value, dict):
        return dict, tuple((key, _described(item)) for key, item in value.items())
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, type):
        return type, value
    if hasattr(value, "get_params") and hasattr(value, "fit"):
        parameters = value.get_params(deep=False)
        if parameters.get("random_state", 0) is None:
            raise _NotComparableError
        return type(value), _described(parameters)
    raise _NotComparableError


class _Strategy(Protocol):
    """Which trials there are; `ahead` is how many folds of one may be under way, 0 for all."""

    count: int
    names: tuple[str, ...]
    ahead: int

    def batches(self) -> Iterator[list[Trial]]: ...

    def prune(self, trial: Trial) -> bool: ...


class _Every:
    """Each combination of a grid, all at once."""

    ahead = 0

    def __init__(self, grid: Grid) -> None:
        self.names = grid.parameters
        self._trials = [
            Trial(number, dict(zip(grid.space, values, strict=True)))
            for number, values in enumerate(itertools.product(*grid.space.values()))
        ]
        self.count = len(self._trials)

    def batches(self) -> Iterator[list[Trial]]:
        yield self._trials

    def prune(self, trial: Trial) -> bool:
        return False


class _Tpe:
    """Optuna's sampler and pruner, asked and told in a fixed order so that a seed repeats.

    A trial is compared with trials of earlier batches only: which of its neighbours was faster
    changes nothing.
    """

    def __init__(self, search: Optuna, seed: int, folds: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.count = search.trials
        self.names = search.parameters
        self.ahead = 1 if search.prune and folds > 1 else 0
        self._space = search.space
        self._asked: dict[int, Any] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar is marked experimental
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        self._study = optuna.create_study(
            direction="maximize",
            sampler=sampler,
            pruner=optuna.pruners.MedianPruner() if search.prune else optuna.pruners.NopPruner(),
        )

    def batches(self) -> Iterator[list[Trial]]:
        from optuna.trial import TrialState

        for start in range(0, self.count, _BATCH):
            batch = [self._ask() for _ in range(min(_BATCH, self.count - start))]
            yield batch
            for trial in batch:
                asked = self._asked.pop(trial.number)
                if trial.state == "complete":
                    self._study.tell(asked, trial.score)
                else:
                    pruned = trial.state == "pruned"
                    self._study.tell(asked, state=TrialState.PRUNED if pruned else TrialState.FAIL)

    def prune(self, trial: Trial) -> bool:
        asked = self._asked[trial.number]
        asked.report(float(np.mean(trial.fold_scores)), len(trial.fold_scores))
        return bool(asked.should_prune())

    def _ask(self) -> Trial:
        asked = self._study.ask()
        parameters: dict[str, Any] = {}
        for name, dimension in self._space.items():
            match dimension:
                case Integer(low, high, log):
                    parameters[name] = asked.suggest_int(name, low, high, log=log)
                case Float(low, high, log):
                    parameters[name] = asked.suggest_float(name, low, high, log=log)
                case Choice(values=values):
                    # Optuna stores choices as JSON-like values; their places always are.
                    index = asked.suggest_categorical(name, list(range(len(values))))
                    parameters[name] = values[index]
        self._asked[asked.number] = asked
        return Trial(asked.number, parameters)


Answer = tuple[Any, float]


def _attempt(work: _Work, method: str, *arguments: Any) -> Answer | tuple[Exception, float]:
    try:
        return getattr(work, method)(*arguments)  # type: ignore[no-any-return]
    except Exception as error:  # noqa: BLE001 - any error of the user's recipe fails its trial
        return error, 0.0


def _over(trial: Trial) -> bool:
    return trial.state != "running"


def _ended(answer: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    if isinstance(answer[0], Exception):
        future.set_exception(answer[0])
    else:
        future.set_result(answer)
    return future


@dataclass
class _Search:
    """Runs batches of trials on an engine."""

    engine: Local
    strategy: _Strategy
    folds: int
    keep: bool
    _scores: dict[int, dict[int, float]] = field(default_factory=dict)

    def run(self, batch: list[Trial], known: Mapping[tuple[int, int], Any]) -> Iterator[Trial]:
        """The trials, each as it ends."""
        pending: dict[Future[Any], tuple[Trial, int]] = {}
        ready: list[Future[Any]] = []
        for trial in batch:
            self._scores[trial.number] = {}
            for fold in range(self.strategy.ahead or self.folds):
                if (trial.number, fold) in known:
                    future = _ended(known[trial.number, fold])
                    ready.append(future)
                else:
                    future = self.engine.submit("score", trial.parameters, fold)
                pending[future] = (trial, fold)
        while pending:
            future = ready.pop() if ready else self.engine.next_done()
            trial, fold = pending.pop(future)
            if _over(trial):
                continue  # another fold of it failed
            pending.update(self._took(trial, fold, future))
            if _over(trial):
                yield trial

    def _took(
        self, trial: Trial, fold: int, future: "Future[Any]"
    ) -> dict["Future[Any]", tuple[Trial, int]]:
        """Notes an answer; the calls that follow from it."""
        if (error := future.exception()) is not None:
            trial.state = "failed"
            trial.error = f"{type(error).__name__}: {error}"
            return {}
        value, seconds = future.result()
        if fold == self.folds:
            trial.estimator = value
            trial.state = "complete"
            return {}
        scores = self._scores[trial.number]
        scores[fold] = value
        trial.seconds += seconds
        trial.fold_scores = [scores[number] for number in sorted(scores)]
        trial.score = float(np.mean(trial.fold_scores))
        if len(scores) < self.folds:
            if not self.strategy.ahead:
                return {}
            if self.strategy.prune(trial):
                trial.state = "pruned"
                return {}
            return {self.engine.submit("score", trial.parameters, fold + 1): (trial, fold + 1)}
        trial.spread = float(np.std(trial.fold_scores, ddof=1)) if self.folds > 1 else 0.0
        if self.keep:
            return {self.engine.submit("fit", trial.parameters): (trial, self.folds)}
        trial.state = "complete"
        return {}
