"""Named copies of a run's rows in the object store, as the project's layout says."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from timonel.data import datasets
from timonel.data.split import COLUMN
from timonel.errors import DefinitionError
from timonel.pipeline.context import Context
from timonel.pipeline.runner import Report, Runner
from timonel.policies import Layout
from timonel.tensors import arrays_of_frame
from timonel.training.design import design_matrix

if TYPE_CHECKING:
    import polars as pl

__all__ = ["BUCKET", "lay_out"]

BUCKET = "data"


def lay_out(
    runner: Runner, context: Context, ingested: Mapping[str, Any], split: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the files of the project's layout, unless they are those of these rows already.

    `files` are their keys. The pass is recorded in MLflow as a run with the rows as its input.
    """
    project, layout = context.project, context.project.layout
    if layout is None:
        raise DefinitionError(f"Project {project.name}: expected a layout, got none.")

    def act(report: Report) -> Mapping[str, Any]:
        files = _Files(context, layout)
        same = files.are_of(split["key"])
        if not same:
            files.write(ingested, split, report)
        report("recording the rows in MLflow", None)
        run = _record(context, ingested, split)
        told = "as they were" if same else "written"
        return {
            "files": files.keys,
            "mlflow_run": run,
            "note": f"{len(files.keys)} files below {BUCKET}/{layout.folder} {told}",
        }

    return runner.step("layout", act)


def _record(context: Context, ingested: Mapping[str, Any], split: Mapping[str, Any]) -> str:
    project, registry = context.project, context.registry
    run = registry.start(
        project.experiment or project.name,
        f"{project.name}/etl",
        parameters={"rows read": ingested["rows"], **split["counts"]},
        tags={
            "timonel.run": context.run_id,
            "timonel.step": "etl",
            "timonel.origin": ingested["origin"],
            "timonel.embedded": str(ingested["embedded"]).lower(),
            "mlflow.note.content": "\n\n".join(ingested["notes"]),
        },
    )
    registry.log_dataset(
        run,
        project.name,
        split["key"].rpartition("/")[2],
        source=split["key"],
        columns=project.columns,
        rows=sum(split["counts"].values()),
        context="dataset",
    )
    registry.finish(run)
    return run


class _Files:
    """The files of a layout: their keys, and how they are made."""

    def __init__(self, context: Context, layout: Layout) -> None:
        self._context = context
        self._layout = layout
        folder, info = f"{BUCKET}/{layout.folder}", f"{BUCKET}/{layout.info}"
        self._original = f"{folder}/{layout.name}.csv"
        self._preprocessed = f"{folder}/{layout.name}_preprocessed.csv"
        self._final = f"{folder}/final"
        self._pipeline = f"{info}/pipeline.skops"
        self._info = f"{info}/data.json"
        self.keys = [
            self._original,
            self._preprocessed,
            *(f"{self._final}/{part}_{side}.csv" for part in "Xy" for side in ("train", "test")),
            *([self._pipeline] if layout.transformation else []),
            self._info,
        ]

    def are_of(self, key: str) -> bool:
        """Whether all files are there, made of the rows of that key in this way."""
        objects = self._context.objects
        if not all(objects.exists(name) for name in self.keys):
            return False
        try:
            info = json.loads(objects.get(self._info))
        except ValueError:
            return False
        return bool(info.get("dataset") == key and info.get("layout") == self._described())

    def write(self, ingested: Mapping[str, Any], split: Mapping[str, Any], report: Report) -> None:
        """Write all of them, what tells of them last."""
        project, objects = self._context.project, self._context.objects
        objects.delete(self._info)
        report(self._original, None)
        self._csv(self._original, datasets.load(ingested["source_key"], objects))
        frame = datasets.load(split["key"], objects)
        names = [column.name for column in project.columns]
        report(self._preprocessed, None)
        self._csv(self._preprocessed, frame.select([*names, project.target]))
        test = frame[COLUMN] == "test"
        transformer: Any = None
        for side, part in (("train", frame.filter(~test)), ("test", frame.filter(test))):
            report(f"{self._final}, {side}", None)
            X = part.select(names)
            if self._layout.transformation is not None:
                matrix = design_matrix(project.columns, arrays_of_frame(project.columns, X))
                if transformer is None:
                    transformer = self._layout.transformation()
                    transformer.fit(matrix, part[project.target].to_numpy())
                X = _frame(transformer.transform(matrix), transformer, names)
            self._csv(f"{self._final}/X_{side}.csv", X)
            self._csv(f"{self._final}/y_{side}.csv", part.select(project.target))
        if transformer is not None:
            from skops.io import dumps

            objects.write(self._pipeline, dumps(transformer))
        objects.write(self._info, json.dumps(self._told(frame, split), indent=2).encode())

    def _csv(self, key: str, frame: "pl.DataFrame") -> None:
        import io

        buffer = io.BytesIO()
        frame.write_csv(buffer)
        self._context.objects.write(key, buffer.getvalue())

    def _told(self, frame: "pl.DataFrame", split: Mapping[str, Any]) -> dict[str, Any]:
        project = self._context.project
        texts = [column.name for column in project.columns if column.kind == "category"]
        categorical = [*texts, *self._layout.codes, project.target]
        made = datetime.fromtimestamp(self._context.clock(), UTC)
        return {
            "columns": [column.name for column in project.columns],
            "target_col": project.target,
            "categorical_columns": categorical,
            "categories_values_per_categorical": {
                name: frame[name].drop_nulls().unique().sort().to_list() for name in categorical
            },
            "date": f"{made:%Y/%m/%d-%H:%M:%S}",
            "rows": split["counts"],
            "dataset": split["key"],
            "layout": self._described(),
        }

    def _described(self) -> str:
        from timonel.pipeline.runner import code_of

        layout = self._layout
        return f"{layout.folder} {layout.name} {layout.codes} {code_of(layout.transformation)}"


def _frame(matrix: Any, transformer: Any, names: list[str]) -> "pl.DataFrame":
    import polars as pl

    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    # One that was fitted on an array does not know what the columns are called.
    given = names if transformer.n_features_in_ == len(names) else None
    return pl.DataFrame(dense, schema=list(map(str, transformer.get_feature_names_out(given))))
