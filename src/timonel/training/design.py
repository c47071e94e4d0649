"""What an estimator is fitted on, made from arrays."""

from collections.abc import Sequence
from typing import Any

from timonel.schema import Column
from timonel.tensors import Arrays, binding_for, feed

__all__ = ["design_matrix"]


def design_matrix(columns: Sequence[Column], arrays: Arrays) -> Any:
    """`X` of n rows for scikit-learn.

    Numbers only: float32 (n, columns). An image: float32 (n, size). With any category: a pandas
    frame with a column a feature, float32 (NaN missing) or objects of str ("" missing).
    """
    binding = binding_for(columns)
    if binding.layout != "columns":
        return next(iter(feed(binding, columns, arrays).values()))
    import pandas as pd

    return pd.DataFrame(
        {
            column.name: pd.Series(
                arrays[column.name], dtype=object if column.kind == "category" else "float32"
            )
            for column in columns
        }
    )
