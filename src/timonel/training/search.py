"""The search for a recipe's parameters: every trial scored on the same seeded folds."""

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from timonel.engines.local import Local, cores
from timonel.errors import DefinitionError, RunFailed
from timonel.policies import Grid, Optuna
from timonel.project import Model, Pretrained
from timonel.signature import Label
from timonel.training.strategies import Every, Strategy, Tpe, Trial
from timonel.training.work import Rows, Work

__all__ = ["Fitted", "Trial", "fit"]

# Starting processes takes about this many seconds; less work than that is done here.
_WORTH_PROCESSES = 4.0


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
    work = Work(
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
    strategy: Strategy = (
        Tpe(model.search, seed, len(work.folds))
        if isinstance(model.search, Optuna)
        else Every(model.search or Grid())
    )
    if "seed" in strategy.names:
        raise DefinitionError(
            f"Model {model.name!r}: search varies 'seed', which would choose luck.",
            remedy="Use repeats=… to average over folds instead.",
        )
    batches = strategy.batches()
    asked = next(batches)
    if strategy.count == 1 and validation is not None:
        report("fitting on all training rows", None)
        estimator = _only(work, model, asked[0])
        on_trial(asked[0])
        report(f"trial 1 of 1: {_said(asked[0])}", 1.0)
        return _fitted(asked[0], estimator, asked, seed, started)
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
    return _fitted(best, estimator, trials, seed, started)


def _only(work: Work, model: Model, trial: Trial) -> Any:
    """Score parameters that have no rivals with the very estimator that is kept: fitted once."""
    fitted = _attempt(work, "fit", trial.parameters)
    if isinstance(fitted[0], Exception):
        raise RunFailed(
            f"Model {model.name!r}: expected a trial that can be fitted, all 1 failed; the first: "
            f"{type(fitted[0]).__name__}: {fitted[0]}"
        ) from fitted[0]
    estimator, trial.seconds = fitted
    trial.score = work.score_held(estimator)
    trial.fold_scores = [trial.score]
    trial.state = "complete"
    trial.estimator = estimator if model.log_models == "all" else None
    return estimator


def _fitted(best: Trial, estimator: Any, trials: list[Trial], seed: int, started: float) -> Fitted:
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


Answer = tuple[Any, float]


def _attempt(work: Work, method: str, *arguments: Any) -> Answer | tuple[Exception, float]:
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
    strategy: Strategy
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
