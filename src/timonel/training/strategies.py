"""Which trials a search tries, in an order that a seed repeats."""

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from timonel.policies import Choice, Float, Grid, Integer, Optuna

__all__ = ["Every", "Strategy", "Tpe", "Trial"]

# Trials of an Optuna search that are asked for together. It does not depend on the number of
# processes, so that two and four of them find the same.
_BATCH = 4


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


class Strategy(Protocol):
    """Which trials there are; `ahead` is how many folds of one may be under way, 0 for all."""

    count: int
    names: tuple[str, ...]
    ahead: int

    def batches(self) -> Iterator[list[Trial]]:
        """Trials to run together; the next batch is asked for when all of one have ended."""
        ...

    def prune(self, trial: Trial) -> bool:
        """Whether a trial should stop after the folds that it has."""
        ...


class Every:
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
        """All of them."""
        yield self._trials

    def prune(self, trial: Trial) -> bool:
        """Never: a grid tries everything."""
        return False


class Tpe:
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
        """A few at a time; what they scored is told in the order in which they were asked for."""
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
        """Whether it is worse than the median of earlier batches' after as many folds."""
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
