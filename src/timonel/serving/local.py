"""Predictions in this process, without any server: `timonel.load("digits/cnn").predict(…)`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from timonel import artifact
from timonel.errors import BadRequest, NotFound, NotReady
from timonel.project import Project, load_project
from timonel.serving.routing import Served, load_version
from timonel.serving.rows import RowReader, first_alias, refusal_of
from timonel.serving.state import Champion
from timonel.settings import Settings
from timonel.signature import Label
from timonel.tensors import picture_of

if TYPE_CHECKING:
    import polars

    from timonel.serving.score import Scorer

__all__ = ["LocalModel", "Prediction", "load"]


@dataclass(frozen=True)
class Prediction:
    """One row's answer: its label, the probability of each class, and the version that gave it."""

    label: Label
    probabilities: Mapping[Label, float]
    version: str


def load(reference: str, settings: Settings | None = None) -> "LocalModel":
    """The version that serves `PROJECT` or `PROJECT/MODEL`, or the numbered `PROJECT/MODEL@N`.

    Without a home, the version that ships with the project answers. A project may be a path.

    Raises:
        NotFound: there is no such project, model or version.
        NotReady: the model has no version yet.
        ArtifactError: the version's files were changed.
    """
    given = settings or Settings()
    name, model, number = _parts(reference)
    project = load_project(name)
    model = project.model(model).name
    folder, champion = _find(project, model, number, given)
    return LocalModel(project, load_version(folder, champion, project), given, folder)


class LocalModel:
    """A version in this process."""

    def __init__(self, project: Project, served: Served, settings: Settings, folder: Path) -> None:
        self.project = project
        self.version = served.label
        self._served = served
        self._reader = RowReader(project, settings.max_rows)
        self._max_pixels = settings.max_pixels
        self._folder = folder

    def predict(self, row: Any) -> Prediction:
        """The answer to one row: a mapping from field to value.

        Where the feature is an image, a row may also be a picture's path or file content, or its
        numbers in any nesting. Nothing is written to the journal.

        Raises:
            BadRequest: the row does not fit the features; says which field and what was expected.
            PictureError: the picture cannot be read.
        """
        return self.predict_many([row])[0]

    def predict_many(self, rows: Sequence[Any]) -> list[Prediction]:
        """The answers to several rows, in their order; see `predict` for what a row may be.

        Raises:
            BadRequest: a row does not fit the features; says which field and what was expected.
        """
        read = [self._row(row) for row in rows]
        if not read:
            return []
        indices, scores = self._served.model.predict(self._reader.arrays(read))
        classes = self._served.model.signature.classes
        return [
            Prediction(classes[index], dict(zip(classes, odds, strict=True)), self.version)
            for index, odds in zip(indices.tolist(), scores.tolist(), strict=True)
        ]

    def score(self, frame: "polars.DataFrame") -> "polars.DataFrame":
        """A table with `prediction`, `probability` (of it) and `version` added, on all cores.

        Its columns are matched by a feature's name or alias; see `scorer` for more, and for files.

        Raises:
            DataRefused: a row does not fit the features; says which, which field and why.
            BadRequest: a column is missing, or has the name of one that would be added.
        """
        return self.scorer().frame(frame)

    def scorer(self, *, probabilities: bool = False, only: bool = False) -> "Scorer":
        """What scores tables in memory and in files with this version.

        `probabilities` asks for a column a class; `only` leaves the tables' own columns out.

        Raises:
            ArtifactError: the version's files were changed.
        """
        from timonel.compiled.bulk import BulkModel
        from timonel.serving.score import Scorer

        artifact.verify(self._folder, self._served.champion.digest)
        content = (self._folder / "model.onnx").read_bytes()
        model = BulkModel(content, self._served.model.signature)
        return Scorer(self.project, self.version, model, probabilities, only)

    def _row(self, row: Any) -> BaseModel:
        column = self.project.columns[0]
        if column.image and isinstance(row, str | Path | bytes):
            from timonel.data.pictures import prepare

            content = row if isinstance(row, bytes) else _content(Path(row))
            pixels = prepare(
                content,
                height=column.image.height,
                width=column.image.width,
                max_pixels=self._max_pixels,
            )
            return self._reader.of_picture(picture_of(column, pixels))
        if column.image and not isinstance(row, Mapping):
            row = {first_alias(self._reader.row, column.name): row}
        try:
            return self._reader.row.model_validate(row)
        except ValidationError as error:
            detail = refusal_of(error)[1].detail
            if not isinstance(detail, str):
                detail = "; ".join(
                    ": ".join(filter(None, [".".join(map(str, item["loc"][1:])), item["msg"]]))
                    for item in detail
                )
            raise BadRequest(detail) from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"Expected a picture at {path}, got: {error.strerror}.") from None
    except ValueError as error:  # no path at all: a NUL in it, or half a character
        raise NotFound(f"Expected a picture's path, got {str(path)!r}: {error}.") from None


def _parts(reference: str) -> tuple[str, str | None, int | None]:
    """Project, model and number of `digits`, `digits/cnn`, `digits/cnn@4` or `my/file.py`."""
    rest, _, number = reference.partition("@")
    if number and not (number.isdecimal() and len(number) < 10):
        raise NotFound(f"Expected a version's number after @, got {number!r}.")
    if rest.endswith(".py") or "/" not in rest:
        return rest, None, int(number) if number else None
    name, _, model = rest.rpartition("/")
    return name, model, int(number) if number else None


def _find(
    project: Project, model: str, number: int | None, settings: Settings
) -> tuple[Path, Champion]:
    """The folder of a version and its name; from the home, or from the package."""
    if settings.database or (settings.root / "timonel.db").is_file():
        from timonel.stores.artifacts import fetch_version
        from timonel.stores.database import Database
        from timonel.stores.objects import ObjectStore
        from timonel.stores.versions import Versions

        versions = Versions(Database.open(settings.database_url))
        found = (
            versions.champion(project.name, model)
            if number is None
            else versions.get(project.name, model, number)
        )
        if found:
            objects = ObjectStore.open(settings.objects_url)
            folder = fetch_version(found.digest, objects, settings.serving_folder)
            return folder, Champion(project.name, model, found.number, found.digest)
    embedded = project.model(model).embedded
    if embedded is None or number not in (None, 0):
        raise NotReady(
            f"{project.name}/{model} has no version yet.",
            remedy=f"Train one: timonel run {project.reference}",
        )
    return embedded, Champion(project.name, model, 0, artifact.seal(embedded)[0])
