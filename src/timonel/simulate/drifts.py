"""Ways in which the world moves away from what a version was trained on, row by row."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from timonel.errors import BadRequest
from timonel.project import Project
from timonel.schema import Column

if TYPE_CHECKING:
    import polars as pl

__all__ = ["KINDS", "Kind", "default_kind", "drifted"]

Kind = Literal["covariate", "categories", "labels", "concept", "rotation", "inversion", "thickness"]
"""`covariate`: numbers move, and rare categories come more often; `categories`: some were never
seen; `labels`: rare classes come more often; `concept`: what one region of rows is called changes;
of pictures, `rotation`, `inversion` and `thickness` of the strokes.
"""

KINDS: tuple[Kind, ...] = get_args(Kind)

_PICTURES = ("rotation", "inversion", "thickness")
_NEW = "never seen before"
_DEGREES = 40.0  # of a rotation of strength 1


def default_kind(project: Project) -> Kind:
    """What is taken when no kind is named: numbers move, or pictures turn."""
    return "rotation" if project.columns[0].image else "covariate"


def drifted(
    frame: "pl.DataFrame", project: Project, kind: Kind, *, seed: int, strength: float = 1.0
) -> "pl.DataFrame":
    """As many rows as `frame`, after the drift; the same seed gives the same rows.

    Strength 1 moves numbers by one standard deviation, makes every second category a new one, makes
    the rarest class or category about as common as the others, or turns pictures by 40 degrees.
    Values stay within what the project allows.

    Raises:
        BadRequest: the project's rows cannot drift in that way.
    """
    is_picture = project.columns[0].image is not None
    if (kind in _PICTURES) != is_picture and kind not in ("labels", "concept"):
        fitting = [k for k in KINDS if (k in _PICTURES) == is_picture or k in ("labels", "concept")]
        raise BadRequest(
            f"Expected a drift that {project.name} can have ({', '.join(fitting)}), got {kind}."
        )
    move = _MOVES[kind]
    return move(frame, project, np.random.default_rng(seed), strength)


def _covariate(
    frame: "pl.DataFrame", project: Project, rng: np.random.Generator, strength: float
) -> "pl.DataFrame":
    import polars as pl

    for column in project.columns:
        if column.kind == "category" and frame[column.name].n_unique() > 1:
            frame = _evened(frame, column.name, rng, min(strength, 1.0))
            break  # the weights of a second one would undo the first's
    moved = []
    for column in project.columns:
        if column.kind not in ("number", "integer"):
            continue
        values = frame[column.name].cast(pl.Float64)
        spread = cast(float | None, values.std()) or 0.0
        shifted = (values + strength * spread).clip(*_allowed(column))
        if column.kind == "integer":
            shifted = shifted.round(0)
        moved.append(shifted.cast(frame[column.name].dtype))
    return frame.with_columns(moved)


def _allowed(column: Column) -> tuple[float | None, float | None]:
    """The least and the largest value that a column takes; an open bound is kept off a little."""
    low, high = column.ge, column.le
    if column.gt is not None:
        low = column.gt + 1e-3 * max(1.0, abs(column.gt))
    if column.lt is not None:
        high = column.lt - 1e-3 * max(1.0, abs(column.lt))
    if column.kind == "integer":
        low = None if low is None else float(np.ceil(low))
        high = None if high is None else float(np.floor(high))
    return low, high


def _categories(
    frame: "pl.DataFrame", project: Project, rng: np.random.Generator, strength: float
) -> "pl.DataFrame":
    import polars as pl

    open_ones = [
        c.name
        for c in project.columns
        if c.kind == "category" and c.categories is None and (c.max_length or 99) >= len(_NEW)
    ]
    if not open_ones:
        raise BadRequest(
            f"Expected a column of {project.name} that takes any text, got none: a value that is "
            "not in its list would be refused.",
            remedy="Take another kind of drift.",
        )
    struck = pl.Series(rng.random(frame.height) < min(0.5 * strength, 1.0))
    name = open_ones[0]
    return frame.with_columns(
        pl.when(struck).then(pl.lit(_NEW)).otherwise(pl.col(name).cast(pl.String)).alias(name)
    )


def _labels(
    frame: "pl.DataFrame", project: Project, rng: np.random.Generator, strength: float
) -> "pl.DataFrame":
    return _evened(frame, project.target, rng, strength, twice=True)


def _evened(
    frame: "pl.DataFrame",
    name: str,
    rng: np.random.Generator,
    strength: float,
    *,
    twice: bool = False,
) -> "pl.DataFrame":
    """Rows drawn so that rare values of a column come more often; with `twice`, most often."""
    import polars as pl

    counts = frame[name].value_counts(name="rows")
    joined = frame.select(name).join(counts, on=name, how="left", maintain_order="left")
    share = joined["rows"].fill_null(1).to_numpy() / frame.height
    weights = share ** (-strength * (2.0 if twice else 1.0))
    chosen = rng.choice(frame.height, frame.height, p=weights / weights.sum())
    drawn: pl.DataFrame = frame[chosen.tolist()]
    return drawn


def _concept(
    frame: "pl.DataFrame", project: Project, rng: np.random.Generator, strength: float
) -> "pl.DataFrame":
    """In the upper part of the rows, by the first column, each class gets the next one's name."""
    import polars as pl

    labels = project.labels or frame[project.target].unique().sort().to_list()
    after = dict(zip(labels, (*labels[1:], labels[0]), strict=True))
    region = pl.Series(_place(frame, project) >= 1 - min(0.5 * strength, 1.0))
    target = pl.col(project.target)
    renamed = target.replace_strict(after, default=target, return_dtype=frame[project.target].dtype)
    return frame.with_columns(pl.when(region).then(renamed).otherwise(target).alias(project.target))


def _place(frame: "pl.DataFrame", project: Project) -> np.ndarray:
    """Where each row stands among the others, 0..1, by its first number, its ink or its text."""
    first = next((c for c in project.columns if c.kind == "number"), project.columns[0])
    values = frame[first.name]
    if first.image:
        ink = np.frombuffer(b"".join(values.to_list()), np.uint8).reshape(frame.height, -1)
        order = ink.mean(axis=1).argsort(kind="stable")
    else:
        order = values.arg_sort().to_numpy()
    places = np.empty(frame.height)
    places[order] = np.arange(frame.height) / max(frame.height, 1)
    return places


def _rotation(
    frame: "pl.DataFrame", project: Project, rng: np.random.Generator, strength: float
) -> "pl.DataFrame":
    from PIL import Image

    def turned(pixels: np.ndarray, paper: int) -> np.ndarray:
        picture = Image.fromarray(pixels)
        way = Image.Resampling.BILINEAR
        return np.asarray(picture.rotate(_DEGREES * strength, way, fillcolor=paper))

    return _each(frame, project, turned)


def _inversion(
    frame: "pl.DataFrame", project: Project, rng: np.random.Generator, strength: float
) -> "pl.DataFrame":
    return _each(frame, project, lambda pixels, paper: 255 - pixels)


def _thickness(
    frame: "pl.DataFrame", project: Project, rng: np.random.Generator, strength: float
) -> "pl.DataFrame":
    from PIL import Image, ImageFilter

    def inked(pixels: np.ndarray, paper: int) -> np.ndarray:
        grow = ImageFilter.MaxFilter(3) if paper == 0 else ImageFilter.MinFilter(3)
        picture = Image.fromarray(pixels)
        for _ in range(max(1, round(strength))):
            picture = picture.filter(grow)
        return np.asarray(picture)

    return _each(frame, project, inked)


def _each(
    frame: "pl.DataFrame", project: Project, change: Callable[[np.ndarray, int], np.ndarray]
) -> "pl.DataFrame":
    """`change` of each picture (uint8, height × width) and its paper's grey."""
    import polars as pl

    column = project.columns[0]
    if column.image is None:
        raise BadRequest(f"Expected pictures, got a column {column.name} of {column.kind}.")
    shape = (column.image.height, column.image.width)
    paper = 0 if column.image.ink == "light" else 255
    changed = [
        change(np.frombuffer(content, np.uint8).reshape(shape), paper).tobytes()
        for content in frame[column.name]
    ]
    return frame.with_columns(pl.Series(column.name, changed, dtype=pl.Binary))


_MOVES: Mapping[
    Kind, "Callable[[pl.DataFrame, Project, np.random.Generator, float], pl.DataFrame]"
] = {
    "covariate": _covariate,
    "categories": _categories,
    "labels": _labels,
    "concept": _concept,
    "rotation": _rotation,
    "inversion": _inversion,
    "thickness": _thickness,
}
