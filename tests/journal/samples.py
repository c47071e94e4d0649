"""Records that tests write: penguins (numbers) and digits (pictures)."""

import struct
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from timonel.ids import Ids
from timonel.journal.records import (
    FORMAT,
    MAGIC,
    Answered,
    Header,
    Meta,
    Record,
    encode,
    frame,
)

START = 1_795_179_845_000_000_000  # 2026-11-20 13:04:05 UTC

PENGUINS = Meta(
    project="penguins",
    columns=(("bill_length_mm", "number"), ("island", "category"), ("year", "integer")),
    model="rf",
    version="penguins/rf@1",
    classes=("Adelie", "Gentoo"),
)
DIGITS = Meta(
    project="digits",
    columns=(("pixels", "image"),),
    model="cnn",
    version="digits/cnn@0",
    classes=tuple(range(10)),
    text_log=True,
)

_new_id = Ids(clock_ns=lambda: START, random_bytes=bytes)


def penguin(*rows: tuple[float, str | None, int], time_ns: int = START) -> Record:
    """A request of some rows (default: one), each answered Gentoo with 0.75."""
    rows = rows or ((39.5, "Torgersen", 2007),)
    answer = Answered(
        PENGUINS.model,
        PENGUINS.version,
        ["Gentoo"] * len(rows),
        struct.pack("<2f", 0.25, 0.75) * len(rows),
    )
    return Record(
        _new_id().bytes,
        time_ns,
        "penguins",
        [tuple(row) for row in rows],
        [answer],
        "json",
        "dev",
        0.1,
    )


def digit(
    pixels: bytes = bytes(784),
    *,
    label: int = 7,
    time_ns: int = START,
    environment: str = "dev",
) -> Record:
    """A picture, answered as `label` for certain."""
    scores = [float(place == label) for place in range(10)]
    answer = Answered(DIGITS.model, DIGITS.version, [label], struct.pack("<10f", *scores))
    return Record(
        _new_id().bytes, time_ns, "digits", [(pixels,)], [answer], "upload", environment, 0.1
    )


def name_of(record: Record) -> str:
    """The prediction id as people see it."""
    return str(UUID(bytes=record.id))


def content(records: Iterable[Record], metas: Iterable[Meta] = (PENGUINS, DIGITS)) -> bytes:
    """A whole file."""
    items: list[Header | Meta | Record] = [Header(FORMAT, "boot", "0", START), *metas, *records]
    return MAGIC + b"".join(frame(encode(item)) for item in items)


def closed(folder: Path, name: str, records: Iterable[Record], tail: bytes = b"") -> Path:
    """A closed file in the journal's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.closed"
    path.write_bytes(content(records) + tail)
    return path
