"""The wire contract: how a request's body becomes rows, and an answer a reply."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from typing_extensions import TypedDict

from timonel.signature import Label

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Answer", "Contract", "Upload", "labels", "standard_reply"]


class Answer(msgspec.Struct, frozen=True):
    """What one request was answered, as a contract's reply sees it.

    `labels` holds, for each model that answered (the default one first), one label a row; `scores`
    the probabilities, a float32 array (rows, classes) in the order of `classes`; `versions` the
    version of each, such as `penguins/rf@3`. `single` says that the request was one row and not a
    list.
    """

    id: str
    labels: Mapping[str, Sequence[Label]]
    scores: "Mapping[str, np.ndarray]"
    classes: Mapping[str, Sequence[Label]]
    versions: Mapping[str, str]
    seconds: float
    single: bool

    @property
    def model(self) -> str:
        """The model that answered, the first where there are several."""
        return next(iter(self.labels))

    @property
    def predictions(self) -> list[Label]:
        """That model's label for each row."""
        return list(self.labels[self.model])

    def probabilities(self, model: str | None = None) -> list[dict[str, float]]:
        """For each row, the probability of each class by its name."""
        model = model or self.model
        names = [str(label) for label in self.classes[model]]
        return [dict(zip(names, row, strict=True)) for row in self.scores[model].tolist()]


class Prediction(TypedDict):
    """One row's answer."""

    prediction: Label
    probabilities: dict[str, float]


class StandardReply(TypedDict, total=False):
    """The reply of a project that declares none: one row's answer, or several `predictions`."""

    prediction: Label
    probabilities: dict[str, float]
    predictions: list[Prediction]
    id: str
    version: str


def standard_reply(answer: Answer) -> StandardReply:
    """`prediction` and its `probabilities` for one row; a list of both for several."""
    common: StandardReply = {"id": answer.id, "version": answer.versions[answer.model]}
    rows: list[Prediction] = [
        {"prediction": label, "probabilities": odds}
        for label, odds in zip(answer.predictions, answer.probabilities(), strict=True)
    ]
    if answer.single:
        return {**common, **rows[0]}
    return {**common, "predictions": rows}


def labels(key: str, kind: type[int] | type[str] = int) -> Callable[[Answer], dict[str, list[Any]]]:
    """A reply that lists the rows' labels under one key: `{"prediction": [0, 2]}`.

    `kind` is what labels are on the wire, and in the documentation.
    """

    def reply(answer: Answer) -> dict[str, list[Any]]:
        return {key: [kind(label) for label in answer.predictions]}

    reply.__name__ = f"labels({key!r})"
    # Made from arguments, so a type checker cannot follow; the documentation does.
    reply.__annotations__["return"] = TypedDict("Reply", {key: list[kind]})  # type: ignore[operator, valid-type]
    return reply


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The multipart form that takes a picture: a file field and the name of a model.

    `reply` shapes a good answer; `refusal` is given the HTTP status, a sentence, the prediction id
    and the seconds spent. The form's fields are `image` and `model`.
    """

    reply: Callable[[Answer], Any]
    refusal: Callable[[int, str, str, float], Any]
    model_required: bool = True


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The HTTP shape of a project's predictions.

    `rows`: whether a body is `one` row, `many` (a list), or `either`. `under` names a key that the
    row is wrapped in. `unknown` says whether extra fields are refused or ignored. `models`: whether
    the default model answers or `all` do. `reply` turns an `Answer` into the reply's JSON;
    `example` is a body for the documentation. A definition's upload form is `upload`.
    """

    reply: Callable[[Answer], Any] = standard_reply
    rows: Literal["one", "many", "either"] = "either"
    under: str | None = None
    unknown: Literal["refuse", "ignore"] = "refuse"
    models: Literal["default", "all"] = "default"
    upload: Upload | None = None
    example: Any = field(default=None, compare=False)
