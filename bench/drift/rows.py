"""The rows of the comparison: 12 numbers and 4 categories, of several shapes; NumPy only."""

from typing import Any

import numpy as np

NUMBERS, CATEGORIES = 12, 4
SHIFTED = "x0"  # normal, standard deviation 1


def rows(count: int, rng: np.random.Generator, *, shift: float = 0.0) -> dict[str, Any]:
    """Columns by name; `shift` moves one of the 16 by so many of its standard deviations."""
    made: dict[str, Any] = {f"x{n}": rng.normal(10 * n, 1 + n, count) for n in range(8)}
    made[SHIFTED] += shift
    made["x8"] = rng.lognormal(0.0, 0.5, count)
    made["x9"] = rng.exponential(3.0, count)
    made["x10"] = rng.uniform(0.0, 1.0, count)
    made["x11"] = rng.poisson(4.0, count).astype(float)
    for n, size in enumerate((2, 8, 20, 60)):
        weights = 1.0 / np.arange(1, size + 1)
        names = np.array([f"value {k}" for k in range(size)], dtype=object)
        made[f"c{n}"] = names[rng.choice(size, count, p=weights / weights.sum())]
    return made
