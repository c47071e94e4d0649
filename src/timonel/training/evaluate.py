"""How good a version is on rows it never saw, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from timonel.signature import Label

__all__ = [
    "ClassReport",
    "Evaluation",
    "Interval",
    "confusion_figure",
    "evaluate",
    "metric_of_counts",
    "score_of",
    "wilson",
]

_RESAMPLES = 2_000
# From here on the mean of that many values is normal for all that matters, and costs nothing.
_NORMAL_FROM = 20_000


@dataclass(frozen=True)
class Interval:
    """An estimate with the two-sided interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassReport:
    """One class: precision, recall and F1 (0..1; 0 where undefined), and its number of rows."""

    label: Label
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Evaluation:
    """The result on `rows` held-out rows.

    `metrics` has accuracy, balanced_accuracy, f1_weighted and, with probabilities, log_loss; each
    interval has `confidence`. `confusion[i][j]` counts rows of class i answered as class j.
    """

    rows: int
    metric: str
    confidence: float
    seed: int
    metrics: dict[str, Interval]
    classes: tuple[ClassReport, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def value(self) -> float:
        """The value of the project's metric."""
        return self.metrics[self.metric].value

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        from dataclasses import asdict

        return asdict(self)


def evaluate(
    y: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray | None,
    classes: Sequence[Label],
    metric: str = "accuracy",
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Compare answers with the truth.

    `y` and `predicted` are indices into `classes`, int64 (n,); `probabilities` float (n, classes)
    or None. Accuracy has Wilson's interval, balanced accuracy the recalls' Wilson intervals
    combined (MOVER, Zou and Donner 2008), weighted F1 and log loss a seeded bootstrap of the rows.
    """
    counts = _confusion(y, predicted, len(classes))
    rows = int(counts.sum())
    metrics = {
        "accuracy": Interval(
            float(metric_of_counts("accuracy", counts)), *wilson(np.trace(counts), rows, confidence)
        ),
        "balanced_accuracy": _balanced(counts, confidence),
        "f1_weighted": _resampled(counts, confidence, seed),
    }
    if probabilities is not None and rows:
        metrics["log_loss"] = _log_loss(y, probabilities, confidence, seed)
    support, answered, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    precision, recall = _ratio(right, answered), _ratio(right, support)
    f1 = _ratio(2 * right, answered + support)
    return Evaluation(
        rows=rows,
        metric=metric,
        confidence=confidence,
        seed=seed,
        metrics=metrics,
        classes=tuple(
            ClassReport(label, float(precision[k]), float(recall[k]), float(f1[k]), int(support[k]))
            for k, label in enumerate(classes)
        ),
        confusion=tuple(tuple(int(count) for count in row) for row in counts),
    )


def score_of(metric: str, y: Any, predicted: Any, classes: Sequence[Label]) -> float:
    """The metric of labels (not indices) against the truth."""
    index = {label: position for position, label in enumerate(classes)}
    truth = np.array([index[label] for label in np.asarray(y).tolist()], dtype=np.int64)
    answer = np.array([index[label] for label in np.asarray(predicted).tolist()], dtype=np.int64)
    return float(metric_of_counts(metric, _confusion(truth, answer, len(classes))))


def metric_of_counts(metric: str, counts: np.ndarray) -> Any:
    """The metric of confusion counts (…, classes, classes), one value a matrix.

    Classes without rows count neither for balanced accuracy nor for weighted F1.
    """
    counts = np.asarray(counts)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    support, answered = counts.sum(axis=-1), counts.sum(axis=-2)
    total = support.sum(axis=-1)
    if metric == "accuracy":
        return _ratio(right.sum(axis=-1), total)
    if metric == "balanced_accuracy":
        return _ratio(_ratio(right, support).sum(axis=-1), (support > 0).sum(axis=-1))
    return _ratio((support * _ratio(2 * right, answered + support)).sum(axis=-1), total)


def wilson(right: float, rows: int, confidence: float) -> tuple[float, float]:
    """Wilson's two-sided score interval of a share (Wilson 1927); 0..1 without rows."""
    if not rows:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, extra = right / rows, z * z / rows
    middle = share + extra / 2
    half = z * math.sqrt(share * (1 - share) / rows + extra / rows / 4)
    low, high = (middle - half) / (1 + extra), (middle + half) / (1 + extra)
    # At the ends the bound is exactly 0 or 1; rounding must not say otherwise.
    return (0.0 if right == 0 else float(low)), (1.0 if right == rows else float(high))


def confusion_figure(evaluation: Evaluation) -> bytes:
    """The confusion matrix as a PNG, shares of each true class as colour, counts as text."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.array(evaluation.confusion)
    labels = [str(report.label) for report in evaluation.classes]
    shares = _ratio(counts, counts.sum(axis=1, keepdims=True))
    side = min(3.0 + 0.5 * len(labels), 16.0)
    figure = Figure(figsize=(side, side), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45 if len(labels) > 5 else 0)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    value = evaluation.metrics["accuracy"]
    axes.set_title(f"{evaluation.rows:,} rows, accuracy {value.value:.4f}")
    if len(labels) <= 25:  # with more, the numbers could not be read
        for (row, column), count in np.ndenumerate(counts):
            axes.text(
                column,
                row,
                f"{count}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.5 else "black",
            )
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _confusion(y: np.ndarray, predicted: np.ndarray, size: int) -> np.ndarray:
    cells = np.asarray(y, np.int64) * size + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def _ratio(part: Any, whole: Any) -> Any:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole > 0)


def _balanced(counts: np.ndarray, confidence: float) -> Interval:
    support, right = counts.sum(axis=1), np.diag(counts)
    present = np.flatnonzero(support)
    value = float(metric_of_counts("balanced_accuracy", counts))
    if not present.size:
        return Interval(value, 0.0, 1.0)
    below = above = 0.0
    for k in present:
        recall = right[k] / support[k]
        low, high = wilson(right[k], int(support[k]), confidence)
        below += (recall - low) ** 2
        above += (high - recall) ** 2
    half_below, half_above = math.sqrt(below) / present.size, math.sqrt(above) / present.size
    return Interval(value, max(0.0, value - half_below), min(1.0, value + half_above))


def _resampled(counts: np.ndarray, confidence: float, seed: int) -> Interval:
    """Weighted F1 with the percentiles of a bootstrap of the rows.

    Rows drawn with replacement fall into the confusion matrix's cells as a multinomial draw does:
    the same bootstrap, at a cost that does not grow with the rows.
    """
    value = float(metric_of_counts("f1_weighted", counts))
    rows = int(counts.sum())
    if not rows:
        return Interval(value, 0.0, 1.0)
    used = np.flatnonzero(counts.ravel())
    draws = np.random.default_rng(seed).multinomial(
        rows, counts.ravel()[used] / rows, size=_RESAMPLES
    )
    values = np.empty(_RESAMPLES)
    for start in range(0, _RESAMPLES, 250):
        part = np.zeros((len(draws[start : start + 250]), counts.size), np.int64)
        part[:, used] = draws[start : start + 250]
        values[start : start + 250] = metric_of_counts(
            "f1_weighted", part.reshape(-1, *counts.shape)
        )
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))


def _log_loss(y: np.ndarray, probabilities: np.ndarray, confidence: float, seed: int) -> Interval:
    likely = np.asarray(probabilities, np.float64)[np.arange(len(y)), np.asarray(y, np.int64)]
    losses = -np.log(np.clip(likely, np.finfo(np.float32).eps, 1.0))
    value = float(losses.mean())
    if len(losses) < 2 or float(np.ptp(losses)) == 0.0:
        return Interval(value, value, value)
    if len(losses) >= _NORMAL_FROM:
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        half = z * float(losses.std(ddof=1)) / math.sqrt(len(losses))
        return Interval(value, max(0.0, value - half), value + half)
    from scipy.stats import bootstrap

    found = bootstrap(
        (losses,),
        np.mean,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        batch=max(1, 2_000_000 // len(losses)),
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))
