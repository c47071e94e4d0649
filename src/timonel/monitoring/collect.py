"""Live rows whose truth became known, as a dataset to train on.

They pass the same quality rules as the rows of a source, and are kept by the hash of their content;
which predictions a dataset may hold is noted, so that deletion and retention reach it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from timonel.data import datasets
from timonel.data.collections import Collection, note_collection
from timonel.data.quality import Report, examine
from timonel.data.split import places
from timonel.ids import span
from timonel.journal.records import image_values
from timonel.monitoring.joined import INPUT, joined
from timonel.project import Project
from timonel.signature import Label
from timonel.stores.labels import Labels
from timonel.stores.objects import ObjectStore
from timonel.stores.segments import Segments

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Collected", "collected"]


@dataclass(frozen=True)
class Collected:
    """Labelled live rows: `frame` as `data.quality.examine` leaves them, kept under `key`.

    `refused` has those that are not fit, with their `reason`, under `refused_key` (None without
    any). `labels` were said of predictions of that time, and `unknown` of them name none.
    """

    frame: "pl.DataFrame"
    key: str
    refused: "pl.DataFrame"
    refused_key: str | None
    report: Report
    labels: int
    unknown: int

    @property
    def rows(self) -> int:
        """How many are fit to train on."""
        return self.frame.height


def collected(
    project: Project,
    segments: Segments,
    labels: Labels,
    objects: ObjectStore,
    *,
    since: float = 0.0,
    until: float = math.inf,
    classes: Sequence[Label] | None = None,
) -> Collected:
    """The labelled rows of predictions made at `since` <= time < `until`, in order of their ids.

    Times are seconds since 1970. The frame has the features, the target, and what else the
    project's policies look at. Where the journal has not got that, a key is a whole number made of
    the prediction's id and row, a given split has its `test` share by the hash of it, and the date
    is that of the prediction.
    `classes` are the target's where the project declares none: they say whether it is a whole
    number. Nothing is raised for how many rows are fit; see `report`.

    Raises:
        StoreError: a store does not answer.
    """
    import polars as pl

    ids = span(since, until)
    # Of the models that answered a row, each has its inputs.
    parts = [
        part.filter(pl.col("label").is_not_null()).unique(["request", "row"])
        for part in joined(segments, labels, objects, project.name, ids)
    ]
    nothing = pl.DataFrame(
        schema={
            "request": pl.String,
            "row": pl.Int64,
            "label": pl.String,
            "time": pl.Datetime("us", "UTC"),
        }
    )
    known = pl.concat([nothing, *parts], how="diagonal_relaxed").sort("request", "row")
    checked = examine(_source_rows(known, project, project.labels or classes or ()), project)
    said = labels.count_between(project.name, *ids)
    key = datasets.save(checked.frame, objects)
    refused = datasets.save(checked.refused, objects) if checked.refused.height else None
    if known.height:
        first, last = known["request"][0], known["request"][-1]
        for made in (key, refused) if refused else (key,):
            note_collection(objects, project.name, Collection(made, first, last))
    return Collected(
        frame=checked.frame,
        key=key,
        refused=checked.refused,
        refused_key=refused,
        report=checked.report,
        labels=said,
        unknown=max(said - known.height, 0),
    )


def _source_rows(
    known: "pl.DataFrame", project: Project, classes: Sequence[Label]
) -> "pl.DataFrame":
    """Joined rows as the project's source would give them."""
    import polars as pl
    from xxhash import xxh64_intdigest

    whole = bool(classes) and all(isinstance(label, int) for label in classes)
    features: dict[str, pl.Series] = {}
    for column in project.columns:
        if (stored := f"{INPUT}{column.name}") not in known.columns:
            features[column.name] = pl.repeat(None, known.height, eager=True)
        elif column.image:
            size = column.image.size
            pictures = [_uint8(content, size) for content in known[stored]]
            features[column.name] = pl.Series(pictures, dtype=pl.Binary)
        else:
            features[column.name] = known[stored]
    target = known["label"].cast(pl.Int64, strict=False) if whole else known["label"]
    # What else the policies look at, where no feature is called so.
    split, quality, dated = project.split, project.quality, project.drift.dated
    names = known.select(pl.format("{}.{}", "request", "row")).to_series()
    # A whole number, since most sources' keys are; below 2**63.
    name = pl.Series(
        "name", [xxh64_intdigest(one) >> 1 for one in names.cast(pl.Binary)], dtype=pl.Int64
    )
    others: dict[str, pl.Series] = dict.fromkeys((*split.key, *quality.key), name)
    if split.given:
        test = pl.Series(places(name.to_frame()) < split.test, dtype=pl.Boolean)
        others[split.given] = pl.select(
            pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train"))
        ).to_series()
    if dated:
        others[dated] = known["time"].dt.replace_time_zone(None)
    return pl.DataFrame(others | features | {project.target: target})


def _uint8(content: bytes | None, size: int) -> bytes | None:
    """A picture as bytes of whole numbers 0..255, as sources give it; odd ones stay as they are."""
    import numpy as np

    if content is None or len(content) != 4 * size:
        return content
    pixels = np.nan_to_num(image_values(content, size)).round().clip(0, 255)
    return bytes(pixels.astype(np.uint8))
