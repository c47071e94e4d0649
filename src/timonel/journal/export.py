"""A project's journal as one file for people and programs: text, CSV or Parquet."""

import tempfile
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from timonel.journal.layout import TextLines, scan
from timonel.journal.records import SHADOW
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Format", "export_journal"]

Format = Literal["txt", "csv", "parquet"]


def export_journal(
    segments: Segments,
    objects: ObjectStore,
    *,
    project: str,
    format: Format,
    out: Path,
    since: float | None = None,
    until: float | None = None,
    tz: tzinfo | None = None,
) -> int:
    """Write the rows answered in `since` <= time < `until` (s since 1970) to `out`; how many.

    Rows stand in the order of their segments; ids sort by time. `txt` has a line a prediction as
    the text log does, with times in `tz` (default: local). `csv` has a header, times in UTC,
    pictures as base64 of their bytes and probabilities separated by spaces. `parquet` has the
    segments' own columns. Inputs that came or went with the project's definition are missing where
    there were none. `out` appears whole or not at all; the segments are copied to a temporary
    folder beside it, so that memory holds a piece at a time, however much there is.

    Raises:
        StoreError: a segment is missing or damaged.
    """
    import polars as pl

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        files = []
        for number, segment in enumerate(segments.list(project, since, until)):
            files.append(Path(folder, f"{number:08d}.parquet"))
            objects.fetch(segment.object_key, files[-1])
        rows = scan(files)
        if since is not None:
            rows = rows.filter(pl.col("time") >= datetime.fromtimestamp(since, UTC))
        if until is not None:
            rows = rows.filter(pl.col("time") < datetime.fromtimestamp(until, UTC))
        part = Path(folder, "part")
        _WRITERS[format](rows, part, tz)
        count = int(rows.select(pl.len()).collect().item())
        part.replace(out)
    return count


def _text(rows: "pl.LazyFrame", out: Path, tz: tzinfo | None) -> None:
    import polars as pl

    line = TextLines(tz)

    def lines(batch: pl.Series) -> pl.Series:
        return pl.Series(
            [line(row["time"], row["prediction"], row["environment"]) for row in batch],
            dtype=pl.String,
        )

    said = pl.struct(pl.col("time").dt.timestamp("ns"), "prediction", "environment")
    given = rows.filter(pl.col("prediction").is_not_null(), pl.col("via") != SHADOW)
    given.select(said.map_batches(lines, return_dtype=pl.String)).sink_csv(
        out, include_header=False, quote_style="never"
    )


def _csv(rows: "pl.LazyFrame", out: Path, _tz: tzinfo | None) -> None:
    import polars as pl
    import polars.selectors as cs

    rows.with_columns(
        cs.binary().bin.encode("base64"),
        pl.col("probabilities").cast(pl.List(pl.String)).list.join(" "),
    ).sink_csv(out)


def _parquet(rows: "pl.LazyFrame", out: Path, _tz: tzinfo | None) -> None:
    rows.sink_parquet(out, compression="zstd")


_WRITERS: dict[str, Any] = {"txt": _text, "csv": _csv, "parquet": _parquet}
