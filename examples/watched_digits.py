"""Digits that are watched, trained anew and rolled out within minutes: to be simulated.

timonel simulate examples/watched_digits.py --serve --drift --labels 1 --rate 80 --seconds 300
"""

from dataclasses import replace
from typing import Any

from timonel import Canary, Drift, Gate, Limits, Model, Retrain
from timonel.projects import digits


def some(raw: Any) -> Any:
    """About 14,000 rows, of as many or more."""
    return raw.gather_every(max(1, raw.height // 14_000))


def jittered(X: Any, y: Any, rng: Any) -> Any:
    """One more of each of many pictures, twenty of each of few."""
    from timonel.training.augment import Augment

    copies = 1 if len(X) >= 10_000 else 20
    return Augment(copies, shift=1.5, rotate=10, scale=0.15, shear=0.15)(X, y, rng)


# What takes seconds here takes hours or days where traffic is real.
project = replace(
    digits.project,
    prepare=some,
    models=[Model("clf", digits.perceptron, folds=0, augment=jittered)],
    gate=Gate(floor=0.7, past=0.05),
    drift=Drift(every=5, window=400, ordered=True),
    retrain=Retrain(on=("drift",), windows=1, rows=500, cooldown=5),
    rollout=Canary(
        steps=(0.2, 0.5, 1),
        requests=100,
        seconds=5,
        longest=600,
        watch=5,
        limits=Limits(errors=0.02, slower=5),
    ),
)
