"""Cleaning: the usual repairs of a table of records, each leaving a sentence about what it did."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Self

from timonel.data.repeats import spread
from timonel.errors import DataRefused

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Cleaning", "moments", "snake_case"]

# As portals write them: exported tables, and APIs (ISO 8601 with or without parts of a second).
_FORMATS = (
    "%m/%d/%Y %I:%M:%S %p",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%m/%d/%Y %H:%M",
)
_DAY_FIRST = r"^\s*(1[3-9]|2\d|3[01])/(0?[1-9]|1[0-2])/\d{4}"
_ROW = "row number"
_SLICE = 65_536
# A share of dates above which what cannot be read is not a slip but another way of writing.
_MOST_UNREAD = 0.05


def snake_case(name: str) -> str:
    """`Primary Type` and `primaryType` as `primary_type`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^0-9a-z]+", "_", spaced.lower()).strip("_")


class Cleaning:
    """A frame of texts and what was done to it: `Cleaning(frame).padded("code", 4).complete()`.

    Each method gives a new one. They raise DataRefused, and name the columns, when some are
    missing or hold something else altogether.
    """

    def __init__(
        self, frame: "pl.DataFrame", notes: tuple[str, ...] = (), kept: "pl.Series | None" = None
    ) -> None:
        """`kept` says of each row whether it is to stay (default: all are)."""
        self._rows = frame
        self._kept = kept
        self.notes = notes

    @property
    def frame(self) -> "pl.DataFrame":
        """The rows as they are now."""
        import polars as pl

        # Rows are taken away only when they are asked for, and column by column, so that no more
        # than one column is there twice.
        if self._kept is not None:
            columns, self._rows = self._rows.get_columns()[::-1], pl.DataFrame()
            self._rows = pl.DataFrame(
                [columns.pop().filter(self._kept) for _ in range(len(columns))]
            )
            self._kept = None
        return self._rows

    def padded(self, column: str, width: int, *, letter: bool = False) -> Self:
        """Put back the leading zeros that a spreadsheet took from a code of `width` characters.

        With `letter`, one that ends the code does not count: 8B of width 2 becomes 08B.
        """
        import polars as pl

        self._require([column])
        frame = self.frame
        given = frame[column].cast(pl.String)
        # Codes are few and rows many: each different one is looked at once.
        codes = given.unique().drop_nulls()
        code = codes.str.strip_chars().str.replace(r"\.0$", "")
        long = code.str.contains(r"[A-Za-z]$") & letter
        full = code.str.zfill(width + 1).zip_with(long, code.str.zfill(width))
        changed = codes != full
        if not changed.any():
            return self
        old, new = codes.filter(changed), full.filter(changed)
        count = int(given.is_in(old.implode()).sum())
        example = old.sort()[-1]
        return self._with(
            frame.with_columns(given.replace(old, new)),
            f"{column}: {count:,} of {len(given):,} codes had lost leading zeros, which were put "
            f"back (such as {example!r}, now {new.filter(old == example)[0]!r}).",
        )

    def dated(self, column: str, *, since: datetime | None = None) -> Self:
        """Parse a column of dates; those that cannot be read or are before `since` are missing.

        Raises:
            DataRefused: more than 1 in 20 cannot be read, or they are written day first.
        """
        self._require([column])
        frame = self.frame
        parsed, notes = moments(frame[column], since)
        return self._with(frame.with_columns(parsed), *notes)

    def calendar(
        self,
        column: str,
        *,
        month: str = "month",
        day: str = "day",
        weekday: str = "weekday",
        hour: str = "hour",
    ) -> Self:
        """Add month 1–12, day 1–31, weekday 0–6 (Monday 0) and hour 0–23 of a `dated` column."""
        import polars as pl

        self._require([column])
        moment = pl.col(column).dt
        columns = {
            month: moment.month(),
            day: moment.day(),
            weekday: moment.weekday() - 1,
            hour: moment.hour(),
        }
        return self._with(
            self._rows.with_columns(value.alias(name) for name, value in columns.items()),
            kept=self._kept,
        )

    def latest(
        self, *, ignoring: Sequence[str], by: Sequence[str], dropping: Sequence[str] = ()
    ) -> Self:
        """Of rows that are equal but for the columns `ignoring`, keep the last in order of `by`.

        Missing values are first in that order. The rows that are kept stay in the order they have.
        Columns that are of no use after the comparison may be named in `dropping`.
        """
        import polars as pl

        self._require(by)
        frame = self.frame
        compared = [name for name in frame.columns if name not in ignoring]
        # Hashing rows to numbers and comparing only those that share one is several times cheaper
        # than comparing all of their texts.
        suspects = frame.with_row_index(_ROW).filter(_alike(frame.select(compared)))
        latest = suspects.sort(by, maintain_order=True, nulls_last=False)
        latest = latest.unique(subset=compared, keep="last")
        repeated = suspects[_ROW].filter(~suspects[_ROW].is_in(latest[_ROW].implode()))
        used = frame.drop(dropping, strict=False)
        if not len(repeated):
            return self._with(used)
        every = pl.int_range(frame.height, dtype=pl.UInt32, eager=True)
        return self._with(
            used,
            f"{len(repeated):,} of {frame.height:,} rows repeat another but for "
            f"{', '.join(ignoring)}: the latest was kept.",
            kept=~every.is_in(repeated.implode()),
        )

    def complete(self, columns: Sequence[str] = ()) -> Self:
        """Drop rows with nothing in one of `columns` (default: all), and count them."""
        import polars as pl

        names = list(columns) or self._rows.columns
        self._require(names)
        kept = self._kept
        if kept is None:
            kept = pl.repeat(True, self._rows.height, dtype=pl.Boolean, eager=True)
        lacking = {name: kept & self._rows[name].is_null() for name in names}
        rows = int(kept.sum())
        for holes in lacking.values():
            kept &= ~holes
        dropped = rows - int(kept.sum())
        if not dropped:
            return self
        where = ", ".join(
            f"{name} {count:,}" for name, holes in lacking.items() if (count := int(holes.sum()))
        )
        return self._with(
            self._rows,
            f"{dropped:,} of {rows:,} rows ({dropped / rows:.1%}) were left out for what they "
            f"lack: {where}.",
            kept=kept,
        )

    def _require(self, columns: Sequence[str]) -> None:
        there = self._rows.columns
        absent = [name for name in columns if name not in there]
        if absent:
            raise DataRefused(
                f"Expected the columns {', '.join(columns)}; {', '.join(absent)} "
                f"{'is' if len(absent) == 1 else 'are'} missing, "
                f"got {', '.join(there)}.",
                remedy="Check that this is the table meant, with its header.",
            )

    def _with(self, frame: "pl.DataFrame", *notes: str, kept: "pl.Series | None" = None) -> Self:
        return type(self)(frame, (*self.notes, *notes), kept)


def _alike(frame: "pl.DataFrame") -> "pl.Series":
    """Where a row may equal another: all that do, and hardly any that do not."""
    import numpy as np
    import polars as pl

    # Texts that repeat are compared by their numbers; and hashing takes several times the memory of
    # the rows that it is given, so it is given few.
    coded = frame.with_columns(pl.col(pl.Categorical, pl.Enum).to_physical())
    hashes = np.empty(frame.height, np.uint64)
    for start in range(0, frame.height, _SLICE):
        hashes[start : start + _SLICE] = coded[start : start + _SLICE].hash_rows(seed=0)
    ordered = np.sort(hashes)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    return pl.Series(hashes).is_in(pl.Series(shared).implode())


def moments(
    given: "pl.Series", since: datetime | None = None
) -> tuple["pl.Series", tuple[str, ...]]:
    """A column of texts as Datetime (µs), and sentences about those that are none.

    Raises:
        DataRefused: more than 1 in 20 cannot be read, or they are written day first.
    """
    import polars as pl

    if given.dtype == pl.Categorical:
        texts = given.unique()
        found = spread(given, texts, _parsed(texts.cast(pl.String)))
    elif given.dtype.is_temporal():
        found = given.cast(pl.Datetime("us"))
    else:
        found = _parsed(given.cast(pl.String))
    unread = given.is_not_null() & found.is_null()
    if since is not None:
        unread |= (found < since).fill_null(False)
    count = int(unread.sum())
    if not count:
        return found, _without_hours(found)
    wrong = given.filter(unread).cast(pl.String)
    expected = "01/31/2024 11:59:00 PM or 2024-01-31T23:59:00"
    if since is not None:
        expected += f", not before {since:%Y}"
    told = f"{given.name}: expected dates such as {expected}, got {wrong[0]!r}"
    if wrong.str.contains(_DAY_FIRST).any():
        raise DataRefused(
            f"{told}: they are written day first, and those of the first twelve days of a month "
            "would be read wrongly.",
            remedy="Write them month first or as 2024-01-31T23:59:00, or fetch the file again.",
        )
    if count > _MOST_UNREAD * max(len(given), 1):
        raise DataRefused(
            f"{told} in {count:,} of {len(given):,} rows.",
            remedy="Fetch the file again; a spreadsheet may have rewritten its dates.",
        )
    found = found.set(unread, None)
    return found, (f"{told} in {count:,} rows: taken as missing.", *_without_hours(found))


def _parsed(texts: "pl.Series") -> "pl.Series":
    """The texts as Datetime (µs), null where they are none."""
    import polars as pl

    found = pl.repeat(None, len(texts), dtype=pl.Datetime("us"), eager=True).alias(texts.name)
    # Hardly any file has spaces around them, and taking those off costs as much as reading them.
    for form in (*_FORMATS, None, *_FORMATS):
        if found.null_count() == texts.null_count():
            break
        if form is None:
            texts = texts.str.strip_chars()
            continue
        parsed = texts.str.to_datetime(form, strict=False, time_unit="us")
        found = parsed.zip_with(parsed.is_not_null(), found) if parsed.has_nulls() else parsed
    return found


def _without_hours(found: "pl.Series") -> tuple[str, ...]:
    if len(found) < 100 or found.null_count() == len(found):
        return ()
    if (found.dt.time() == datetime.min.time()).all():
        return (f"{found.name}: every time is midnight; the hours seem to be lost.",)
    return ()
