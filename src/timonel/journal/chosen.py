"""Which rows of the journal are meant: by prediction id, or by the values of inputs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from timonel.errors import BadRequest
from timonel.journal.layout import stored_name

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Chosen", "chosen", "matches", "named"]

_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.(\d{1,9}))?")


@dataclass(frozen=True)
class Chosen:
    """Which rows: whole `predictions`, single `rows` of them, or those that have all `values`."""

    predictions: frozenset[str] = frozenset()
    rows: frozenset[tuple[str, int]] = frozenset()
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> set[str]:
        """The predictions that are named."""
        return {*self.predictions, *(prediction for prediction, _ in self.rows)}


def chosen(ids: Sequence[str], values: Sequence[str]) -> Chosen:
    """The rows of prediction ids, as `<id>` or `<id>.<n>`, or with the values `COLUMN=VALUE`.

    Raises:
        BadRequest: it is neither, or both.
    """
    if bool(ids) == bool(values):
        raise BadRequest(
            f"Expected --id or --key, got {'both' if ids else 'neither'}.",
            remedy="Name predictions by --id ID, or rows by --key COLUMN=VALUE.",
        )
    whole, rows = set(), set()
    for given in ids:
        if (found := _ID.fullmatch(given.strip().lower())) is None:
            raise BadRequest(f"--id: expected a prediction id or ID.n, got {given!r}.")
        if found[2] is None:
            whole.add(found[1])
        else:
            rows.add((found[1], int(found[2])))
    pairs = {}
    for given in values:
        column, mark, value = given.partition("=")
        if not mark or not column:
            raise BadRequest(f"--key: expected COLUMN=VALUE, got {given!r}.")
        pairs[column] = value
    return Chosen(frozenset(whole), frozenset(rows), pairs)


def named(frame: "pl.DataFrame") -> "pl.DataFrame":
    """The prediction's UUID and the row of each row of a segment."""
    import polars as pl

    return frame.select(
        request=pl.col("id").str.slice(0, 36),
        row=pl.col("id").str.slice(37).cast(pl.Int64, strict=False).fill_null(0),
    )


def matches(frame: "pl.DataFrame", what: Chosen) -> "pl.Series":
    """Which rows of a segment are meant. Raises BadRequest for a value of another kind."""
    import polars as pl

    if what.ids:
        rows = named(frame)
        whole = rows["request"].is_in(sorted(what.predictions))
        single = pl.Series([row in what.rows for row in rows.rows()], dtype=pl.Boolean)
        return whole | single
    mask = pl.repeat(True, frame.height, dtype=pl.Boolean, eager=True)
    for column, value in what.values.items():
        stored = stored_name(column)
        if stored not in frame.columns:
            return pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
        mask &= _equal(frame[stored], column, value)
    return mask


def _equal(values: "pl.Series", column: str, value: str) -> "pl.Series":
    import polars as pl

    if values.dtype == pl.String:
        found = values == value
    elif values.dtype == pl.Boolean and value.lower() in ("true", "false"):
        found = values == (value.lower() == "true")
    elif values.dtype.is_numeric():
        try:
            found = values.cast(pl.Float64) == float(value)
        except ValueError:
            raise BadRequest(f"--key: expected a number for {column}, got {value!r}.") from None
    else:
        kind = "true or false" if values.dtype == pl.Boolean else "a column of texts or numbers"
        raise BadRequest(f"--key: expected {kind} for {column}, got {value!r}.")
    return found.fill_null(value=False)
