"""Frames as tables of the state database: written whole, and read back with the same types."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from timonel.errors import DataRefused, DefinitionError
from timonel.project import Project
from timonel.schema import Column
from timonel.stores import tables as state

if TYPE_CHECKING:
    import polars as pl
    import sqlalchemy as sa

    from timonel.stores.database import Database

__all__ = ["ROW", "keep", "read_table", "write_tables"]

ROW = "row_id"
"""The column that keeps the order of the rows, from 1."""

_AT_ONCE = 10_000  # rows a statement


def keep(
    project: Project, raw: "pl.DataFrame", processed: "pl.DataFrame", database: "Database"
) -> "pl.DataFrame":
    """Write a project's tables in one transaction; the processed rows as the database has them.

    Processed features that are numbers, but came as text, are numbers in the table.

    Raises:
        DataRefused: a column cannot be kept in a table.
        StoreError: the database cannot be written.
    """
    tables = project.tables
    if tables is None:
        return processed
    processed = _typed(processed, project.columns)
    frames = {tables.raw: raw, tables.processed: processed}
    write_tables({name: frame for name, frame in frames.items() if name}, database)
    if tables.processed is None:
        return processed
    return read_table(tables.processed, processed.schema, database)


def write_tables(frames: Mapping[str, "pl.DataFrame"], database: "Database") -> None:
    """Replace the tables of these names by the frames, in one transaction.

    Readers see the former tables or the new ones; repeating it changes nothing. NaN is written as
    missing.
    """
    import sqlalchemy as sa
    from sqlalchemy.schema import CreateTable, DropTable

    made = {name: _table(name, frame.schema) for name, frame in frames.items()}
    with database.begin() as connection:
        for name, frame in frames.items():
            table = made[name]
            connection.execute(DropTable(table, if_exists=True))
            connection.execute(CreateTable(table))
            rows = _values(frame).with_row_index(ROW, offset=1)
            for part in rows.iter_slices(_AT_ONCE):
                connection.execute(sa.insert(table), part.to_dicts())


def read_table(
    name: str, schema: "Mapping[str, pl.DataType]", database: "Database"
) -> "pl.DataFrame":
    """The rows that were written, in their order, with the columns and types of `schema`."""
    import polars as pl
    import sqlalchemy as sa

    table = _table(name, schema)
    with database.read() as connection:
        query = sa.select(*(table.c[column] for column in schema)).order_by(table.c[ROW])
        rows = connection.execute(query).all()
    # Times are kept in UTC, without a zone.
    plain = {
        column: pl.Datetime(kind.time_unit) if isinstance(kind, pl.Datetime) else kind
        for column, kind in schema.items()
    }
    frame = pl.DataFrame(rows, schema=plain, orient="row")
    return frame.with_columns(
        pl.col(column).dt.replace_time_zone("UTC").dt.convert_time_zone(kind.time_zone)
        for column, kind in schema.items()
        if isinstance(kind, pl.Datetime) and kind.time_zone
    )


def _typed(frame: "pl.DataFrame", columns: Sequence[Column]) -> "pl.DataFrame":
    """Numbers for texts, in columns where each text is one; the others are left to be judged."""
    import polars as pl

    kinds = {"number": pl.Float64, "integer": pl.Int64}
    for column in columns:
        kind = kinds.get(column.kind)
        if kind is None or frame.schema.get(column.name) != pl.String:
            continue
        made = frame[column.name].cast(kind, strict=False)
        if made.null_count() == frame[column.name].null_count():
            frame = frame.with_columns(made)
    return frame


def _values(frame: "pl.DataFrame") -> "pl.DataFrame":
    """The same rows as every database holds them."""
    import polars as pl

    def plain(series: pl.Series) -> pl.Series:
        kind = series.dtype
        if kind.is_float():
            return series.fill_nan(None)
        if isinstance(kind, pl.Categorical | pl.Enum):
            return series.cast(pl.String)
        if isinstance(kind, pl.Datetime) and kind.time_zone:
            return series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return series

    return pl.DataFrame([plain(series) for series in frame])


def _table(name: str, schema: "Mapping[str, pl.DataType]") -> "sa.Table":
    import sqlalchemy as sa

    if name in {*state.metadata.tables, "alembic_version"}:
        raise DefinitionError(
            f"Tables: the name {name} is taken by Timonel's own table.",
            remedy="Choose another, such as one that starts with the project's name.",
        )
    if ROW in schema:
        raise DataRefused(
            f"Table {name}: expected columns without {ROW}, which keeps the order of the rows.",
            remedy="Rename it in the source or in the project's prepare function.",
        )
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column(ROW, sa.Integer, primary_key=True, autoincrement=False),
        # SQLAlchemy does not know every word that a database reserves.
        *(
            sa.Column(column, _type(name, column, kind), quote=True)
            for column, kind in schema.items()
        ),
        quote=True,
    )


def _type(table: str, column: str, kind: "pl.DataType") -> Any:
    import polars as pl
    import sqlalchemy as sa

    if kind == pl.Boolean:
        return sa.Boolean()
    if kind.is_integer() and kind != pl.UInt64:
        return sa.BigInteger()
    if kind.is_float():
        return sa.Double()
    simple: dict[Any, Any] = {
        pl.String: sa.Text(),
        pl.Categorical: sa.Text(),
        pl.Enum: sa.Text(),
        pl.Binary: sa.LargeBinary(),
        pl.Date: sa.Date(),
        pl.Datetime: sa.DateTime(),
        pl.Null: sa.Text(),
    }
    if kind.base_type() in simple:
        return simple[kind.base_type()]
    raise DataRefused(
        f"Table {table}, column {column}: expected text, numbers, booleans, dates, times or bytes, "
        f"got {kind}.",
        remedy="Cast it in the project's prepare function.",
    )
