"""Sources: where rows come from. Each reads a frame as it is; `quality` judges it afterwards."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from timonel.data.files import locate
from timonel.data.idx import read_images, read_labels
from timonel.errors import DefinitionError, SourceError, SourceMissing
from timonel.project import File, Read, Rows, Source

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Concat", "Csv", "Embedded", "FirstOf", "Idx", "Parquet", "Python", "Table"]


@dataclass(frozen=True)
class Csv:
    """A CSV file, gzipped or not, with a header; every column is text, so `007` stays `007`.

    `columns` renames: name in the file to name in the frame. `nulls` are the texts that mean
    missing, in every column; an empty field always does. `encoding` is a Python codec's name.
    """

    file: File
    columns: Mapping[str, str] = field(default_factory=dict)
    nulls: tuple[str, ...] = ()
    separator: str = ","
    encoding: str = "utf8"

    def read(self, read: Read) -> Rows:
        """The rows; raises SourceError when the file cannot be had or is no such CSV."""
        import polars as pl

        path = locate(self.file, read)
        try:
            frame = pl.read_csv(
                path,
                separator=self.separator,
                null_values=list(self.nulls),
                encoding=self.encoding,
                infer_schema=False,
                glob=False,
            )
        except (pl.exceptions.PolarsError, OSError, UnicodeError, LookupError) as error:
            raise _unreadable(path, "a CSV file", error) from None
        return Rows(_renamed(frame, self.columns, str(path)), str(path))


@dataclass(frozen=True)
class Parquet:
    """A Parquet file; its columns keep their types. `columns` renames as in `Csv`."""

    file: File
    columns: Mapping[str, str] = field(default_factory=dict)

    def read(self, read: Read) -> Rows:
        """The rows; raises SourceError when the file cannot be had or is no Parquet file."""
        import polars as pl

        path = locate(self.file, read)
        try:
            frame = pl.read_parquet(path, glob=False)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise _unreadable(path, "a Parquet file", error) from None
        return Rows(_renamed(frame, self.columns, str(path)), str(path))


@dataclass(frozen=True)
class Idx:
    """Pictures and labels in the idx format, as MNIST has them.

    The frame has `pixels` (Binary, a byte a pixel, row by row), `label` (Int64) and `part`, which
    is the given text in every row: name it in `Split(given="part")`.
    """

    images: File
    labels: File
    part: str

    def read(self, read: Read) -> Rows:
        """The rows; raises SourceError when a file cannot be had or the two do not belong."""
        import polars as pl

        images, labels = locate(self.images, read), locate(self.labels, read)
        pictures, _, _ = read_images(images)
        digits = read_labels(labels)
        if len(pictures) != len(digits):
            raise SourceError(
                f"Expected as many labels as pictures, got {len(pictures):,} pictures in {images} "
                f"and {len(digits):,} labels in {labels}.",
                remedy="Name two files of the same part.",
            )
        frame = pl.DataFrame(
            {"pixels": pictures, "label": digits},
            schema={"pixels": pl.Binary, "label": pl.Int64},
        )
        return Rows(frame.with_columns(part=pl.lit(self.part)), str(images))


@dataclass(frozen=True)
class Table:
    """A table (`name`, or `schema.name`) or the result of a `query`, by SQL.

    `database` is a SQLAlchemy URL (default: the project's state database).
    """

    name: str | None = None
    query: str | None = None
    database: str | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.query is None):
            raise DefinitionError(
                f"Table: expected a name or a query, got name={self.name!r}, query={self.query!r}.",
                remedy="Write Table('penguins') or Table(query='select …').",
            )

    def read(self, read: Read) -> Rows:
        """The rows; raises SourceError when the database does not answer with any table."""
        import polars as pl
        import sqlalchemy as sa

        address = self.database or read.database
        try:
            url = sa.make_url(address)
        except sa.exc.ArgumentError:
            raise SourceError(
                "Table: expected database to be a SQLAlchemy URL, got something else.",
                remedy="Write for instance sqlite:///rows.db or postgresql+psycopg://host/name.",
            ) from None
        origin = f"{self.name or self.query} at {url.render_as_string(hide_password=True)}"
        # SQLite would make an empty database of a misspelt path.
        on_disk = url.get_backend_name() == "sqlite" and "?" not in address
        if on_disk and not Path(url.database or "").is_file():
            raise SourceError(
                f"{origin}: there is no such database file.",
                remedy="Correct the path, or run first what fills that table.",
            )
        statement: Any = sa.text(self.query or "")
        if self.name is not None:
            schema, _, name = self.name.rpartition(".")
            table = sa.table(name, schema=schema or None)
            statement = sa.select(sa.text("*")).select_from(table)
        try:
            engine = sa.create_engine(url)
            try:
                with engine.connect() as connection:
                    result = connection.execute(statement)
                    names, values = list(result.keys()), list(zip(*result, strict=True))
            finally:
                engine.dispose()
            columns = zip(names, values or [()] * len(names), strict=True)
            frame = pl.DataFrame([_series(*column) for column in columns])
        except (
            sa.exc.SQLAlchemyError,
            pl.exceptions.PolarsError,
            ImportError,
            TypeError,
        ) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise SourceError(
                f"{origin}: expected rows, got {type(error).__name__}: {reason}.",
                remedy="Check the address, the table's name, and that the driver is installed.",
            ) from None
        return Rows(frame, origin)


@dataclass(frozen=True)
class Python:
    """A function, or `"module:function"`, that takes nothing and returns rows.

    They may be a Polars or pandas frame or a mapping of columns to values.
    """

    function: Callable[[], Any] | str

    def read(self, read: Read) -> Rows:
        """The rows; raises SourceError when the function cannot be had, fails or returns none."""
        import polars as pl

        function = self.function
        if isinstance(function, str):
            origin, function = function, _imported(function)
        else:
            origin = f"{function.__module__}:{getattr(function, '__qualname__', function)}"
        read.report(f"calling {origin}", None)
        try:
            got = function()
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(
                f"{origin}: expected rows, got {type(error).__name__}: {error}."
            ) from error
        try:
            if isinstance(got, Mapping):
                got = pl.DataFrame(dict(got))
            elif not isinstance(got, pl.DataFrame) and hasattr(got, "iloc"):
                got = pl.from_pandas(got)
        except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise SourceError(f"{origin}: expected a table, got: {error}.") from None
        if not isinstance(got, pl.DataFrame):
            raise SourceError(
                f"{origin}: expected a Polars or pandas frame or a mapping of columns, "
                f"got {type(got).__name__}."
            )
        return Rows(got, origin)


@dataclass(frozen=True, init=False)
class Concat:
    """The rows of several sources with the same columns, in any order, one after the other."""

    sources: tuple[Source, ...]

    def __init__(self, *sources: Source) -> None:
        object.__setattr__(self, "sources", _some("Concat", sources))

    def read(self, read: Read) -> Rows:
        """All rows; raises SourceError when one source cannot be had or has other columns."""
        import polars as pl

        parts = [source.read(read) for source in self.sources]
        first = parts[0]
        for part in parts[1:]:
            if _kinds(part.frame) != _kinds(first.frame):
                raise SourceError(
                    f"{part.origin}: expected the columns of {first.origin} "
                    f"({_columns(first.frame)}), got {_columns(part.frame)}."
                )
        return Rows(
            pl.concat(
                [part.frame.select(first.frame.columns) for part in parts], how="vertical_relaxed"
            ),
            " + ".join(part.origin for part in parts),
            tuple(dict.fromkeys(note for part in parts for note in part.notes)),
            any(part.embedded for part in parts),
        )


@dataclass(frozen=True, init=False)
class FirstOf:
    """The first of several sources that can be had.

    Why an earlier one could not is noted, unless its files are just not there and the one that was
    had is no embedded default.
    """

    sources: tuple[Source, ...]

    def __init__(self, *sources: Source) -> None:
        object.__setattr__(self, "sources", _some("FirstOf", sources))

    def read(self, read: Read) -> Rows:
        """The rows; raises SourceError when no source can be had, with the reason of each."""
        failures: list[SourceError] = []
        for source in self.sources:
            try:
                rows = source.read(read)
            except SourceError as error:
                failures.append(error)
            else:
                told = [
                    str(error)
                    for error in failures
                    if rows.embedded or not isinstance(error, SourceMissing)
                ]
                return replace(rows, notes=(*told, *rows.notes))
        raise SourceError(" ".join(error.message for error in failures), remedy=failures[-1].remedy)


@dataclass(frozen=True)
class Embedded:
    """A small default that ships with the package; `sentence` tells a person what it is."""

    source: Source
    sentence: str

    def read(self, read: Read) -> Rows:
        """The rows, marked as embedded; raises SourceError as its source does."""
        rows = self.source.read(read)
        return replace(rows, notes=(*rows.notes, self.sentence), embedded=True)


def _some(owner: str, sources: tuple[Source, ...]) -> tuple[Source, ...]:
    wrong = [source for source in sources if not hasattr(source, "read")]
    if wrong or not sources:
        raise DefinitionError(
            f"{owner}: expected one or more sources, got {wrong[0] if wrong else 'none'}.",
            remedy=f"Write {owner}(Csv(File('a.csv')), Csv(File('b.csv'))).",
        )
    return sources


def _imported(name: str) -> Callable[[], Any]:
    module, _, attribute = name.partition(":")
    try:
        return cast(Callable[[], Any], getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise SourceError(
            f"{name}: expected module:function, got: {error}.",
            remedy=f"Install the package that has {module!r}, or correct the name.",
        ) from None


def _series(name: str, values: Sequence[Any]) -> "pl.Series":
    import polars as pl

    # SQLite keeps 1 and 1.5 of one column as two types; no other mixture is let through.
    if {type(value) for value in values} - {type(None)} == {int, float}:
        return pl.Series(name, values, pl.Float64, strict=False)
    try:
        return pl.Series(name, values)
    except (TypeError, OverflowError) as error:
        raise TypeError(f"column {name}: {error}") from None


def _unreadable(path: Path, expected: str, error: BaseException) -> SourceError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return SourceError(
        f"{path}: expected {expected}, got: {reason}.",
        remedy="Check the file, and the source's options in the project's definition.",
    )


def _renamed(frame: "pl.DataFrame", columns: Mapping[str, str], origin: str) -> "pl.DataFrame":
    import polars as pl

    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise SourceError(
            f"{origin}: expected the columns {', '.join(absent)}, got {', '.join(frame.columns)}."
        )
    try:
        return frame.rename(dict(columns))
    except pl.exceptions.DuplicateError as error:
        raise SourceError(f"{origin}: two columns would have one name: {error}.") from None


def _kinds(frame: "pl.DataFrame") -> "dict[str, pl.DataType]":
    """The columns' types; texts are texts, whether held once each or in every row."""
    import polars as pl

    texts = pl.String()
    return {name: texts if kind == pl.Categorical else kind for name, kind in frame.schema.items()}


def _columns(frame: "pl.DataFrame") -> str:
    return ", ".join(f"{name} {kind}" for name, kind in frame.schema.items())
