"""What is watched: each column as one measure, a picture as several, and the model's answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from timonel.errors import DataRefused
from timonel.journal.layout import OWN_COLUMNS, stored_name
from timonel.schema import Column, Image

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

__all__ = [
    "CONFIDENCE",
    "PREDICTION",
    "SEASONS",
    "Measure",
    "measures_of",
    "season_of",
    "series_of",
]

PREDICTION = "output.prediction"
CONFIDENCE = "output.confidence"

SEASONS = {"month": 12, "weekday": 7, "hour": 24}
"""The seasons that a column may be compared within, and how many of each there are."""

PICTURE = ("ink", "contrast", "width", "height", "x", "y", "stroke", "slant")
"""The summaries of a picture; see `_summaries`."""

_PICTURES = 2_000  # decoded at a time


@dataclass(frozen=True)
class Measure:
    """One thing that is watched: a number or a category, called `name`, taken from `column`.

    A picture's are named `<column>.<summary>`, the answers' `output.prediction` and
    `output.confidence`. `values` is the closed set of a category. `season` says within which
    season it is compared.
    """

    name: str
    column: str
    kind: Literal["number", "category"]
    nullable: bool = False
    values: tuple[str, ...] | None = None
    whole: bool = False
    image: Image | None = None
    season: Literal["month", "weekday", "hour"] | None = None

    @property
    def output(self) -> bool:
        """Whether it is of the answers, not of the inputs."""
        return self.name in (PREDICTION, CONFIDENCE)


def measures_of(
    columns: Sequence[Column], classes: Sequence[object], season: Mapping[str, str] | None = None
) -> tuple[Measure, ...]:
    """The measures of a version's columns and classes; `season` by column, as in `Drift`."""
    within = season or {}
    measures: list[Measure] = []
    for column in columns:
        name, nullable = column.name, column.nullable
        when = within.get(name)
        if column.image:
            measures += [
                Measure(f"{name}.{part}", name, "number", part in "xy", image=column.image)
                for part in PICTURE
            ]
        elif column.kind in ("number", "integer"):
            whole = column.kind == "integer"
            measures.append(
                Measure(name, name, "number", nullable, whole=whole, season=when)  # type: ignore[arg-type]
            )
        else:
            closed = ("false", "true") if column.kind == "boolean" else column.categories
            measures.append(
                Measure(name, name, "category", nullable, closed, season=when)  # type: ignore[arg-type]
            )
    labels = tuple(str(label) for label in classes)
    measures.append(Measure(PREDICTION, "prediction", "category", values=labels))
    measures.append(Measure(CONFIDENCE, "probability", "number", nullable=True))
    return tuple(measures)


def series_of(
    frame: "pl.DataFrame", measures: Sequence[Measure]
) -> "Iterator[tuple[Measure, pl.Series]]":
    """The values of each measure that the frame has columns for.

    Frames are segments or datasets: an input called as one of a segment's own columns is
    `input.<name>` in the former. Answers are looked for in segments and their like only.
    """
    import polars as pl

    answers = {"prediction", "probability"} <= set(frame.columns)
    pictures: dict[str, dict[str, np.ndarray]] = {}
    for measure in measures:
        column = measure.column if measure.output else stored_name(measure.column)
        if not measure.output and column not in frame.columns:
            column = measure.column
        if column not in frame.columns or (measure.output and not answers):
            continue
        if measure.image is None:
            yield measure, frame[column]
            continue
        if column not in pictures:
            pictures[column] = _summaries(frame[column], measure.image)
        part = measure.name.rpartition(".")[2]
        yield measure, pl.Series(measure.name, pictures[column][part])


def season_of(frame: "pl.DataFrame", season: str, dated: str | None) -> "np.ndarray":
    """The season of each row as int64 from 0, by the column `dated` or a segment's own time.

    Raises:
        DataRefused: the frame has neither.
    """
    column = dated if dated in frame.columns else OWN_COLUMNS[1]
    if column not in frame.columns or not frame[column].dtype.is_temporal():
        raise DataRefused(
            f"Expected a column {dated or column} of dates to tell the {season} of each row by, "
            f"got {', '.join(frame.columns)}.",
            remedy="Name it in Drift(dated=…), or leave out Drift(season=…).",
        )
    moment = frame[column].dt
    found = {"month": moment.month, "weekday": moment.weekday, "hour": moment.hour}[season]()
    index: np.ndarray = found.fill_null(0 if season == "hour" else 1).to_numpy().astype("int64")
    return index if season == "hour" else index - 1


def _summaries(pictures: "pl.Series", image: Image) -> "dict[str, np.ndarray]":
    """Each of `PICTURE` as float64 (n,), NaN where a picture has no ink to tell it by."""
    import numpy as np

    contents = pictures.to_list()
    found: list[dict[str, np.ndarray]] = []
    for start in range(0, len(contents), _PICTURES):
        grey = np.stack([_grey(content, image) for content in contents[start : start + _PICTURES]])
        found.append(_summary(grey.reshape(-1, image.height, image.width)))
    if not found:
        return {part: np.zeros(0) for part in PICTURE}
    return {part: np.concatenate([piece[part] for piece in found]) for part in PICTURE}


def _grey(content: bytes, image: Image) -> "np.ndarray":
    """A picture's ink as float32 (size,), 0..1, from the bytes of a dataset or a segment."""
    import numpy as np

    if len(content) == image.size:
        pixels = np.frombuffer(content, np.uint8).astype(np.float32)
        # Datasets keep 0..255 whatever range the model takes; segments keep the model's.
        low, high = (0.0, 255.0) if pixels.max() > image.high else (image.low, image.high)
    elif len(content) == 4 * image.size:
        pixels = np.frombuffer(content, "<f4").astype(np.float32)
        low, high = image.low, image.high
    else:
        raise DataRefused(
            f"Expected a picture of {image.size} or {4 * image.size} bytes, got {len(content)}."
        )
    grey = (pixels - np.float32(low)) / np.float32(high - low)
    return 1 - grey if image.ink == "dark" else grey


def _summary(grey: "np.ndarray") -> "dict[str, np.ndarray]":
    """Summaries of pictures (n, height, width), 0..1, light ink.

    ink: mean; contrast: standard deviation; width, height: of the box around the ink, and x, y: its
    centre of mass, as shares of the picture; stroke: how thick a line is, in pixels; slant: how far
    the ink leans to the right, as shear.
    """
    import numpy as np

    n, rows, columns = grey.shape
    drawn = grey > 0.25
    mass = grey.sum(axis=(1, 2), dtype=np.float64)
    across, down = grey.sum(axis=1, dtype=np.float64), grey.sum(axis=2, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = across @ np.arange(columns) / mass
        y = down @ np.arange(rows) / mass
        right = np.arange(columns) - x[:, None]
        below = np.arange(rows) - y[:, None]
        lean = np.einsum("nij,ni,nj->n", grey, below, right, optimize=True)
        slant = -lean / np.einsum("ni,ni->n", down, below**2)
        edges = np.abs(np.diff(drawn.astype(np.int8), axis=1, prepend=0, append=0))
        sides = np.abs(np.diff(drawn.astype(np.int8), axis=2, prepend=0, append=0))
        around = edges.sum(axis=(1, 2)) + sides.sum(axis=(1, 2))
        stroke = 2.0 * drawn.sum(axis=(1, 2)) / around
    return {
        "ink": mass / (rows * columns),
        "contrast": grey.reshape(n, -1).std(axis=1, dtype=np.float64),
        "width": _extent(np.asarray(drawn.any(axis=1))),
        "height": _extent(np.asarray(drawn.any(axis=2))),
        "x": x / (columns - 1),
        "y": y / (rows - 1),
        "stroke": np.nan_to_num(stroke),
        "slant": np.nan_to_num(slant, posinf=0, neginf=0),
    }


def _extent(any_ink: "np.ndarray") -> "np.ndarray":
    """From the first to the last True of each row, as a share of its length."""
    import numpy as np

    length = any_ink.shape[1]
    first, last = any_ink.argmax(axis=1), length - any_ink[:, ::-1].argmax(axis=1)
    extent: np.ndarray = np.where(any_ink.any(axis=1), (last - first) / length, 0.0)
    return extent
