"""How often a version is right when it says how sure it is: measured on held-out rows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Calibration", "calibrate"]

_POINTS = 64
_LEAST_ROWS = 30


@dataclass(frozen=True)
class Calibration:
    """Points of a rising function from the highest probability to the share of right answers.

    Both are in 0..1 and as long as each other; `rows` is how many held-out rows it stands on.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "confidence": list(self.confidence),
            "accuracy": list(self.accuracy),
            "rows": self.rows,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Calibration":
        """What `to_dict` gave."""
        return cls(tuple(values["confidence"]), tuple(values["accuracy"]), int(values["rows"]))

    def __call__(self, confidence: "np.ndarray") -> "np.ndarray":
        """The expected share of right answers, float64 (n,), at highest probabilities (n,)."""
        import numpy as np

        return np.asarray(np.interp(confidence, self.confidence, self.accuracy))


def calibrate(confidence: "np.ndarray", right: "np.ndarray") -> Calibration | None:
    """The share of right answers as a rising function of the highest probability.

    `confidence` float (n,) in 0..1 and `right` bool (n,) are of rows that nothing was trained on.
    Fitted by isotonic regression (Zadrozny and Elkan, 2002) to at most 64 points. None for fewer
    than 30 rows, on which a curve would be noise.
    """
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    if len(confidence) < _LEAST_ROWS:
        return None
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted.fit(confidence.astype(np.float64), right.astype(np.float64))
    sure, share = fitted.X_thresholds_, fitted.y_thresholds_
    if len(sure) > _POINTS:
        kept = np.unique(np.linspace(0, len(sure) - 1, _POINTS).round().astype(int))
        sure, share = sure[kept], share[kept]
    return Calibration(
        confidence=tuple(map(float, sure)),
        accuracy=tuple(map(float, share)),
        rows=len(confidence),
    )
