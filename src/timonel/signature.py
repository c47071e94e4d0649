"""The signature: the shape of a version's inputs and outputs, and whether two shapes agree."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from timonel.errors import ArtifactError
from timonel.schema import Column

__all__ = ["Binding", "Difference", "Label", "Signature", "compatible"]

FORMAT = 1

Label = int | str


@dataclass(frozen=True)
class Binding:
    """How columns and classes meet the inputs and outputs of an ONNX graph.

    `layout`: `matrix` is one float32 input (n, columns); `columns` one input (n, 1) a column, text
    as strings; `image` one float32 input (n, *shape) with values `low`..`high`. `label` and
    `scores` name outputs; without `label` the largest score decides. `logits` says that scores are
    not yet probabilities; `batch` that the graph takes more than one row at a time.
    """

    layout: Literal["matrix", "columns", "image"]
    inputs: tuple[str, ...]
    shape: tuple[int, ...] = ()
    low: float = 0.0
    high: float = 255.0
    label: str | None = "label"
    scores: str | None = "probabilities"
    logits: bool = False
    batch: bool = True


@dataclass(frozen=True)
class Signature:
    """What a version takes and answers; stored with it as `signature.json`."""

    project: str
    model: str
    columns: tuple[Column, ...]
    target: str
    classes: tuple[Label, ...]
    binding: Binding
    format: int = FORMAT

    def to_json(self) -> bytes:
        """The file's content."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> "Signature":
        """Read a file's content.

        Raises:
            ArtifactError: it is no signature, or of a newer format than this release reads.
        """
        try:
            signature = msgspec.json.decode(content, type=cls)
        except msgspec.MsgspecError as error:
            raise ArtifactError(f"Expected a signature, got: {error}") from None
        if signature.format > FORMAT:
            raise ArtifactError(
                f"Expected a signature of format {FORMAT} or older, got {signature.format}.",
                remedy="Upgrade timonel to serve this version.",
            )
        return signature


@dataclass(frozen=True)
class Difference:
    """One difference between two signatures; `breaking` when old clients would notice."""

    sentence: str
    breaking: bool


def compatible(old: Signature, new: Signature) -> list[Difference]:
    """What differs between an old and a new signature, a sentence each; empty when nothing does.

    Inputs may widen and outputs may narrow: a new version must accept all that the old one
    accepted, and answer nothing that a client of the old one cannot know.
    """
    before = {column.name: column for column in old.columns}
    after = {column.name: column for column in new.columns}
    differences = [
        Difference(f"Field {name} was removed: requests that send it may be refused.", True)
        for name in before
        if name not in after
    ]
    for name, column in after.items():
        if name in before:
            differences += _field(before[name], column)
        elif column.nullable:
            differences.append(Difference(f"Field {name} was added and may be missing.", False))
        else:
            differences.append(
                Difference(
                    f"Field {name} was added and is required: old requests lack it.",
                    True,
                )
            )
    if old.target != new.target:
        differences.append(Difference(f"The target was {old.target}, now {new.target}.", True))
    added = [label for label in new.classes if label not in old.classes]
    removed = [label for label in old.classes if label not in new.classes]
    if added:
        differences.append(
            Difference(f"Classes {_list(added)} were added: clients do not know them.", True)
        )
    if removed:
        differences.append(
            Difference(f"Classes {_list(removed)} were removed: never answered now.", False)
        )
    return differences


def _field(old: Column, new: Column) -> list[Difference]:
    was = f"Field {old.name} took {old.allows()}, now {new.allows()}"
    if old.kind != new.kind:
        widened = (old.kind, new.kind) == ("integer", "number")
        return [Difference(f"{was}: {'widened' if widened else 'another kind'}.", not widened)]
    if old.image != new.image:
        return [Difference(f"{was}: another shape, range or polarity.", True)]
    narrowed = widened = False
    if old.nullable != new.nullable:
        narrowed, widened = old.nullable, new.nullable
    for low, high in ((_least(old), _least(new)), (_most(new), _most(old))):
        narrowed |= high > low
        widened |= high < low
    if old.categories != new.categories:
        before = None if old.categories is None else set(old.categories)
        after = None if new.categories is None else set(new.categories)
        narrowed |= after is not None and (before is None or not before <= after)
        widened |= before is not None and (after is None or not after <= before)
    lengths = (
        ((old.min_length or 0), (new.min_length or 0)),
        (-(old.max_length or 2**62), -(new.max_length or 2**62)),
    )
    for length_before, length_after in lengths:
        narrowed |= length_after > length_before
        widened |= length_after < length_before
    if narrowed:
        return [Difference(f"{was}: narrowed.", True)]
    return [Difference(f"{was}: widened.", False)] if widened else []


def _least(column: Column) -> tuple[float, bool]:
    """The lower bound, ordered so that a stricter one is larger; True when it is exclusive."""
    bounds = [(b, x) for b, x in ((column.ge, False), (column.gt, True)) if b is not None]
    return max(bounds, default=(float("-inf"), False))


def _most(column: Column) -> tuple[float, bool]:
    """The upper bound, ordered so that a looser one is larger; True when it is inclusive."""
    bounds = [(b, x) for b, x in ((column.le, True), (column.lt, False)) if b is not None]
    return min(bounds, default=(float("inf"), True))


def _list(labels: list[Label]) -> str:
    return ", ".join(str(label) for label in labels)
