"""Tables of any length as files, some rows at a time: read, and written whole or not at all."""

import csv
import gzip
import io
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import msgspec

from timonel.errors import BadRequest, SourceError, SourceMissing

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FORMATS", "Chunk", "Form", "Writer", "form_of", "read_chunks", "writing"]

Form = Literal["csv", "parquet", "arrow", "jsonl"]

FORMATS: dict[str, Form] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson.gz": "jsonl",
}
"""What a file's name says that it holds."""

_BLOCK = 8 << 20  # bytes of text at a time
_ROWS = 1 << 17
_LONGEST = 256 << 20  # bytes of one record


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file: the first is its row number `start`, from 0; `share` of it is read.

    `place` tells a person where a row of this chunk is.
    """

    frame: "pl.DataFrame"
    start: int
    share: float
    place: Callable[[int], str]


def form_of(path: Path) -> Form:
    """What a file holds, by its name.

    Raises:
        BadRequest: the name does not say.
    """
    name = path.name.lower()
    for suffix, form in FORMATS.items():
        if name.endswith(suffix):
            return form
    raise BadRequest(
        f"{path}: expected a name that ends in {', '.join(FORMATS)}, got {path.name}.",
        remedy="Rename the file by what it holds.",
    )


def read_chunks(path: Path) -> Iterator[Chunk]:
    """A file's rows, in their order; every value of a CSV file is text, an empty one is null.

    Raises:
        BadRequest: the name does not say what it holds.
        SourceMissing: there is no such file.
        SourceError: it cannot be read as what its name says.
    """
    import polars as pl

    form = form_of(path)
    if not path.is_file():
        raise SourceMissing(f"There is no file {path}.")
    readers = {"csv": _csv, "jsonl": _jsonl, "parquet": _columnar, "arrow": _columnar}
    unreadable = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, EOFError)
    try:
        yield from readers[form](path)
    except (*unreadable, gzip.BadGzipFile, UnicodeError, msgspec.DecodeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{path}: expected {form}, got: {reason}.") from None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], float]]]:
    """A text file's bytes, unpacked, and the share that has been read."""
    size = max(path.stat().st_size, 1)
    with path.open("rb") as file:
        packed = path.name.lower().endswith(".gz")
        with cast(IO[bytes], gzip.open(file)) if packed else file as content:
            yield content, lambda: min(file.tell() / size, 1.0)


def _blocks(path: Path, whole: Callable[[bytes], int]) -> Iterator[tuple[bytes, float]]:
    """Blocks of whole records; `whole` says how many bytes of some are."""
    with _opened(path) as (file, share):
        rest = b""
        while True:
            read = file.read(_BLOCK)
            block = rest + read
            end = len(block) if not read else whole(block)
            if end:
                yield block[:end], share()
            elif len(block) > _LONGEST:
                raise SourceError(
                    f"{path}: expected records of at most {_LONGEST:,} bytes, got a longer one.",
                    remedy="Look for a quote that is not closed.",
                )
            rest = block[end:]
            if not read:
                return


def _last_line(block: bytes) -> int:
    return block.rfind(b"\n") + 1


def _last_record(block: bytes) -> int:
    """Where the last record of CSV ends: at a line's end outside of quotes."""
    end = _last_line(block)
    quotes = block.count(b'"', 0, end)
    while end and quotes % 2:
        before = block.rfind(b"\n", 0, end - 1) + 1
        quotes -= block.count(b'"', before, end)
        end = before
    return end


def _csv(path: Path) -> Iterator[Chunk]:
    import polars as pl

    header, start, line = b"", 0, 1
    for block, share in _blocks(path, _last_record):
        text = header + block
        frame = pl.read_csv(text, infer_schema=False, raise_if_empty=False)
        first = line

        def place(row: int, text: bytes = text, first: int = first) -> str:
            return f"line {first + _line_of(text, row)}"

        yield Chunk(frame, start, share, place)
        start += frame.height
        line += block.count(b"\n")
        if not header:
            # The names, which may have line ends in them, stand before every block.
            header = text[: _end_of_record(text)]
            line -= header.count(b"\n")
    if not header:
        raise SourceError(f"{path}: expected a line of column names, got an empty file.")


def _end_of_record(text: bytes) -> int:
    end = 0
    while True:
        after = text.find(b"\n", end) + 1
        if not after:
            return len(text)
        end = after
        if text.count(b'"', 0, end) % 2 == 0:
            return end


def _line_of(text: bytes, row: int) -> int:
    """On which of the text's lines, from 0, a row of it begins; the names are not one."""
    reader = csv.reader(io.StringIO(text.decode(errors="replace"), newline="\n"))
    begins = 0
    for number, _ in enumerate(reader):
        if number == row + 1:
            break
        begins = reader.line_num
    return begins


def _jsonl(path: Path) -> Iterator[Chunk]:
    start = line = 0
    decoder = msgspec.json.Decoder(dict[str, Any])
    for block, share in _blocks(path, _last_line):
        rows, lines = [], []
        for number, text in enumerate(block.split(b"\n"), line + 1):
            if not text.strip():
                continue
            try:
                rows.append(decoder.decode(text))
            except (msgspec.DecodeError, UnicodeError) as error:
                raise SourceError(f"{path}, line {number}: expected a row, got: {error}.") from None
            lines.append(number)
        if rows:

            def place(row: int, lines: Sequence[int] = lines) -> str:
                return f"line {lines[row]}"

            yield Chunk(_of_rows(rows), start, share, place)
        start += len(rows)
        line += block.count(b"\n")


def _of_rows(rows: list[dict[str, Any]]) -> "pl.DataFrame":
    """JSON rows as columns; a column of several types keeps its values as they are."""
    import polars as pl

    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values} - {type(None)}
        try:
            if len(kinds) > 1 and kinds != {int, float}:
                raise TypeError(kinds)
            if kinds == {int, float}:
                values = [float(value) if type(value) is int else value for value in values]
            columns[name] = pl.Series(name, values)
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            columns[name] = pl.Series(name, values, dtype=pl.Object)
    return pl.DataFrame(columns)


def _columnar(path: Path) -> Iterator[Chunk]:
    import polars as pl

    with path.open("rb") as file:
        magic = file.read(6)
    if form_of(path) == "parquet":
        table = pl.scan_parquet(path, glob=False)
    elif magic == b"ARROW1":
        table = pl.scan_ipc(path)
    else:  # a stream of Arrow can only be read as a whole
        table = pl.read_ipc_stream(path).lazy()
    rows = max(int(table.select(pl.len()).collect().item()), 1)
    start = 0
    for frame in table.collect_batches(chunk_size=_ROWS):
        yield Chunk(frame, start, (start + frame.height) / rows, partial(_row, start))
        start += frame.height
    if not start:
        yield Chunk(table.head(0).collect(), 0, 1.0, partial(_row, 0))


def _row(start: int, row: int) -> str:
    return f"row {start + row + 1}"


class Writer:
    """Takes frames of the same columns, one after another."""

    def __init__(self, path: Path, form: Form, *, packed: bool) -> None:
        self._path = path
        self._form = form
        self._packed = packed
        self._file: IO[bytes] | None = None
        self._opened: list[IO[bytes]] = []
        self._sink: _Sink | None = None
        self._schema: Any = None

    def write(self, frame: "pl.DataFrame") -> None:
        """Write the rows of a frame.

        Raises:
            SourceError: they cannot be written, or have other columns than those before.
        """
        import polars as pl

        frame = frame.with_columns(
            frame[name].map_elements(_text, return_dtype=pl.String, skip_nulls=True)
            for name, kind in frame.schema.items()
            if kind == pl.Object
        )
        first = self._schema is None
        if first:
            self._schema = frame.schema
        elif self._form != "jsonl" and frame.schema != self._schema:
            frame = self._alike(frame)
        if self._form in ("parquet", "arrow"):
            self._sink = self._sink or _Sink(self._path, self._form, frame.schema)
            self._sink.put(frame)
            return
        if self._file is None:
            raw = self._path.open("wb")
            self._opened = [raw]
            self._file = raw
            if self._packed:
                self._file = cast(IO[bytes], gzip.GzipFile("", "wb", 1, raw))
                self._opened.insert(0, self._file)
        if self._form == "csv":
            frame.write_csv(self._file, include_header=first)
        else:
            frame.write_ndjson(self._file)

    def close(self, *, whole: bool) -> None:
        """End the file; nothing waits for what is not `whole`."""
        for file in self._opened:
            file.close()
        if self._sink is not None:
            self._sink.close(whole=whole)

    def _alike(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        import polars as pl

        absent = [
            pl.lit(None, kind).alias(name)
            for name, kind in self._schema.items()
            if name not in frame.columns
        ]
        more = [name for name in frame.columns if name not in self._schema]
        try:
            if more:
                raise SourceError(f"got also {', '.join(more)}")
            return frame.with_columns(absent).select(self._schema.names()).cast(dict(self._schema))
        except (pl.exceptions.PolarsError, SourceError) as error:
            reason = str(error).strip().splitlines()[0]
            raise SourceError(
                f"Expected rows with the same columns as those before, {reason}.",
                remedy="Write JSON lines, or leave other columns out.",
            ) from None


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


class _Sink:
    """Polars' own writer of Parquet and Arrow, on a thread, fed a few frames ahead."""

    def __init__(self, path: Path, form: Form, schema: Any) -> None:
        self._frames: queue.Queue[Any] = queue.Queue(maxsize=2)
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, args=(path, form, schema), name="sink", daemon=True
        )
        self._thread.start()

    def put(self, frame: "pl.DataFrame") -> None:
        while self._thread.is_alive():
            with suppress(queue.Full):
                self._frames.put(frame, timeout=0.2)
                return
        raise self._failure()

    def close(self, *, whole: bool) -> None:
        end = None if whole else _Stop()
        while self._thread.is_alive():
            with suppress(queue.Full):
                self._frames.put(end, timeout=0.2)
                break
        self._thread.join()
        if whole and self._error is not None:
            raise self._failure()

    def _failure(self) -> SourceError:
        reason = (str(self._error).strip().splitlines() or ["the writer ended"])[0]
        return SourceError(f"The rows cannot be written: {reason}.")

    def _run(self, path: Path, form: Form, schema: Any) -> None:
        from polars.io.plugins import register_io_source

        def frames(*_: object) -> Iterator["pl.DataFrame"]:
            while (frame := self._frames.get()) is not None:
                if isinstance(frame, _Stop):
                    raise frame
                yield frame

        try:
            table = register_io_source(frames, schema=schema)
            if form == "parquet":
                table.sink_parquet(path, row_group_size=_ROWS)
            else:
                table.sink_ipc(path, compression="zstd")
        except BaseException as error:  # noqa: BLE001 (polars panics past Exception)
            self._error = error


class _Stop(Exception):
    """Ends a file that will not be whole."""


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A writer beside `path`, which takes its place when all went well and is gone otherwise.

    Raises:
        BadRequest: the name does not say what it is to hold.
        SourceError: it cannot be written there.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    writer = Writer(beside, form_of(path), packed=path.name.lower().endswith(".gz"))
    whole = False
    try:
        try:
            yield writer
            whole = True
        finally:
            writer.close(whole=whole)
        if beside.exists():
            beside.replace(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        beside.unlink(missing_ok=True)
