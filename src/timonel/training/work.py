"""What scores parameters on a fold; leading steps that are equal are fitted once a fold."""

import inspect
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from timonel.signature import Label
from timonel.training.evaluate import score_of

__all__ = ["NotComparableError", "Rows", "Work", "described"]

# Most bytes of folds that a process keeps transformed.
_KEPT_BYTES = 512_000_000

Rows = tuple[Any, Any]


@dataclass
class Work:
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
        with warnings.catch_warnings():
            # How many passes are enough is the recipe's choice; the score tells if they were.
            warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")
            estimator.fit(*self._augmented(self.X, self.y, len(self.folds)))
        return estimator, time.perf_counter() - started

    def score_held(self, estimator: Any) -> float:
        """The metric of a fitted estimator on the validation rows."""
        held, truth = self.held or (self.X, self.y)
        return score_of(self.metric, truth, estimator.predict(held), self.classes)

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
            key = None if prefix is None else described(prefix.steps)
        except NotComparableError:
            key = object()  # equal to no other
        kept = self._kept.get(fold)
        if kept is not None and kept[0] == key:
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
        self._keep(fold, key, rows)
        return rows

    def _keep(self, fold: int, key: Any, rows: tuple[Any, ...]) -> None:
        self._kept.pop(fold, None)
        self._kept[fold] = (key, rows)
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


class NotComparableError(Exception):
    """Two of these may differ though they look the same."""


def described(value: Any) -> Any:
    """A value for `==` that is equal for estimators which transform alike.

    Raises:
        NotComparableError: that cannot be told, or it differs each time it is fitted.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return type(value), value
    if isinstance(value, list | tuple):
        return type(value), tuple(described(item) for item in value)
    if isinstance(value, dict):
        return dict, tuple((key, described(item)) for key, item in value.items())
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, type):
        return type, value
    if hasattr(value, "get_params") and hasattr(value, "fit"):
        parameters = value.get_params(deep=False)
        if parameters.get("random_state", 0) is None:
            raise NotComparableError
        return type(value), described(parameters)
    raise NotComparableError
