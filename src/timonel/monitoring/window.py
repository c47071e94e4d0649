"""The window of live rows that a version is judged by, taken from the journal's segments.

Segments never change and each is recorded once, so a window that is made of them anew each time
neither loses nor counts a row twice, whatever was killed in between.
"""

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from timonel.journal.layout import completed
from timonel.journal.records import SHADOW
from timonel.monitoring.sketch import Shape, Sketch, sketch_of_frame
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segment

if TYPE_CHECKING:
    import polars as pl

__all__ = ["live_rows", "window_of"]

_PIECES = 40  # of a window; more are put together, so that memory is bounded
_LEAST = 25  # rows of a piece
_MOST = 65_536


def live_rows(
    segment: Segment,
    objects: ObjectStore,
    version: str,
    *,
    since: float | None = None,
    until: float | None = None,
) -> "pl.DataFrame":
    """The rows of a segment that a version (such as `penguins/rf@3`) answered to a caller.

    In order of time, with `since` <= time < `until` (s since 1970). What was only mirrored to it,
    or what it failed at, is not among them.
    """
    import polars as pl

    frame = completed(pl.read_parquet(BytesIO(objects.get(segment.object_key))))
    moment = pl.col("time").dt.timestamp("us") / 1e6
    found = frame.filter(
        pl.col("version") == version, pl.col("via") != SHADOW, pl.col("prediction").is_not_null()
    )
    if since is not None:
        found = found.filter(moment >= since)
    if until is not None:
        found = found.filter(moment < until)
    return found.sort("time", maintain_order=True)


def window_of(
    segments: Iterable[Segment],
    objects: ObjectStore,
    shape: Shape,
    version: str,
    *,
    rows: int | None = None,
    since: float | None = None,
    until: float | None = None,
) -> list[Sketch]:
    """The newest `rows` live rows of a version (None: all), as sketches in order of time.

    Raises:
        StoreError: a segment cannot be read.
    """
    size = _MOST if rows is None else min(max(rows // 20, _LEAST), _MOST)
    pieces: list[Sketch] = []
    wanted = rows
    for segment in sorted(segments, key=lambda s: (s.last_time, s.source), reverse=True):
        if wanted == 0:
            break
        frame = live_rows(segment, objects, version, since=since, until=until)
        if wanted is not None:
            frame = frame.tail(wanted)
            wanted -= frame.height
        pieces += [sketch_of_frame(part, shape) for part in frame.iter_slices(size) if part.height]
        if len(pieces) >= 2 * _PIECES:
            pieces = _coalesced(pieces)
    return _coalesced(pieces)


def _coalesced(pieces: Sequence[Sketch]) -> list[Sketch]:
    """The same rows in fewer pieces, in order of time."""
    ordered = sorted(pieces, key=lambda piece: piece.since or 0.0)
    while len(ordered) > _PIECES:
        # Where the two neighbours together have the fewest rows.
        place = min(range(len(ordered) - 1), key=lambda n: ordered[n].rows + ordered[n + 1].rows)
        ordered[place : place + 2] = [ordered[place] + ordered[place + 1]]
    return ordered
