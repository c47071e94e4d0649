"""Tables as bodies: CSV, Arrow and Parquet in, and the answers as a table out.

Polars is imported by the first such body, and a table is read and written on a thread.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from timonel.contract import Answer
from timonel.errors import BadRequest, BodyTooLarge
from timonel.serving.answer import Answerer
from timonel.serving.body import read_body
from timonel.serving.columnar import Complaint, Table, TableReader
from timonel.serving.identity import caller_of
from timonel.serving.rows import Inputs, RowReader

if TYPE_CHECKING:
    import polars as pl

__all__ = ["MEDIA", "RefusedRows", "Tabular", "table_form"]

MEDIA = {
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.arrow.file": "arrow-file",
    "application/vnd.apache.parquet": "parquet",
}
"""Content types of tables, and what they are called in the journal."""

_AT_ONCE = 2
# Rows that are recorded together: more would hold the event loop up for others to feel.
_BLOCK = 4_096
_MOST_COMPLAINTS = 20


class BadTable(BadRequest):
    """A table that cannot be read as what its content type says."""


class RefusedRows(BadRequest):
    """Rows that do not fit, with a place for each complaint."""

    status = 422

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        super().__init__(f"{len(complaints):,} values do not fit.")
        self.detail = [
            {
                **complaint.detail,
                "type": complaint.detail.get("type", "value_error"),
                "loc": ["body", complaint.row, *filter(None, [complaint.field])],
            }
            for complaint in complaints[:_MOST_COMPLAINTS]
        ]


def table_form(kind: str) -> str | None:
    """The form of a table with this content type, if it is one's."""
    return MEDIA.get(kind.partition(";")[0].strip().lower())


@dataclass(frozen=True)
class _Block:
    """Rows that were answered together."""

    answer: Answer
    rows: int


class Tabular:
    """Answers the tables of one project."""

    def __init__(
        self, answerer: Answerer, reader: RowReader, *, max_body: int, max_rows: int
    ) -> None:
        self._answerer = answerer
        self._tables = TableReader(answerer.project, reader)
        self._max_body = max_body
        self._max_rows = max_rows
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def __call__(self, request: Request, form: str, started: float) -> Response:
        """The answers as a table of the form asked for by Accept, else of the same form.

        Raises:
            BadTable: the body is no such table.
            BodyTooLarge: it has too many bytes or rows.
            MissingColumns: it has not the columns that it must have.
            RefusedRows: a row does not fit.
        """
        models = self._answerer.models(request.query_params.get("model"))
        inputs = await self.inputs(await read_body(request, self._max_body), form)
        rows = await self._on_thread(inputs.values)
        blocks: list[_Block] = []
        headers: dict[str, str] = {}
        for start in range(0, inputs.count, _BLOCK) or (0,):
            end = min(start + _BLOCK, inputs.count)
            some = Inputs(
                {name: array[start:end] for name, array in inputs.arrays.items()},
                end - start,
                partial(rows.__getitem__, slice(start, end)),
                single=False,
            )
            answer, said = await self._answerer.answer(
                some,
                models,
                form,
                started,
                self._answerer.new_id(),
                request.scope.get("timonel.deadline"),
                caller_of(request, self._answerer),
            )
            headers = headers or said
            blocks.append(_Block(answer, end - start))
        wanted = _wanted(request.headers.get("accept", ""), form)
        content = await self._on_thread(partial(_written, blocks, wanted))
        media = next(kind for kind, name in MEDIA.items() if name == wanted)
        return Response(content, headers=headers, media_type=media)

    async def inputs(self, body: bytes, form: str) -> Inputs:
        """The validated rows of a table; raises as a call does."""
        table: Table = await self._on_thread(partial(self._read, body, form))
        if table.complaints:
            raise RefusedRows(table.complaints)
        return table.inputs

    async def _on_thread(self, work: Callable[[], Any]) -> Any:
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)

    def _read(self, body: bytes, form: str) -> Table:
        import polars as pl

        try:
            return self._tables.read(self._frame(body, form), strict=True)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BadTable(f"Expected a table as {form}, got: {reason[:300]}.") from None

    def _frame(self, body: bytes, form: str) -> "pl.DataFrame":
        """The columns that are needed, once the table is known to be no larger than allowed."""
        import polars as pl

        if form == "csv":
            # Lines are counted first: each may stand for as many empty values as there are names.
            self._check_rows(body.count(b"\n") - 1)
            names = pl.read_csv(body, n_rows=0, infer_schema=False).columns
            found = self._tables.found(names, strict=True)
            needed = list(found.values())
            return pl.read_csv(body, columns=needed, infer_schema=False).select(needed)
        if form == "arrow":
            frame = pl.read_ipc_stream(io.BytesIO(body))
            self._check_rows(frame.height)
            self._tables.found(frame.columns, strict=True)
            return frame
        scan = pl.scan_parquet if form == "parquet" else pl.scan_ipc
        table: pl.LazyFrame = scan(io.BytesIO(body))
        self._check_rows(int(table.select(pl.len()).collect().item()))
        found = self._tables.found(table.collect_schema().names(), strict=True)
        return table.select(list(found.values())).collect()

    def _check_rows(self, rows: int) -> None:
        if rows > self._max_rows:
            raise BodyTooLarge(
                f"Expected a table of at most {self._max_rows:,} rows, got {rows:,}.",
                remedy="Send it in parts, raise TIMONEL_MAX_TABLE_ROWS, or score the file with "
                "timonel score.",
            )


def _wanted(accept: str, form: str) -> str:
    """The form of the reply: the first of Accept that is a table's, else that of the body."""
    forms = (table_form(kind) for kind in accept.split(","))
    return next(filter(None, forms), form)


def _written(blocks: Sequence[_Block], form: str) -> bytes:
    """The answers as a table: label, probabilities and version of each model, and the id."""
    import polars as pl

    frames = []
    for block in blocks:
        answer = block.answer
        columns = []
        for model, labels in answer.labels.items():
            # A project whose models all answer has columns for each.
            before = f"{model}_" if len(answer.labels) > 1 else ""
            columns.append(pl.Series(f"{before}prediction", list(labels)))
            if not labels:
                whole = all(isinstance(label, int) for label in answer.classes[model])
                columns[-1] = columns[-1].cast(pl.Int64 if whole else pl.String)
            columns += [
                pl.Series(f"{before}probability_{label}", answer.scores[model][:, number].copy())
                for number, label in enumerate(answer.classes[model])
            ]
            version = pl.repeat(answer.versions[model], block.rows, dtype=pl.String, eager=True)
            columns.append(version.alias(f"{before}version"))
        ids = [f"{answer.id}.{row}" for row in range(block.rows)]
        columns.append(pl.Series("id", ids, dtype=pl.String))
        frames.append(pl.DataFrame(columns))
    frame = pl.concat(frames)
    file = io.BytesIO()
    if form == "csv":
        frame.write_csv(file)
    elif form == "arrow":
        frame.write_ipc_stream(file, compat_level=pl.CompatLevel.oldest())
    elif form == "arrow-file":
        frame.write_ipc(file, compat_level=pl.CompatLevel.oldest())
    else:
        frame.write_parquet(file)
    return file.getvalue()
