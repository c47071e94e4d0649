"""Cleaning: the usual repairs of a table of records, each leaving a sentence about what it did."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Self

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
# A share of dates above which what cannot be read is not a slip but another way of writing.
_MOST_UNREAD = 0.05


def snake_case(name: str) -> str:
    """`Primary Type` and `primaryType` as `primary_type`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^0-9a-z]+", "_", spaced.lower()).strip("_")


@dataclass(frozen=True)
class Cleaning:
    """A frame of texts and what was done to it: `Cleaning(frame).padded("code", 4).complete()`.

    Each method gives a new one. They raise DataRefused, and name the columns, when some are
    missing or hold something else altogether.
    """

    frame: "pl.DataFrame"
    notes: tuple[str, ...] = ()

    def padded(self, column: str, width: int, *, letter: bool = False) -> Self:
        """Put back the leading zeros that a spreadsheet took from a code of `width` characters.

        With `letter`, one that ends the code does not count: 8B of width 2 becomes 08B.
        """
        import polars as pl

        self._require([column])
        given = self.frame[column].cast(pl.String)
        # Codes are few and rows many: each different one is looked at once.
        codes = given.unique().drop_nulls()
        code = codes.str.strip_chars().str.replace(r"\.0$", "")
        long = code.str.contains(r"[A-Za-z]$") & letter
        full = code.str.zfill(width + 1).zip_with(long, code.str.zfill(width))
        changed = codes != full
        if not changed.any():
            return self._with(self.frame)
        old, new = codes.filter(changed), full.filter(changed)
        count = int(given.is_in(old.implode()).sum())
        example = old.sort()[-1]
        return self._with(
            self.frame.with_columns(given.replace(old, new)),
            f"{column}: {count:,} of {len(given):,} codes had lost leading zeros, which were put "
            f"back (such as {example!r}, now {new.filter(old == example)[0]!r}).",
        )

    def dated(self, column: str, *, since: datetime | None = None) -> Self:
        """Parse a column of dates; those that cannot be read or are before `since` are missing.

        Raises:
            DataRefused: more than 1 in 20 cannot be read, or they are written day first.
        """
        self._require([column])
        parsed, notes = moments(self.frame[column], since)
        return self._with(self.frame.with_columns(parsed), *notes)

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
            self.frame.with_columns(value.alias(name) for name, value in columns.items())
        )

    def latest(
        self, *, ignoring: Sequence[str], by: Sequence[str], dropping: Sequence[str] = ()
    ) -> Self:
        """Of rows that are equal but for the columns `ignoring`, keep the last in order of `by`.

        The rows are left in that order, missing values first. Columns that are of no use after the
        comparison may be named in `dropping`.
        """
        self._require(by)
        rows = self.frame.with_row_index(_ROW)
        compared = [name for name in self.frame.columns if name not in ignoring]
        # Hashing rows to numbers and comparing only those that share one is several times cheaper
        # than comparing all of their texts.
        suspects = rows.filter(rows.select(compared).hash_rows(seed=0).is_duplicated())
        latest = suspects.sort(by, maintain_order=True, nulls_last=False)
        latest = latest.unique(subset=compared, keep="last", maintain_order=True)
        dropped = suspects.height - latest.height
        order = rows.select(_ROW, *by)
        if dropped:
            repeated = suspects.join(latest, on=_ROW, how="anti").select(_ROW)
            order = order.join(repeated, on=_ROW, how="anti", maintain_order="left")
        order = order.sort(by, maintain_order=True, nulls_last=False)
        kept = self.frame.drop(dropping, strict=False)[order[_ROW]]
        if not dropped:
            return self._with(kept)
        return self._with(
            kept,
            f"{dropped:,} of {self.frame.height:,} rows repeat another but for "
            f"{', '.join(ignoring)}: the latest was kept.",
        )

    def complete(self, columns: Sequence[str] = ()) -> Self:
        """Drop rows with nothing in one of `columns` (default: all), and count them."""
        import polars as pl

        names = list(columns) or self.frame.columns
        self._require(names)
        holes = self.frame.select(pl.col(names).null_count()).row(0, named=True)
        kept = self.frame.drop_nulls(names) if any(holes.values()) else self.frame
        dropped = self.frame.height - kept.height
        if not dropped:
            return self._with(kept)
        where = ", ".join(f"{name} {count:,}" for name, count in holes.items() if count)
        return self._with(
            kept,
            f"{dropped:,} of {self.frame.height:,} rows ({dropped / self.frame.height:.1%}) were "
            f"left out for what they lack: {where}.",
        )

    def _require(self, columns: Sequence[str]) -> None:
        absent = [name for name in columns if name not in self.frame.columns]
        if absent:
            raise DataRefused(
                f"Expected the columns {', '.join(columns)}; {', '.join(absent)} "
                f"{'is' if len(absent) == 1 else 'are'} missing, "
                f"got {', '.join(self.frame.columns)}.",
                remedy="Check that this is the table meant, with its header.",
            )

    def _with(self, frame: "pl.DataFrame", *notes: str) -> Self:
        return type(self)(frame, (*self.notes, *notes))


def moments(
    given: "pl.Series", since: datetime | None = None
) -> tuple["pl.Series", tuple[str, ...]]:
    """A column of texts as Datetime (µs), and sentences about those that are none.

    Raises:
        DataRefused: more than 1 in 20 cannot be read, or they are written day first.
    """
    import polars as pl

    texts = given.cast(pl.String).str.strip_chars()
    if given.dtype.is_temporal():
        found = given.cast(pl.Datetime("us"))
    else:
        found = pl.Series(given.name, [None] * len(given), pl.Datetime("us"))
        for form in _FORMATS:
            if found.null_count() == texts.null_count():
                break
            parsed = texts.str.to_datetime(form, strict=False, time_unit="us")
            found = parsed.zip_with(parsed.is_not_null(), found)
    unread = texts.is_not_null() & found.is_null()
    if since is not None:
        unread |= (found < since).fill_null(False)
    count = int(unread.sum())
    if not count:
        return found, _without_hours(found)
    wrong = texts.filter(unread)
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
    if count > _MOST_UNREAD * max(len(texts), 1):
        raise DataRefused(
            f"{told} in {count:,} of {len(texts):,} rows.",
            remedy="Fetch the file again; a spreadsheet may have rewritten its dates.",
        )
    found = found.set(unread, None)
    return found, (f"{told} in {count:,} rows: taken as missing.", *_without_hours(found))


def _without_hours(found: "pl.Series") -> tuple[str, ...]:
    if len(found) < 100 or found.null_count() == len(found):
        return ()
    if (found.dt.time() == datetime.min.time()).all():
        return (f"{found.name}: every time is midnight; the hours seem to be lost.",)
    return ()
