"""References: stored with a version, and made on the fly for versions that have none."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from timonel.errors import ArtifactError
from timonel.monitoring import reference as module
from timonel.monitoring.drift import judge
from timonel.monitoring.reference import FILE, Reference
from timonel.monitoring.sketch import sketch_of_frame
from timonel.policies import Drift
from timonel.schema import Column
from timonel.signature import Signature
from timonel.tensors import binding_for

COLUMNS = (Column("x", "number"), Column("c", "category"))
RNG = np.random.default_rng(0)
FRAME = pl.DataFrame(
    {
        "x": RNG.normal(size=3_000),
        "c": RNG.choice(["a", "b"], 3_000),
        "day": pl.Series(RNG.integers(0, 365, 3_000)).cast(pl.Date),
        "y": RNG.integers(0, 2, 3_000),
    }
)
ANSWERS = pl.DataFrame({"prediction": ["0", "1"] * 500, "probability": [0.75, 0.875] * 500})
DATED = Drift(dated="day", season={"c": "month"})


@pytest.mark.parametrize("policy", [Drift(), Drift(ordered=True), DATED])
def test_what_is_written_is_read_again(policy: Drift) -> None:
    answers = ANSWERS.with_columns(FRAME["day"][:1_000])
    made = Reference.of_frame(FRAME, COLUMNS, [0, 1], policy, answers=answers)
    read = Reference.from_bytes(made.to_bytes())
    assert read.sketch == made.sketch
    assert read.shape.digest == made.shape.digest
    assert [track.rows for track in read.tracks] == ([] if policy == Drift() else [3_000, 1_000])
    for one, other in zip(read.tracks, made.tracks, strict=True):
        assert one.stretch == other.stretch
        for name, codes in other.codes.items():
            assert np.array_equal(one.codes[name], codes)


def test_rows_with_dates_are_put_in_their_order() -> None:
    made = Reference.of_frame(FRAME, COLUMNS, [], Drift(dated="day"))
    in_order = Reference.of_frame(
        FRAME.sort("day", maintain_order=True), COLUMNS, [], Drift(ordered=True)
    )
    assert np.array_equal(made.tracks[0].codes["x"], in_order.tracks[0].codes["x"])


def test_of_very_many_rows_stretches_of_neighbours_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ORDERED", 1_600)
    frame = FRAME.with_columns(x=pl.int_range(3_000).cast(pl.Float64))
    (track,) = Reference.of_frame(frame, COLUMNS, [], Drift(ordered=True)).tracks
    assert (track.rows, track.stretch) == (1_600, 100)
    places = np.diff(track.codes["x"].astype(int).reshape(16, 100), axis=1)
    assert places.max() <= 2  # 4,096 bins over 3,000 rows: neighbours stay neighbours


def test_a_version_without_a_sketch_is_compared_with_its_sample_of_rows(tmp_path: Path) -> None:
    signature = Signature("p", "m", COLUMNS, "y", (0, 1), binding_for(COLUMNS))
    (tmp_path / "signature.json").write_bytes(signature.to_json())
    with pytest.raises(ArtifactError, match="found neither"):
        Reference.of_version(tmp_path, Drift())
    FRAME.drop("day").write_parquet(tmp_path / "reference.parquet")
    made = Reference.of_version(tmp_path, DATED)
    assert "no sketch.bin" in made.note
    assert [measure.name for measure in made.shape.measures] == ["x", "c"]
    window = sketch_of_frame(FRAME.head(500), made.shape)
    assert judge(made, window, DATED, rng=RNG).note == made.note

    whole = Reference.of_frame(FRAME, COLUMNS, (0, 1), Drift(), answers=ANSWERS)
    (tmp_path / FILE).write_bytes(whole.to_bytes())
    assert Reference.of_version(tmp_path, Drift()).sketch == whole.sketch


def test_what_is_no_reference_or_a_newer_one_is_refused() -> None:
    with pytest.raises(ArtifactError, match="Expected a reference"):
        Reference.from_bytes(b"nothing")
    content = Reference.of_frame(FRAME, COLUMNS, [], Drift()).to_bytes()
    newer = content.replace(b"\xa6format\x01", b"\xa6format\x09", 1)
    with pytest.raises(ArtifactError, match="format 1 or older, got 9"):
        Reference.from_bytes(newer)
