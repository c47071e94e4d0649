"""What was true: the label of a row that was predicted, by prediction id."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from timonel.stores import tables
from timonel.stores.database import Database

__all__ = ["Label", "Labels", "forgotten", "forgotten_before"]

_MANY = 500


@dataclass(frozen=True)
class Label:
    """The truth of row `row` (from 0) of a prediction; `at` is when it was said.

    `prediction` is the UUID as text, `label` a class as text; `at` is seconds since 1970, UTC.
    """

    project: str
    prediction: str
    row: int
    label: str
    at: float


class Labels:
    """The labels in the database, one a row of a prediction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, labels: Iterable[Label]) -> int:
        """Keep labels, and say how many are new or another than before.

        Of several for one row the latest said counts, in whatever order they come.
        """
        newest: dict[tuple[str, str, int], Label] = {}
        for label in labels:
            key = (label.project, label.prediction, label.row)
            if key not in newest or newest[key].at <= label.at:
                newest[key] = label
        changed = 0
        with self._database.begin() as connection:
            for project in {key[0] for key in newest}:
                mine = [label for label in newest.values() if label.project == project]
                for start in range(0, len(mine), _MANY):
                    changed += _put(connection, project, mine[start : start + _MANY])
        return changed

    def between(self, project: str, first: str, last: str) -> Sequence[Label]:
        """The labels of predictions whose ids lie in `first`..`last`, both included."""
        table = tables.labels.c
        query = (
            select(tables.labels)
            .where(table.project == project, table.prediction.between(first, last))
            .order_by(table.prediction, table.row)
        )
        with self._database.read() as connection:
            return [Label(**row) for row in connection.execute(query).mappings()]

    def count(self, project: str, since: float = 0.0) -> int:
        """How many were said since a time."""
        table = tables.labels.c
        query = select(func.count()).where(table.project == project, table.at >= since)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def count_between(self, project: str, first: str, last: str) -> int:
        """How many are of predictions whose ids lie in `first`..`last`, both included."""
        table = tables.labels.c
        query = select(func.count()).where(
            table.project == project, table.prediction.between(first, last)
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def latest(self, project: str) -> float:
        """When the last label was said; 0 without any."""
        table = tables.labels.c
        query = select(func.max(table.at)).where(table.project == project)
        with self._database.read() as connection:
            return float(connection.execute(query).scalar_one() or 0.0)

    def forget(self, project: str, predictions: Sequence[str]) -> int:
        """Delete the labels of predictions; how many there were."""
        with self._database.begin() as connection:
            return forgotten(connection, project, predictions)

    def forget_before(self, project: str, before: str) -> int:
        """Delete the labels of predictions whose ids are lower; how many there were."""
        with self._database.begin() as connection:
            return forgotten_before(connection, project, before)


def forgotten(
    connection: Connection,
    project: str,
    predictions: Sequence[str],
    rows: Iterable[tuple[str, int]] = (),
) -> int:
    """`Labels.forget` inside a transaction that changes more; also of single `rows` of others."""
    table, gone = tables.labels, 0
    mine = delete(table).where(table.c.project == project)
    for start in range(0, len(predictions), _MANY):
        chosen = predictions[start : start + _MANY]
        gone += connection.execute(mine.where(table.c.prediction.in_(chosen))).rowcount
    for prediction, row in rows:
        same = (table.c.prediction == prediction) & (table.c.row == row)
        gone += connection.execute(mine.where(same)).rowcount
    return gone


def forgotten_before(connection: Connection, project: str, before: str) -> int:
    """`Labels.forget_before` inside a transaction that changes more."""
    table = tables.labels.c
    old = (table.project == project) & (table.prediction < before)
    return connection.execute(delete(tables.labels).where(old)).rowcount


def _put(connection: Connection, project: str, labels: Sequence[Label]) -> int:
    table = tables.labels
    query = select(table).where(
        table.c.project == project, table.c.prediction.in_({one.prediction for one in labels})
    )
    known = {(row["prediction"], row["row"]): row for row in connection.execute(query).mappings()}
    new, changed = [], 0
    for label in labels:
        former = known.get((label.prediction, label.row))
        if former is None:
            new.append(vars(label))
        elif former["at"] < label.at:
            same = (
                (table.c.project == project)
                & (table.c.prediction == label.prediction)
                & (table.c.row == label.row)
            )
            connection.execute(update(table).where(same).values(label=label.label, at=label.at))
            changed += former["label"] != label.label
    if new:
        connection.execute(insert(table), new)
    return len(new) + changed
