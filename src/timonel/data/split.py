"""Which rows train, select and judge: a stable hash of each row's key decides.

The algorithm, which must never change, or old versions would be judged on rows that they were
trained on: each key value becomes a text (whole numbers in decimal; numbers as the decimal of
their IEEE 754 double's 64 bits read as a signed whole number; booleans `true` and `false`; dates as
days and times as microseconds since 1970; bytes as the 16 hex digits of their XXH64). The row's
text is, for each key column in order, the text's length in UTF-8 bytes, `:` and the text, or `-`
where the value is missing. XXH64 of the UTF-8 of that text, a whole number below 2**64, divided by
2**64 is the row's place in 0..1: test rows come first, then validation, then train. XXH64 is with
the seed 0, as its published specification has it and libraries of any language compute it.

The split is stratified within chance: a place depends on its row alone, so of each class's n rows
the share `test` is drawn, give or take the square root of test · (1 - test) / n. Shares that were
exact in every class would depend on the other rows, and a row would change sides as rows are added.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from timonel.errors import DataRefused
from timonel.policies import Split
from timonel.schema import Column

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

__all__ = ["COLUMN", "SIDES", "assign"]

COLUMN = "split"
SIDES = ("train", "validation", "test")

_SLICE = 65_536  # rows whose texts are held as Python objects at a time


def assign(
    frame: "pl.DataFrame", split: Split, columns: Sequence[Column], target: str
) -> "pl.DataFrame":
    """The frame with a text column `split`: train, validation or test.

    The key is `split.key`, or the features and the target. Where `split.given` names a column, its
    test and validation rows stay, and of its train rows the share `split.validation` goes to
    validation and none to test.

    Raises:
        DataRefused: the given column says something else, or a key's type cannot be a key.
    """
    import polars as pl

    key = split.key or (*(column.name for column in columns), target)
    missing = [name for name in (*key, split.given) if name and name not in frame.columns]
    if missing:
        raise DataRefused(
            f"Split: expected the columns {', '.join(missing)}, got {', '.join(frame.columns)}.",
            remedy="Correct key= or given= in the project's Split.",
        )
    place = pl.Series("place", places(frame.select(key)), dtype=pl.Float64)
    hashed = (
        pl.when(place < split.test)
        .then(pl.lit("test"))
        .when(place < split.test + split.validation)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
    )
    if split.given is None:
        return frame.with_columns(hashed.alias(COLUMN))
    given = frame[split.given].cast(pl.String)
    wrong = given.filter(~given.is_in(SIDES) | given.is_null())
    if len(wrong):
        raise DataRefused(
            f"Split: expected {split.given} to be {', '.join(SIDES)} in every row, got "
            f"{wrong[0]!r} in {len(wrong):,} rows.",
            remedy="Correct the source, or prepare the column in the project's definition.",
        )
    divided = (
        pl.when(place < split.validation).then(pl.lit("validation")).otherwise(pl.lit("train"))
    )
    return frame.with_columns(
        pl.when(given == "train").then(divided).otherwise(given).alias(COLUMN)
    )


def places(keys: "pl.DataFrame") -> "np.ndarray":
    """The place of each row in 0..1 (float64), from all of the columns given."""
    import numpy as np
    import polars as pl
    from xxhash import xxh64_intdigest

    row = pl.concat_str(
        pl.concat_str(pl.col(name).str.len_bytes(), pl.lit(":"), name).fill_null("-")
        for name in keys.columns
    ).cast(pl.Binary)
    hashes = np.empty(keys.height, np.uint64)
    for start in range(0, keys.height, _SLICE):
        part = keys[start : start + _SLICE]
        texts = pl.DataFrame([_text(values) for values in part]).select(row).to_series()
        hashes[start : start + part.height] = [xxh64_intdigest(text) for text in texts.to_list()]
    found = hashes.astype(np.float64)
    found /= 2.0**64
    return found


def _text(values: "pl.Series") -> "pl.Series":
    """The values as texts that no release of Polars may write differently."""
    import numpy as np
    import polars as pl
    from xxhash import xxh64_hexdigest

    kind = values.dtype
    if kind == pl.Boolean or kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum):
        return values.cast(pl.String)
    if kind == pl.Date:
        return values.cast(pl.Int32).cast(pl.String)
    if kind == pl.Datetime:
        return values.dt.epoch("us").cast(pl.String)
    if kind == pl.Binary:
        hashed = [None if value is None else xxh64_hexdigest(value) for value in values]
        return pl.Series(values.name, hashed, dtype=pl.String)
    if kind.is_numeric():
        # 0.0 and -0.0, and all NaNs, are one value each: they get one pattern of bits each.
        numbers = values.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0
        numbers[np.isnan(numbers)] = np.nan
        text = pl.Series(values.name, numbers.view(np.int64)).cast(pl.String)
        return text.set(values.is_null(), None)
    raise DataRefused(
        f"Split: expected the key {values.name} to be text, numbers, booleans, dates or bytes, "
        f"got {kind}.",
        remedy="Name other columns in key= of the project's Split.",
    )
