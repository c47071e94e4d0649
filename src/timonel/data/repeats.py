"""Texts that repeat: a Categorical column is worked out once for each of its texts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["spread"]


def spread(given: "pl.Series", each: "pl.Series", found: "pl.Series") -> "pl.Series":
    """For every row of a Categorical column, what was found for its text.

    `each` are its different texts (`given.unique()`, with the missing one), `found` has a value for
    each of them.
    """
    import polars as pl

    codes = each.to_physical()
    # What is missing has no code: it gets the next after the last.
    top = codes.max()
    none = top + 1 if isinstance(top, int) else 0
    rows = pl.repeat(0, none + 1, dtype=pl.UInt32, eager=True)
    rows[codes.fill_null(none)] = pl.int_range(len(each), dtype=pl.UInt32, eager=True)
    return found.gather(rows.gather(given.to_physical().fill_null(none)))
