"""How often a version is right: from labels, and estimated while they are late."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from timonel.training.calibration import Calibration
from timonel.training.evaluate import wilson

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Accuracy", "Expected", "estimated", "measured"]


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers with its two-sided interval, over `rows` rows.

    `is_estimate` says that it stands on the version's own confidence and not on labels.
    """

    rows: int
    value: float
    low: float
    high: float
    is_estimate: bool


@dataclass(frozen=True)
class Expected:
    """What calibrated confidence leads one to expect of rows; sums over any parts of them.

    `right` is the expected number of right answers, `variance` that of their number.
    """

    rows: int = 0
    right: float = 0.0
    variance: float = 0.0

    @classmethod
    def of(cls, probability: "np.ndarray", calibration: Calibration) -> "Expected":
        """Of answers whose highest probabilities are these, float (n,)."""
        shares = calibration(probability)
        return cls(len(shares), float(shares.sum()), float((shares * (1 - shares)).sum()))

    def __add__(self, other: "Expected") -> "Expected":
        return Expected(
            self.rows + other.rows, self.right + other.right, self.variance + other.variance
        )

    def accuracy(self, calibration: Calibration, *, confidence: float = 0.95) -> Accuracy | None:
        """The accuracy to expect, with its interval; None without rows."""
        if not self.rows:
            return None
        value = self.right / self.rows
        chance = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(self.variance) / self.rows
        # Held-out rows that were all right do not say that all others are.
        low, high = wilson(value * calibration.rows, calibration.rows, confidence)
        return Accuracy(
            self.rows,
            value,
            max(value - math.hypot(chance, value - low), 0.0),
            min(value + math.hypot(chance, high - value), 1.0),
            is_estimate=True,
        )


def measured(right: int, rows: int, *, confidence: float = 0.95) -> Accuracy | None:
    """The accuracy on labelled rows, with Wilson's interval; None without rows."""
    if not rows:
        return None
    return Accuracy(rows, right / rows, *wilson(right, rows, confidence), is_estimate=False)


def estimated(
    probability: "np.ndarray", calibration: Calibration, *, confidence: float = 0.95
) -> Accuracy | None:
    """The accuracy that calibrated confidence leads one to expect; None without rows.

    `probability` float (n,): the highest probability of each answer. Confidence-based performance
    estimation (Guillory and others, 2021; as NannyML's CBPE). It holds while drift moves the inputs
    and not what they mean: a changed meaning is seen by labels alone. The interval covers the
    chance of the window's rows and of the rows that the calibration was measured on.
    """
    return Expected.of(probability, calibration).accuracy(calibration, confidence=confidence)
