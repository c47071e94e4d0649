"""Answers and labels of two boats' models, by way of the journal into the stores."""

import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.stores.conftest import Clock
from timonel.ids import Ids
from timonel.journal.records import (
    FORMAT,
    MAGIC,
    Answered,
    Feedback,
    Header,
    Meta,
    Record,
    encode,
    frame,
)
from timonel.journal.segments import export
from timonel.schema import Kind
from timonel.stores.database import Database
from timonel.stores.labels import Labels
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

__all__ = ["START", "Home", "id_of"]

START = 1_795_000_000.0


class Home:
    """Stores in a folder; `write` makes a journal file of what was answered and said."""

    def __init__(
        self, folder: Path, columns: Sequence[tuple[str, Kind]] = (("x", "number"),)
    ) -> None:
        self.clock = Clock(START)
        self.folder = folder
        self.database = Database.open(f"sqlite:///{folder / 'timonel.db'}", clock=self.clock)
        self.objects = ObjectStore.open((folder / "objects").as_uri())
        self.segments, self.labels = Segments(self.database), Labels(self.database)
        self._columns = tuple(columns)
        self._ids = Ids(clock_ns=lambda: int(self.clock.now * 1e9))
        self._files = 0

    def answer(
        self,
        *labels: str,
        sure: float = 0.75,
        version: str = "boat/m@1",
        rows: Sequence[tuple[object, ...]] | None = None,
        identifier: bytes | None = None,
        via: str = "json",
        error: str = "",
    ) -> Record:
        """A request whose rows were answered so, a second after the one before."""
        self.clock.now += 1
        count = max(len(labels), 1)
        odds = np.array([[sure if c == label else 1 - sure for c in "ab"] for label in labels])
        return Record(
            identifier or self._ids().bytes,
            int(self.clock.now * 1e9),
            "boat",
            rows or [(float(n),) for n in range(count)],
            [
                Answered(
                    version.partition("/")[2].partition("@")[0],
                    version,
                    [] if error else list(labels),
                    b"" if error else odds.astype("<f4").tobytes(),
                    error,
                )
            ],
            via,
            "dev",
        )

    def said(self, of: Record | bytes, label: str, row: int = 0) -> Feedback:
        """A label, a second after what was before."""
        self.clock.now += 1
        identifier = of if isinstance(of, bytes) else of.id
        return Feedback(identifier, row, "boat", label, int(self.clock.now * 1e9))

    def unknown(self) -> bytes:
        """An id that no answer has."""
        self.clock.now += 1
        return self._ids().bytes

    def write(self, *items: Record | Feedback) -> Path:
        """A closed journal file, ready to be exported."""
        self._files += 1
        path = self.folder / "journal" / f"made-{self._files:04}.closed"
        path.parent.mkdir(exist_ok=True)
        versions = dict.fromkeys(
            (answer.model, answer.version)
            for item in items
            if isinstance(item, Record)
            for answer in item.answers
        )
        metas = [Meta("boat", self._columns, *names, ("a", "b")) for names in versions]
        header = Header(FORMAT, "boot", "0", int(self.clock.now * 1e9))
        frames = (frame(encode(item)) for item in (header, *metas, *items))
        path.write_bytes(MAGIC + b"".join(frames))
        return path

    def export(self, *items: Record | Feedback) -> None:
        """Write a file and export it."""
        export(self.write(*items), self.objects, self.segments, self.database)


def id_of(record: Record) -> str:
    """The prediction's id as text."""
    return str(uuid.UUID(bytes=record.id))
