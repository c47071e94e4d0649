"""From journal files to Parquet segments, text logs and labels, exactly once.

It is the supervisor's side of the journal.

The steps of one file, each of which may be repeated: put each project's segment by its content's
hash, record it under the file's name, append to the text logs inside the transaction that settles
their offsets, keep the labels that were said, and at last delete the file. Killed anywhere, the
next export goes through the same steps and finds done what was done.
"""

import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import tzinfo
from io import BytesIO
from pathlib import Path

from timonel.journal.files import CLOSED, DAMAGED, OPEN, locked
from timonel.journal.layout import Rows, TextLines, fits
from timonel.journal.records import FORMAT, SHADOW, Feedback, Reading, read
from timonel.schema import Kind
from timonel.stores.database import Database
from timonel.stores.labels import Label, Labels
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

__all__ = ["Exported", "adopt", "export", "text_log_key"]


@dataclass(frozen=True)
class Exported:
    """What became of one journal file.

    `rows` by project are those of its segments; `new` says whether this export recorded any of
    them. `note` is a sentence when something in the file could not be read, and `kept` where the
    file is kept for that reason.
    """

    source: str
    rows: Mapping[str, int]
    new: bool
    note: str | None = None
    kept: Path | None = None


def adopt(folder: Path) -> list[Path]:
    """The files that can be exported, oldest names first: closed ones, and those of dead writers.

    A file whose writer no longer holds its lock is renamed to closed.
    """
    for path in sorted(folder.glob(f"*{OPEN}")):
        with locked(path) as mine, suppress(FileNotFoundError):
            if mine:
                path.rename(path.with_suffix(CLOSED))
    return sorted(folder.glob(f"*{CLOSED}"))


def export(
    path: Path,
    objects: ObjectStore,
    segments: Segments,
    database: Database,
    *,
    text_log: Collection[str] | None = None,
    tz: tzinfo | None = None,
) -> Exported | None:
    """Move a closed file into the object store and the database, and delete it.

    `text_log` names the projects whose predictions also go to the text log of their environment
    (default: those whose metas say so), with times in `tz` (default: the server's local time, as a
    person at the server reads them). A row of several is `<id>.<n>`, n from 0. Lines and rows
    stand in the order in which they were answered within one file. A damaged file is kept as
    `.damaged` after what is whole in it was exported; one of a newer format is left alone.

    Returns None when the file is gone, or its writer or another exporter still holds it.

    Raises:
        StoreError: a store failed; the file is still there, and exporting it again is safe.
    """
    with locked(path) as mine:
        if not mine:
            return None
        reading = read(path)
        content = _collect(reading, text_log, tz)
        if reading.header is not None and reading.header.format > FORMAT:
            return Exported(path.stem, {}, new=False, note=reading.note, kept=path)
        new = False
        for project, rows in sorted(content.projects.items()):
            if rows.count:
                new |= _add(path.stem, project, rows, objects, segments)
        for environment, lines in sorted(content.lines.items()):
            data, key = "".join(f"{line}\n" for line in lines).encode(), text_log_key(environment)
            # Nobody else moves the offset while this transaction holds the write lock.
            with database.begin() as connection:
                # A log that somebody deleted begins anew; it must not hold up the export.
                offset = min(segments.export_offset(key), objects.size(key) or 0)
                if segments.advance(connection, key, offset + len(data), path.stem):
                    objects.append(key, data, at=offset)
        if reading.feedback:
            Labels(database).put(map(_label, reading.feedback))
        kept = None
        if reading.intact and not content.odd:
            path.unlink()
        else:
            kept = path.rename(path.with_suffix(DAMAGED))
        notes = [reading.note] if reading.note else []
        if content.odd:
            notes += [f"{path.name}: {content.odd} records do not match their columns."]
        counts = {project: rows.count for project, rows in content.projects.items()}
        return Exported(path.stem, counts, new, " ".join(notes) or None, kept)


def text_log_key(environment: str) -> str:
    """Where the text log of an environment is in the object store."""
    return f"reportes/predicciones_{environment}.txt"


def _add(source: str, project: str, rows: Rows, objects: ObjectStore, segments: Segments) -> bool:
    frame, file = rows.frame(), BytesIO()
    # Higher levels take pictures twice the time, and no less room.
    frame.write_parquet(file, compression="zstd", compression_level=1)
    ids, times = frame["id"].str.slice(0, 36).sort(), frame["time"].dt.timestamp("us").sort()
    return segments.add(
        source=source,
        project=project,
        object_key=objects.put(file.getvalue()),
        rows=len(frame),
        first_id=ids[0],
        last_id=ids[-1],
        first_time=times[0] / 1e6,
        last_time=times[-1] / 1e6,
    )


def _label(said: Feedback) -> Label:
    prediction = str(uuid.UUID(bytes=said.id))
    return Label(said.project, prediction, said.row, said.label, said.time_ns / 1e9)


@dataclass
class _Content:
    projects: dict[str, "Rows"] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    odd: int = 0


def _collect(reading: Reading, text_log: Collection[str] | None, tz: tzinfo | None) -> _Content:
    content = _Content()
    columns: dict[str, tuple[tuple[str, Kind], ...]] = {}
    logged: set[str] = set()
    seen = 0
    line = TextLines(tz)
    for record in reading:
        if len(reading.metas) > seen:
            seen = len(reading.metas)
            columns = {meta.project: meta.columns for meta in reading.metas.values()}
            logged = {meta.project for meta in reading.metas.values() if meta.text_log}
        project = record.project
        if not fits(record, columns.get(project)):
            content.odd += 1
            continue
        rows = content.projects.get(project)
        if rows is None:
            rows = content.projects[project] = Rows(columns[project], reading.metas)
        rows.add(record)
        if project in (logged if text_log is None else text_log) and record.via != SHADOW:
            lines = content.lines.setdefault(record.environment, [])
            for answer in record.answers:
                for label in answer.labels:
                    lines.append(line(record.time_ns, label, record.environment))
    return content
