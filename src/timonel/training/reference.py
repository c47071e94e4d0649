"""The training rows that a version carries along, for drift to compare with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from timonel.schema import Column

if TYPE_CHECKING:
    import polars

__all__ = ["reference_rows"]

LIMIT = 20_000


def reference_rows(
    frame: "polars.DataFrame",
    columns: Sequence[Column],
    target: str,
    *,
    limit: int = LIMIT,
    seed: int = 0,
) -> "polars.DataFrame":
    """At most `limit` rows of the features and the target, drawn evenly, in their given order.

    The order is kept because real traffic comes in blocks: drift needs rows that were neighbours.
    """
    import numpy as np

    chosen = frame.select([column.name for column in columns] + [target])
    if chosen.height <= limit:
        return chosen
    rows = np.random.default_rng(seed).choice(chosen.height, size=limit, replace=False)
    return chosen[np.sort(rows)]
