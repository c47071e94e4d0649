"""The wire contract: how a request's body becomes rows, and an answer a reply."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from timonel.signature import Label

__all__ = ["Answer", "Contract", "Upload", "standard_reply"]


@dataclass(frozen=True)
class Answer:
    """What one request was answered, as a contract's reply sees it.

    `labels` and `probabilities` hold, for each model that answered (the default one first), one
    entry a row; `versions` the version of each, such as `penguins/rf@3`. `single` says that the
    request was one row and not a list.
    """

    id: str
    labels: Mapping[str, Sequence[Label]]
    probabilities: Mapping[str, Sequence[Mapping[Label, float]]]
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


def standard_reply(answer: Answer) -> dict[str, Any]:
    """`prediction` and its `probabilities` for one row; lists of both for several."""
    rows = [
        {
            "prediction": label,
            "probabilities": {str(key): value for key, value in odds.items()},
        }
        for label, odds in zip(
            answer.predictions, answer.probabilities[answer.model], strict=True
        )
    ]
    common = {"id": answer.id, "version": answer.versions[answer.model]}
    return {**rows[0], **common} if answer.single else {"predictions": rows, **common}


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
