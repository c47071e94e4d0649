"""MLflow's scoring protocol: what clients of `mlflow models serve` send and expect."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from timonel.contract import Answer
from timonel.errors import BadRequest, BodyTooLarge
from timonel.serving.predict import json_response
from timonel.serving.protocols.entrance import Asked, Entrance
from timonel.serving.protocols.tabular import Tabular, table_form
from timonel.serving.rows import Inputs, first_alias

__all__ = ["Invocation", "Invocations"]


class Split(BaseModel):
    """A data frame in pandas' orientation `split`; its index is of no account.

    Columns without names, or with numbers for names, are the project's in their order.
    """

    data: list[Any]
    columns: list[str] | list[int] | None = None


class Invocation(BaseModel):
    """A body: exactly one of these four, in any of which a list is a row in the columns' order.

    `params` and other keys are passed over, as MLflow does where a model declares none.
    """

    dataframe_split: Split | None = None
    dataframe_records: list[Any] | None = None
    instances: list[Any] | None = Field(None, description="Rows.")
    inputs: list[Any] | dict[str, Any] | None = Field(None, description="Rows, or columns.")


class Invocations:
    """Answers `POST …/invocations` of one project."""

    def __init__(self, entrance: Entrance) -> None:
        self.entrance = entrance
        self._tables = Tabular(
            entrance.answerer,
            entrance.reader,
            max_body=entrance.max_body,
            max_rows=entrance.max_rows,
        )
        row = entrance.reader.row
        self._names = [first_alias(row, column.name) for column in entrance.project.columns]
        self._image = any(column.image for column in entrance.project.columns)

    async def __call__(self, request: Request) -> Response:
        """The answer to a request, or a refusal."""
        entrance = self.entrance
        kind = request.headers.get("content-type", "")

        async def read(body: bytes) -> Asked:
            models = entrance.answerer.models(request.query_params.get("model"))
            form = table_form(kind)
            if form is None:
                inputs = entrance.inputs(self._rows(Invocation.model_validate_json(body)))
            else:
                inputs = await self._table(body, form)
            return Asked(inputs, models, _reply)

        return await entrance(request, "mlflow", read)

    async def _table(self, body: bytes, form: str) -> Inputs:
        try:
            return await self._tables.inputs(body, form)
        except BodyTooLarge as error:
            path = f"/{self.entrance.project.name}/predict"
            raise BodyTooLarge(
                error.message, remedy=f"Send it in parts, or to {path}, which takes larger tables."
            ) from None

    def _rows(self, asked: Invocation) -> list[Any]:
        """The rows of a body, each a mapping from field to value unless it is no row at all."""
        given = [name for name in Invocation.model_fields if getattr(asked, name) is not None]
        if len(given) != 1:
            raise BadRequest(
                f"Expected exactly one of {', '.join(Invocation.model_fields)}, got "
                f"{', '.join(given) or 'none'}."
            )
        if asked.dataframe_split is not None:
            named = [name for name in asked.dataframe_split.columns or () if isinstance(name, str)]
            return self._named(asked.dataframe_split.data, named or self._names)
        rows: Any = getattr(asked, given[0])
        if isinstance(rows, Mapping):
            return self._columns(rows)
        return self._named(rows, self._names)

    def _named(self, rows: Sequence[Any], names: Sequence[str]) -> list[Any]:
        """Rows whose values stand in the order of `names`, as mappings; others as they are."""
        self.entrance.check_count(len(rows))
        return [self._row(number, row, names) for number, row in enumerate(rows)]

    def _row(self, number: int, row: Any, names: Sequence[str]) -> Any:
        if not isinstance(row, list):
            # What is no row is said to be none by the validation that follows.
            return row if isinstance(row, dict) or len(names) != 1 else {names[0]: row}
        if len(row) == len(names) and not (self._image and len(row) == 1 and not _is_list(row[0])):
            return dict(zip(names, row, strict=True))
        if self._image and names == self._names:
            return {names[0]: row}
        raise BadRequest(
            f"row {number}: expected {len(names)} values ({', '.join(names)[:200]}), got "
            f"{len(row)}."
        )

    def _columns(self, columns: Mapping[str, Any]) -> list[Any]:
        """Rows from values column by column, or the one row whose values are no lists."""
        # A picture is a list itself, so that a list of lists is several.
        lists = {
            name: values
            for name, values in columns.items()
            if _is_list(values) and (not self._image or all(map(_is_list, values)))
        }
        if not lists:
            return [dict(columns)]
        counts = {name: len(values) for name, values in lists.items()}
        if len(lists) < len(columns) or len(set(counts.values())) > 1:
            said = ", ".join(f"{name!r} has {counts.get(name, 'none')}" for name in columns)
            raise BadRequest(f"inputs: expected as many values in each column, got {said[:400]}.")
        self.entrance.check_count(len(next(iter(lists.values()))))
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _reply(answer: Answer) -> Response:
    """A label a row; of several models, a record a row with the label of each."""
    predictions: list[Any] = answer.predictions
    if len(answer.labels) > 1:
        predictions = [
            dict(zip(answer.labels, row, strict=True))
            for row in zip(*answer.labels.values(), strict=True)
        ]
    return json_response({"predictions": predictions})
