"""Tables scored: a frame in memory, or a file of any length with flat memory."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from timonel.compiled.bulk import BulkModel
from timonel.data.chunks import Chunk, Writer, read_chunks, writing
from timonel.errors import BadRequest, DataRefused
from timonel.project import Project
from timonel.serving.columnar import Complaint, Table, TableReader
from timonel.serving.rows import RowReader

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Bad", "Scored", "Scorer"]

Bad = Literal["refuse", "skip", "keep"]
"""What becomes of rows that do not fit: nothing is written, they go to a file, or stay empty."""

_SHOWN = 5


@dataclass
class Scored:
    """What was done: `rows` read, of which `refused`, in `seconds`; `engine` predicted.

    `note` says why the engine is not a faster one; `rejected` is where refused rows went.
    """

    output: Path
    version: str
    rows: int = 0
    refused: int = 0
    seconds: float = 0.0
    engine: str = ""
    note: str = ""
    rejected: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """It as plain JSON values."""
        found = {name: value for name, value in vars(self).items() if value not in (None, "")}
        return {**found, "output": str(self.output), "rows_per_second": round(self.speed)} | (
            {"rejected": str(self.rejected)} if self.rejected else {}
        )

    @property
    def speed(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0


@dataclass
class Scorer:
    """Scores tables with one version; columns are matched by a feature's name or alias.

    Each row gets `prediction`, `version`, and the `probability` of its label, or with
    `probabilities` one column a class, `probability_<class>`. Other columns of the table are
    carried along, unless `only`.
    """

    project: Project
    version: str
    model: BulkModel
    probabilities: bool = False
    only: bool = False
    timer: Callable[[], float] = field(default=time.perf_counter, repr=False)

    @cached_property
    def _tables(self) -> TableReader:
        return TableReader(self.project, RowReader(self.project, 0))

    def frame(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        """The frame with the answers.

        Raises:
            DataRefused: a row does not fit the features; says which, which field and why.
            BadRequest: a column is missing, or has the name of one that would be added.
        """
        table = self._tables.read(frame)
        if table.complaints:
            raise _refused(table.complaints, lambda row: f"row {row + 1}")
        return self._answered(frame, table, keep=False)

    def file(
        self,
        source: Path,
        target: Path,
        *,
        bad: Bad = "refuse",
        report: Callable[[float, int], None] = lambda share, rows: None,
    ) -> Scored:
        """Score a file into another, which appears when it is whole and not at all otherwise.

        `report` is told the share that is done, 0..1, and the rows so far. Rows that `bad="skip"`
        leaves out go to a file of JSON lines beside the target, `<target>.rejected.jsonl`, each
        with its place and reasons.

        Raises:
            DataRefused: `bad` is "refuse" and a row does not fit; says its line, field and why.
            BadRequest: a file's name does not say its form, or its columns do not fit.
            SourceError: a file cannot be read, or not be written.
        """
        if source.resolve() == target.resolve():
            raise BadRequest(f"Expected another file to write than {source}, got the same.")
        started = self.timer()
        done = Scored(target, self.version)
        rejects = target.with_name(f"{target.name}.rejected.jsonl")
        with ExitStack() as stack:
            writer = stack.enter_context(writing(target))
            rejecting: Writer | None = None
            for chunk in read_chunks(source):
                table = self._tables.read(chunk.frame)
                if table.complaints and bad == "refuse":
                    raise _refused(table.complaints, chunk.place, str(source))
                writer.write(self._answered(chunk.frame, table, keep=bad == "keep"))
                if table.complaints and bad == "skip":
                    rejecting = rejecting or stack.enter_context(writing(rejects))
                    rejecting.write(_rejected(chunk, table))
                    done.rejected = rejects
                done.rows += chunk.frame.height
                done.refused += chunk.frame.height - table.inputs.count
                report(chunk.share, done.rows)
        done.seconds = self.timer() - started
        done.engine, done.note = self.model.engine, self.model.note
        return done

    def _answered(self, frame: "pl.DataFrame", table: Table, *, keep: bool) -> "pl.DataFrame":
        """The rows with their answers; those that do not fit left out, or empty with `keep`."""
        import polars as pl

        added = self._columns(table)
        taken = [name for name in added.columns if not self.only and name in frame.columns]
        if taken:
            raise BadRequest(
                f"Expected a table without the columns that are added, got {', '.join(taken)}.",
                remedy="Rename them, or leave the table's columns out (--only).",
            )
        if not table.fit.all():
            if keep:
                places = pl.Series(np.cumsum(table.fit) - 1, dtype=pl.Int64)
                index = places.set(pl.Series(~table.fit), None).cast(pl.UInt32)
                added = added.select(pl.all().gather(index))
            else:
                frame = frame.filter(pl.Series(table.fit))
        return added if self.only else pl.concat([frame, added], how="horizontal")

    def _columns(self, table: Table) -> "pl.DataFrame":
        import polars as pl

        classes = self.model.signature.classes
        count = table.inputs.count
        indices, scores = np.empty(0, np.int64), np.empty((0, len(classes)), np.float32)
        if count:
            indices, scores = self.model.predict(table.inputs.arrays)
        labels = pl.Series("prediction", list(classes)).gather(indices.astype(np.uint32))
        if self.probabilities:
            odds = [
                pl.Series(f"probability_{label}", np.ascontiguousarray(scores[:, number]))
                for number, label in enumerate(classes)
            ]
        else:
            odds = [pl.Series("probability", scores[np.arange(count), indices])]
        version = pl.repeat(self.version, count, dtype=pl.String, eager=True).alias("version")
        return pl.DataFrame([labels, *odds, version])


def _refused(
    complaints: Sequence[Complaint], place: Callable[[int], str], where: str = ""
) -> DataRefused:
    shown = [f"{place(complaint.row)}, {_sentence(complaint)}" for complaint in complaints[:_SHOWN]]
    more = len(complaints) - len(shown)
    return DataRefused(
        f"{where + ': ' if where else ''}expected rows that fit, got "
        f"{'; '.join(shown)}{f'; and {more:,} more' if more else ''}.",
        remedy="Correct them, or leave such rows out (--bad skip) or empty (--bad keep).",
    )


def _sentence(complaint: Complaint) -> str:
    given = complaint.detail.get("input")
    said = f"{complaint.field}: {complaint.message}" if complaint.field else complaint.message
    return said.rstrip(".") + ("" if given is None else f", got {given!r}")


def _rejected(chunk: Chunk, table: Table) -> "pl.DataFrame":
    import polars as pl

    reasons: dict[int, list[str]] = {}
    for complaint in table.complaints:
        reasons.setdefault(complaint.row, []).append(_sentence(complaint))
    rows = chunk.frame[list(reasons)]
    return pl.DataFrame(
        {
            "place": [chunk.place(row) for row in reasons],
            "reasons": list(reasons.values()),
            "row": [
                msgspec.json.encode(row, enc_hook=str).decode()
                for row in rows.iter_rows(named=True)
            ],
        }
    )
