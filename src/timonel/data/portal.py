"""Files of an open-data portal: exported tables and API answers, in whatever state they arrive.

The same records are published with columns in title case and in snake case, as CSV and as JSON;
and files are opened in spreadsheets and saved from browsers before they get here. What can be
repaired is, with a sentence; what cannot is refused.
"""

import gzip
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from timonel.data.cleaning import snake_case
from timonel.errors import DataRefused, SourceMissing
from timonel.project import Read, Rows

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Portal", "read_file", "table_of"]

_REPEATED = 25  # times that a column's texts do on average, at least, to be worth a number each
_ENDINGS = (".csv", ".csv.gz", ".json", ".json.gz", ".parquet")
_NOT_TABLES = {
    b"<": "a web page (HTML)",
    b"PK\x03\x04": "a spreadsheet or zip archive",
    b"%PDF": "a PDF",
}


@dataclass(frozen=True, init=False)
class Portal:
    """The rows of the files that match a pattern in TIMONEL_DATA, as texts.

    `patterns` are such as `crimes/crimes_2024*`; all files of the first that matches any are read:
    CSV and JSON, gzipped or not, and Parquet. A path that exists by itself may be given instead.
    Columns have snake_case names. Those whose texts repeat are Categorical, a quarter of the
    memory; what looks into texts, `.str`, wants a `.cast(pl.String)` before it.
    """

    patterns: tuple[str, ...]

    def __init__(self, *patterns: str) -> None:
        object.__setattr__(self, "patterns", patterns)

    def read(self, read: Read) -> Rows:
        """The rows of the files in order of their names.

        Raises:
            SourceMissing: there is no such file.
            DataRefused: one is there but spoiled, which no other source should hide.
        """
        import polars as pl

        paths = next(filter(None, (_paths(pattern, read) for pattern in self.patterns)), None)
        if paths is None:
            where = f"in {read.folder}" if read.folder else "(no folder is set)"
            raise SourceMissing(
                f"Expected files {' or '.join(self.patterns)} {where}, found none.",
                remedy="Put them into a folder and name that folder in TIMONEL_DATA.",
            )
        frames, notes = [], []
        for number, path in enumerate(paths):
            read.report(f"reading {path.name}", number / len(paths))
            frame, told = read_file(path)
            frames.append(frame)
            notes += [f"{path.name}: {note}" for note in told]
        frame = pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]
        return Rows(frame, " + ".join(map(str, paths)), tuple(notes))


def _paths(pattern: str, read: Read) -> list[Path]:
    alone = Path(pattern).expanduser()
    if alone.is_file():
        return [alone]
    found = read.folder.glob(pattern) if read.folder else ()
    return sorted(path for path in found if path.name.endswith(_ENDINGS) and path.is_file())


def read_file(path: Path) -> "tuple[pl.DataFrame, list[str]]":
    """A file's rows as texts ("" is missing) under snake_case names, and what was repaired.

    Raises:
        DataRefused: it holds something else, or only a part.
    """
    import polars as pl

    try:
        if path.name.endswith(".parquet"):
            # One column after the other: all of them as plain texts are several times the table.
            names = pl.read_parquet_schema(path)
            parts = (pl.read_parquet(path, columns=[name], glob=False) for name in names)
            return _as_texts(part.to_series() for part in parts), []
        frame, notes = table_of(path.read_bytes())
        return _as_texts(frame), notes
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _spoiled(path, f"expected a table, got: {reason}") from None
    except OSError as error:
        raise _spoiled(path, f"it cannot be read: {error.strerror or error}") from None
    except DataRefused as error:
        raise _spoiled(path, error.message.removesuffix(".")) from None


def table_of(content: bytes) -> "tuple[pl.DataFrame, list[str]]":
    """The table in the bytes of a CSV or JSON file, gzipped or not, and what was repaired.

    Raises:
        DataRefused: it holds something else, or only a part.
    """
    notes: list[str] = []
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise DataRefused(f"the gzip archive is cut short or damaged ({error}).") from None
    content = _decoded(content, notes)
    start = content[:200].lstrip()
    if not start:
        raise DataRefused("expected a table, got an empty file.")
    for magic, what in _NOT_TABLES.items():
        if start.startswith(magic):
            raise DataRefused(f"expected CSV or JSON, got {what}.")
    frame = _json(content) if start[:1] in (b"[", b"{") else _csv(content)
    return _without_headers(frame, notes), notes


def _decoded(content: bytes, notes: list[str]) -> bytes:
    """The content in UTF-8 without a mark."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        notes.append("it was written in UTF-16, and read as that.")
        return content.decode("utf-16", "replace").encode()
    if content.startswith(b"\xef\xbb\xbf"):
        notes.append("it begins with a byte order mark, which was left out.")
        content = content[3:]
    try:
        content.decode()
    except UnicodeDecodeError:
        notes.append("it is not written in UTF-8; it was read as Latin-1 (Windows-1252).")
        try:
            return content.decode("cp1252").encode()
        except UnicodeDecodeError:
            return content.decode("latin-1").encode()
    return content


def _csv(content: bytes) -> "pl.DataFrame":
    import polars as pl

    frame = pl.read_csv(io.BytesIO(content), infer_schema=False)
    if frame.width < 2 and any(mark in frame.columns[0] for mark in ";\t|"):
        raise DataRefused(
            f"expected columns separated by commas, got the single one {frame.columns[0][:60]!r}."
        )
    return frame


def _json(content: bytes) -> "pl.DataFrame":
    import json

    import polars as pl

    try:
        found: Any = json.loads(content)
    except ValueError as error:
        raise DataRefused(f"expected JSON, got: {error}.") from None
    if isinstance(found, dict):
        said = found.get("message") or ", ".join(found)
        raise DataRefused(f"expected a list of records, got an object: {str(said)[:120]}.")
    if not found or not all(isinstance(record, dict) for record in found):
        raise DataRefused("expected a list of records, got something else.")
    names = dict.fromkeys(name for record in found for name in record)
    plain = {name: [_plain(record.get(name)) for record in found] for name in names}
    return pl.DataFrame(plain, schema=dict.fromkeys(names, pl.String))


def _plain(value: Any) -> str | None:
    """A value of JSON as CSV has it; places and other objects have no column of their own there."""
    if value is None or isinstance(value, dict | list):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _without_headers(frame: "pl.DataFrame", notes: list[str]) -> "pl.DataFrame":
    """The rows without those that repeat the header, as files pasted together have them."""
    import polars as pl

    names = frame.columns
    if frame.height < 1:
        return frame
    first = pl.col(names[0])
    suspects = frame.with_row_index("row number").filter(
        first.str.to_lowercase() == names[0].lower()
    )
    if not suspects.height:
        return frame
    headers = [
        row[0]
        for row in suspects.iter_rows()
        if [snake_case(str(value)) for value in row[1:]] == [snake_case(name) for name in names]
    ]
    if not headers:
        return frame
    notes.append(f"the header is repeated among the rows {len(headers)} times; left out.")
    rows = pl.int_range(frame.height, eager=True)
    return frame.filter(~rows.is_in(headers))


def _as_texts(columns: "Iterable[pl.Series]") -> "pl.DataFrame":
    """A table of texts; where they repeat they are Categorical, a quarter of the memory."""
    import polars as pl

    texts: dict[str, pl.Series] = {}
    for given in columns:
        name = snake_case(given.name)
        if name in texts or "_duplicated_" in name:
            raise DataRefused(f"expected each column once, got several called {name}.")
        if given.dtype.is_nested():
            continue
        whole = given.dt.strftime("%Y-%m-%dT%H:%M:%S") if given.dtype.is_temporal() else given
        text = whole.cast(pl.String).rename(name)
        if cast(int, text.approx_n_unique()) * _REPEATED < len(text):
            text = text.cast(pl.Categorical)
        # Most columns have no empty text, and those need no copy.
        empty = text == ""
        texts[name] = (text.set(empty, None) if empty.any() else text).rechunk()
    return pl.DataFrame(texts)


def _spoiled(path: Path, what: str) -> DataRefused:
    return DataRefused(
        f"{path}: {what}.", remedy="Fetch the file again from its portal, or remove it."
    )
