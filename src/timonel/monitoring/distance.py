"""Distances between two distributions in shares of cells; each takes many windows at once.

`p` is (…, cells) of windows, `q` (cells,) or (…, cells) of the reference; shares add up to 1. They
are NumPy and not SciPy, which has no way to take a thousand windows, and which serving lacks.
"""

from typing import Literal

import numpy as np

__all__ = ["Statistic", "chi_square", "jensen_shannon", "kolmogorov", "psi", "wasserstein"]

Statistic = Literal["wasserstein", "ks", "js", "psi", "chi2", "share"]

_LEAST = 1e-4  # PSI has no value for an empty cell


def wasserstein(
    p: np.ndarray, q: np.ndarray, places: np.ndarray, *, atoms: bool = False
) -> np.ndarray:
    """The area between two cumulative distributions, in units of `places`.

    The first and last cells are below and above the scale, and what they add is left to the caller.
    The others lie between neighbours of `places` (cells - 1,), spread evenly, or with `atoms` at
    `places` (cells - 2,) themselves.
    """
    gap = np.cumsum(p - q, axis=-1)[..., :-1]
    if atoms:
        between: np.ndarray = np.abs(gap[..., 1:-1]) @ np.diff(places)
        return between
    before, after = np.abs(gap[..., :-1]), np.abs(gap[..., 1:])
    total = before + after
    # Where the difference changes its sign within a cell, two triangles and not a trapezium.
    crossed = gap[..., :-1] * gap[..., 1:] < 0
    with np.errstate(divide="ignore", invalid="ignore"):
        area = np.where(crossed, (before**2 + after**2) / total, total)
    whole: np.ndarray = area @ np.diff(places) / 2
    return whole


def kolmogorov(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The largest difference between two cumulative distributions, 0..1."""
    largest: np.ndarray = np.abs(np.cumsum(p - q, axis=-1)).max(axis=-1)
    return largest


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The Jensen–Shannon distance (the root of the divergence in bits), 0..1."""
    middle = (p + q) / 2
    divergence = (_entropy(middle) - (_entropy(p) + _entropy(q)) / 2).clip(0.0)
    distance: np.ndarray = np.sqrt(divergence)
    return distance


def _entropy(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        bits: np.ndarray = np.where(p > 0, -p * np.log2(p), 0.0).sum(axis=-1)
    return bits


def psi(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The population stability index; a share counts as at least 1 in 10,000."""
    p, q = p.clip(_LEAST), q.clip(_LEAST)
    index: np.ndarray = ((p - q) * np.log(p / q)).sum(axis=-1)
    return index


def chi_square(p: np.ndarray, q: np.ndarray, n: float, m: float) -> np.ndarray:
    """The effect size w of the chi-square test that n and m rows are of one distribution.

    Its square times n·m / (n + m) is the test's statistic.
    """
    expected = (n * p + m * q) / (n + m)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = np.where(expected > 0, (p - q) ** 2 / expected, 0.0)
    effect: np.ndarray = np.sqrt(squares.sum(axis=-1))
    return effect
