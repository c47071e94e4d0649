"""The reference: what a version was made from, as every window of it is compared with."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from timonel.errors import ArtifactError
from timonel.monitoring.comparison import Comparison, comparisons
from timonel.monitoring.measures import Measure, measures_of, season_of, series_of
from timonel.monitoring.scales import Bins, Scale, Values, bins_of, values_of
from timonel.monitoring.sketch import Shape, Sketch, sketch_of_frame
from timonel.policies import Drift
from timonel.schema import Column
from timonel.signature import Label, Signature

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FILE", "Reference"]

FILE = "sketch.bin"
FORMAT = 1

# Rows whose order is kept; of more, stretches of neighbours, evenly spaced.
_ORDERED = 2**19
_STRETCHES = 16


@dataclass(frozen=True)
class Track:
    """The cells of measures in the order of their rows: `codes` by measure, uint16 (rows,).

    `seasons` are the rows' seasons by name. Rows come in stretches of `stretch` neighbours.
    """

    codes: Mapping[str, np.ndarray]
    seasons: Mapping[str, np.ndarray]
    stretch: int

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.codes.values()))) if self.codes else 0


@dataclass(frozen=True)
class Reference:
    """A reference's sketch, and where its rows come in order of time, its tracks.

    One track is of the inputs and one of the answers, which are those to held-out rows. `rows`
    that were seen in all may be more than those of a track. `note` says what is wanting.
    """

    sketch: Sketch
    tracks: tuple[Track, ...] = ()
    note: str = ""
    _compared: dict[str, list[Comparison]] = field(default_factory=dict, repr=False, compare=False)

    def comparisons(self, policy: Drift) -> list[Comparison]:
        """What is compared of each measure, by the statistics of a policy."""
        key = repr(policy)
        if key not in self._compared:
            self._compared[key] = comparisons(self.sketch, policy)
        return self._compared[key]

    @property
    def shape(self) -> Shape:
        """The shape that windows must be sketched in."""
        return self.sketch.shape

    @classmethod
    def of_frame(
        cls,
        frame: "pl.DataFrame",
        columns: Sequence[Column],
        classes: Sequence[Label],
        drift: Drift,
        *,
        answers: "pl.DataFrame | None" = None,
    ) -> "Reference":
        """The reference of rows, in order of time if `drift` says that they have one.

        `answers` are the model's to rows that it was not trained on: `prediction` (text),
        `probability`, and the columns that `drift` tells the time by.
        """
        measures = measures_of(columns, classes, drift.season)
        parts = [_sorted(frame, drift)]
        groups = [tuple(m for m in measures if not m.output)]
        if answers is not None:
            parts.append(_sorted(answers, drift))
            groups.append(tuple(m for m in measures if m.output))
        scales: dict[str, Scale] = {}
        for part, group in zip(parts, groups, strict=True):
            for measure, values in series_of(part, group):
                scales[measure.name] = _scale(measure, values)
        known = tuple(measure for measure in measures if measure.name in scales)
        shape = Shape(known, tuple(scales[m.name] for m in known), drift.dated)
        sketch, tracks = Sketch(shape), []
        for part, group in zip(parts, groups, strict=True):
            made = sketch_of_frame(
                part, Shape(group, tuple(scales[m.name] for m in group), drift.dated)
            )
            sketch.tallies.update(made.tallies)
            if drift.ordered or drift.dated:
                tracks.append(_track(part, group, scales, drift.dated))
        sketch.rows = frame.height
        return cls(sketch, tuple(tracks))

    @classmethod
    def of_version(cls, folder: Path, drift: Drift) -> "Reference":
        """The reference in a version's folder; of an older version, made from its sample of rows.

        Raises:
            ArtifactError: there is neither, or it cannot be read.
        """
        path = folder / FILE
        if path.is_file():
            return cls.from_bytes(path.read_bytes())
        sample = folder / "reference.parquet"
        if not sample.is_file():
            raise ArtifactError(
                f"{folder}: expected {FILE} or {sample.name} to compare with, found neither.",
                remedy="Train a new version; versions that ship with a project have none.",
            )
        import polars as pl

        signature = Signature.from_json((folder / "signature.json").read_bytes())
        frame = pl.read_parquet(sample)
        if drift.dated not in frame.columns:
            drift = replace(drift, dated=None, season={})
        made = cls.of_frame(frame, signature.columns, signature.classes, drift)
        note = (
            f"This version has no {FILE}: it is compared with a sample of {frame.height:,} of its "
            "rows, and its answers are not."
        )
        return cls(made.sketch, made.tracks, note)

    def to_bytes(self) -> bytes:
        """The file's content."""
        stored = _Stored(
            FORMAT,
            self.shape.measures,
            tuple(s if isinstance(s, Bins) else None for s in self.shape.scales),
            tuple(s if isinstance(s, Values) else None for s in self.shape.scales),
            self.shape.dated,
            self.sketch.to_bytes(),
            tuple((t.stretch, _table(t.codes), _table(t.seasons)) for t in self.tracks),
            self.note,
        )
        return msgspec.msgpack.encode(stored)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Reference":
        """What `to_bytes` gave; raises ArtifactError when it is not, or of a newer format."""
        try:
            stored = msgspec.msgpack.decode(content, type=_Stored)
        except msgspec.MsgspecError as error:
            raise ArtifactError(f"Expected a reference, got: {error}.") from None
        if stored.format > FORMAT:
            raise ArtifactError(
                f"Expected a reference of format {FORMAT} or older, got {stored.format}.",
                remedy="Upgrade timonel to compare with this version.",
            )
        scales = [b or v for b, v in zip(stored.bins, stored.values, strict=True)]
        shape = Shape(stored.measures, tuple(s for s in scales if s is not None), stored.dated)
        tracks = tuple(Track(_untable(c), _untable(s), n) for n, c, s in stored.tracks)
        return cls(Sketch.from_bytes(stored.sketch, shape), tracks, stored.note)


class _Stored(msgspec.Struct):
    format: int
    measures: tuple[Measure, ...]
    bins: tuple[Bins | None, ...]
    values: tuple[Values | None, ...]
    dated: str | None
    sketch: bytes
    tracks: tuple[tuple[int, bytes, bytes], ...]
    note: str


def _sorted(frame: "pl.DataFrame", drift: Drift) -> "pl.DataFrame":
    return frame.sort(drift.dated, maintain_order=True) if drift.dated else frame


def _scale(measure: Measure, values: "pl.Series") -> Scale:
    if measure.kind == "category":
        return values_of(values, measure.values)
    return bins_of(values, whole=measure.whole)


def _track(
    frame: "pl.DataFrame",
    measures: Sequence[Measure],
    scales: Mapping[str, Scale],
    dated: str | None,
) -> Track:
    kept, stretch = np.arange(frame.height), max(frame.height, 1)
    if frame.height > _ORDERED:
        stretch = _ORDERED // _STRETCHES
        starts = np.linspace(0, frame.height - stretch, _STRETCHES).astype(int)
        kept = (starts[:, None] + np.arange(stretch)).ravel()
    codes = {}
    for measure, values in series_of(frame, measures):
        scale = scales[measure.name]
        if isinstance(scale, Bins):
            found = scale.codes(values.to_numpy())[0]
        else:
            found = scale.codes(values)
        codes[measure.name] = found.astype(np.uint16)[kept]
    names: set[str] = {measure.season for measure in measures if measure.season}
    seasons = {name: season_of(frame, name, dated).astype(np.uint16)[kept] for name in names}
    return Track(codes, seasons, stretch)


def _table(columns: Mapping[str, np.ndarray]) -> bytes:
    """Columns of uint16 as Parquet, in which they take a third of their size."""
    import polars as pl

    buffer = io.BytesIO()
    pl.DataFrame(dict(columns)).write_parquet(buffer, compression="zstd", statistics=False)
    return buffer.getvalue()


def _untable(content: bytes) -> dict[str, np.ndarray]:
    import polars as pl

    frame = pl.read_parquet(io.BytesIO(content))
    return {name: frame[name].to_numpy() for name in frame.columns}
