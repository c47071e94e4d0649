"""Answers that are to be forgotten: out of journal files, segments, labels and collected datasets.

The order lets it be run again after it was killed anywhere: what is found by the segments goes
before them. A segment is written anew without the rows, and takes the place of the old one in the
transaction that names the old one as gone.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update

from timonel.data.collections import Collection, forget_collection, noted_collections
from timonel.errors import Busy, NotFound
from timonel.journal.chosen import Chosen, matches, named
from timonel.journal.files import CLOSED, DAMAGED, OPEN
from timonel.journal.layout import OWN_COLUMNS, stored_name
from timonel.journal.records import Record, read
from timonel.journal.segments import adopt, export
from timonel.settings import Settings
from timonel.stores import tables
from timonel.stores.database import Database
from timonel.stores.disposal import Disposal, disposing
from timonel.stores.events import Events
from timonel.stores.labels import forgotten
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segment, Segments
from timonel.stores.versions import Versions

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Forgotten", "forget"]

_LONGEST = 15.0  # seconds by which a file's export may be late
_WHY = "asked to be forgotten"


@dataclass(frozen=True)
class Forgotten:
    """What was done: `rows` out of `segments`, `labels`, and the keys of deleted `datasets`.

    `versions` were trained on one of these, and keep a sample of what they were trained on. `notes`
    say what could not be reached.
    """

    rows: int
    segments: int
    labels: int
    datasets: tuple[str, ...]
    versions: tuple[str, ...]
    notes: tuple[str, ...]


def forget(
    settings: Settings,
    database: Database,
    objects: ObjectStore,
    project: str,
    what: Chosen,
    *,
    who: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Forgotten:
    """Delete rows of a project from everything that Timonel keeps of them, but the text log.

    Journal files are exported first; those of a worker that lives are waited for.

    Raises:
        BadRequest: a value is none of its column's kind.
        NotFound: there is no such column.
        Busy: a worker, or another's export, holds a file for too long; nothing was deleted yet.
        StoreError: a store does not answer; running it again goes on.
    """
    _settle(settings, database, objects, sleep)
    with disposing(settings.root, database, objects, project, who) as disposal:
        hits = _find(database, objects, project, what)
        rows = {row for hit in hits for row in hit.rows}
        ids = sorted(what.ids | {prediction for prediction, _ in rows})
        datasets = _collections(disposal, ids)
        singles = what.rows if what.ids else rows
        labels = _drop_labels(disposal, sorted(what.predictions), sorted(singles), datasets)
        notes = _damaged(settings, disposal, what, rows)
        for hit in hits:
            _rewrite(disposal, hit, what)
        keys = tuple(sorted(one.key for one in datasets))
        runs = {one.run for one in datasets if one.run}
        versions = tuple(v.label for v in Versions(database).list(project) if v.run_id in runs)
        count = sum(hit.count for hit in hits)
        done = Forgotten(count, len(hits), labels, keys, versions, (*notes, *_unreached(objects)))
        disposal.finish(_WHY, {**asdict(done), "by": _told(what)})
        for one in datasets:
            forget_collection(objects, project, one.key)
        return done


def _settle(
    settings: Settings,
    database: Database,
    objects: ObjectStore,
    sleep: Callable[[float], None],
) -> None:
    """Bring what the journal's files hold by now into segments."""
    folder = settings.journal_folder
    wanted = {path.stem for path in folder.glob("*") if path.suffix in (OPEN, CLOSED)}
    patience = settings.journal_rotate_seconds + _LONGEST
    while True:
        for path in adopt(folder):
            if path.stem in wanted:
                export(path, objects, Segments(database), database)
        left = sorted(
            path.name
            for path in folder.glob("*")
            if path.stem in wanted and path.suffix in (OPEN, CLOSED)
        )
        if not left:
            return
        if patience <= 0:
            raise Busy(
                f"Expected the journal's files to be exported, got {left[0]} "
                f"({len(left)} in all), which a server holds.",
                remedy="Stop the server, or try again; nothing was deleted.",
            )
        sleep(0.2)
        patience -= 0.2


@dataclass(frozen=True)
class _Hit:
    """A segment with `count` rows to forget, as predictions and their row."""

    segment: Segment
    rows: frozenset[tuple[str, int]]
    count: int


def _find(database: Database, objects: ObjectStore, project: str, what: Chosen) -> Sequence[_Hit]:

    segments = Segments(database)
    if what.ids:
        listed = segments.holding(project, min(what.ids), max(what.ids))
    else:
        listed = segments.list(project)
    if not listed and not Events(database).list(project, limit=1):
        raise NotFound(
            f"Nothing is known of a project {project!r}.",
            remedy="See those that were asked with: timonel journal list",
        )
    hits, known = [], set()
    for segment in listed:
        frame = _read(objects, segment)
        known |= {*frame.columns}
        mask = matches(frame, what)
        if mask.any():
            found = named(frame).filter(mask)
            hits.append(_Hit(segment, frozenset(found.rows()), found.height))
    for column in what.values:
        if listed and stored_name(column) not in known:
            names = sorted(known - set(OWN_COLUMNS))
            raise NotFound(
                f"--key: the journal of {project} has no column {column!r}; it has: "
                f"{', '.join(names) or 'none'}."
            )
    return hits


def _read(objects: ObjectStore, segment: Segment) -> "pl.DataFrame":
    import polars as pl

    return pl.read_parquet(BytesIO(objects.get(segment.object_key)))


def _collections(disposal: Disposal, ids: Sequence[str]) -> Sequence[Collection]:
    """The collected datasets that may hold the predictions' rows: those with a label."""
    table = tables.labels.c
    query = select(table.prediction).distinct().where(table.project == disposal.project)
    labelled: list[str] = []
    with disposal.database.read() as connection:
        for start in range(0, len(ids), 500):
            some = query.where(table.prediction.in_(ids[start : start + 500]))
            labelled += connection.execute(some).scalars()
    noted = noted_collections(disposal.objects, disposal.project)
    return [one for one in noted if any(one.first <= id <= one.last for id in labelled)]


def _drop_labels(
    disposal: Disposal,
    predictions: Sequence[str],
    rows: Iterable[tuple[str, int]],
    datasets: Sequence[Collection],
) -> int:
    if datasets:
        # Before the labels, by which they are found.
        with disposal.database.begin() as connection:
            disposal.record(connection, _WHY, gone=[one.key for one in datasets])
        for one in datasets:
            disposal.objects.delete(one.key)
            forget_collection(disposal.objects, disposal.project, one.key)
    with disposal.database.begin() as connection:
        gone = forgotten(connection, disposal.project, predictions, rows)
        if gone:
            disposal.record(connection, _WHY, labels=gone)
    return gone


def _rewrite(disposal: Disposal, hit: _Hit, what: Chosen) -> None:
    """Put what is left of a segment in its place."""
    old = hit.segment
    frame = _read(disposal.objects, old)
    frame = frame.filter(~matches(frame, what))
    table = tables.segments
    same = (
        (table.c.source == old.source)
        & (table.c.project == old.project)
        & (table.c.object_key == old.object_key)
    )
    values: dict[str, Any] = {}
    if frame.height:
        file = BytesIO()
        frame.write_parquet(file, compression="zstd")
        ids, times = frame["id"].str.slice(0, 36).sort(), frame["time"].dt.timestamp("us").sort()
        values = {
            "object_key": disposal.objects.put(file.getvalue()),
            "rows": frame.height,
            "first_id": ids[0],
            "last_id": ids[-1],
            "first_time": times[0] / 1e6,
            "last_time": times[-1] / 1e6,
        }
    with disposal.database.begin() as connection:
        change = update(table).where(same).values(**values) if values else delete(table).where(same)
        if connection.execute(change).rowcount:
            disposal.record(
                connection, _WHY, gone=[old.object_key], source=old.source, rows=hit.count
            )


def _damaged(
    settings: Settings, disposal: Disposal, what: Chosen, rows: set[tuple[str, int]]
) -> list[str]:
    """Delete damaged journal files that hold a row; sentences on what was met."""
    notes = []
    meant = what.predictions | {prediction for prediction, _ in what.rows | rows}
    for path in sorted(settings.journal_folder.glob(f"*{DAMAGED}")):
        mine = (one for one in read(path) if one.project == disposal.project)
        if any(_text(record) in meant for record in mine):
            with disposal.database.begin() as connection:
                disposal.record(connection, _WHY, damaged=path.name)
            path.unlink()
            notes.append(f"{path.name} was deleted: it had a row, and bytes that no one can read.")
        else:
            notes.append(f"{path.name} has bytes that cannot be read, nor searched.")
    return notes


def _text(record: Record) -> str:
    text = record.id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _unreached(objects: ObjectStore) -> list[str]:
    logs = [key for key in objects.list("reportes/") if key.endswith(".txt")]
    if not logs:
        return []
    return [f"The text log has no ids; its lines (time, answer) stay: {', '.join(logs)}."]


def _told(what: Chosen) -> dict[str, Any]:
    """What was asked for, as the audit log may keep it: no value of a row."""
    ids = [*sorted(what.predictions), *(f"{id}.{row}" for id, row in sorted(what.rows))]
    return {"ids": ids} if ids else {"columns": sorted(what.values)}
