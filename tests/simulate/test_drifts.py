"""Drifts: the same by the same seed, as large as asked, and within what the project allows."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.homes import digit_rows, penguin_rows
from timonel.errors import BadRequest
from timonel.project import Project, load_project
from timonel.serving.rows import RowReader
from timonel.simulate.cases import cases_of
from timonel.simulate.drifts import Kind, default_kind, drifted


def penguins() -> tuple[Project, pl.DataFrame]:
    arrays, species = penguin_rows(400)
    return load_project("penguins"), pl.DataFrame(arrays | {"species": species})


def digits() -> tuple[Project, pl.DataFrame]:
    pixels, labels = digit_rows()
    frame = {"pixels": [row.astype(np.uint8).tobytes() for row in pixels[:200]]}
    return load_project("digits"), pl.DataFrame(frame | {"label": labels[:200]})


def boats(count: int = 500) -> tuple[Project, pl.DataFrame]:
    """A project with a free text and a closed one."""
    from pydantic import BaseModel, Field

    from timonel import Model, Python

    class Boat(BaseModel):
        harbour: str
        length: int = Field(ge=1, le=40)

    rng = np.random.default_rng(0)
    frame = {
        "harbour": rng.choice(["north", "south"], count, p=[0.9, 0.1]),
        "length": rng.integers(5, 40, count),
        "kind": rng.choice(["sail", "motor"], count, p=[0.8, 0.2]),
    }
    project = Project(
        name="boats",
        source=Python(lambda: frame),
        features=Boat,
        target="kind",
        models=[Model("m", lambda: None)],
    )
    return project, pl.DataFrame(frame)


def pictures(frame: pl.DataFrame) -> np.ndarray:
    joined = b"".join(frame["pixels"].to_list())
    return np.frombuffer(joined, np.uint8).reshape(frame.height, 28, 28).astype(float)


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (penguins(), "covariate"),
        (penguins(), "labels"),
        (penguins(), "concept"),
        (boats(), "categories"),
        (digits(), "rotation"),
        (digits(), "inversion"),
        (digits(), "thickness"),
        (digits(), "concept"),
    ],
)
def test_the_same_seed_gives_the_same_rows_and_the_server_takes_them(
    made: tuple[Project, pl.DataFrame], kind: Kind
) -> None:
    project, frame = made
    once, again = (drifted(frame, project, kind, seed=3) for _ in range(2))
    assert once.equals(again)
    assert not once.equals(frame)
    assert (once.height, once.schema) == (frame.height, frame.schema)
    reader = RowReader(project, max_rows=1)
    for case in cases_of(project, once)[:50]:
        assert len(reader.read(case.body)[0]) == 1


def test_numbers_move_by_standard_deviations_and_stay_allowed() -> None:
    project, frame = penguins()
    for strength in (0.5, 2.0):
        moved = drifted(frame, project, "covariate", seed=0, strength=strength)
        values, before = moved["body_mass_g"], frame["body_mass_g"]
        spread: Any = before.std()
        assert values.mean() == pytest.approx(before.mean() + strength * spread, rel=1e-3)
    boat, rows = boats()
    far = drifted(rows, boat, "covariate", seed=0, strength=10)
    assert far["length"].max() == 40
    assert far["length"].dtype == rows["length"].dtype


def test_rare_values_come_more_often() -> None:
    boat, rows = boats()
    moved = drifted(rows, boat, "covariate", seed=0)
    assert 0.4 < (moved["harbour"] == "south").mean() < 0.6  # type: ignore[operator]
    shifted = drifted(rows, boat, "labels", seed=0)
    assert (shifted["kind"] == "motor").mean() > 0.6  # type: ignore[operator]


def test_half_of_the_categories_are_new() -> None:
    boat, rows = boats()
    moved = drifted(rows, boat, "categories", seed=0)
    assert 0.4 < (~moved["harbour"].is_in(["north", "south"])).mean() < 0.6  # type: ignore[operator]
    with pytest.raises(BadRequest, match="takes any text, got none"):
        drifted(penguins()[1], penguins()[0], "categories", seed=0)


def test_a_concept_changes_in_a_region_and_features_stay() -> None:
    project, frame = penguins()
    moved = drifted(frame, project, "concept", seed=0)
    assert moved.drop("species").equals(frame.drop("species"))
    region = frame["bill_length_mm"] >= frame["bill_length_mm"].median()
    changed = moved["species"] != frame["species"]
    assert (changed == region).mean() > 0.99  # type: ignore[operator]
    assert (moved["species"].filter(changed) == (frame["species"].filter(changed) + 1) % 3).all()


def test_pictures_turn_invert_and_thicken() -> None:
    project, frame = digits()
    before = pictures(frame)
    inverted = pictures(drifted(frame, project, "inversion", seed=0))
    assert (inverted == 255 - before).all()
    thick = pictures(drifted(frame, project, "thickness", seed=0))
    assert (thick >= before).all()
    assert thick.mean() > 1.3 * before.mean()
    turned = pictures(drifted(frame, project, "rotation", seed=0))
    assert turned.mean() == pytest.approx(before.mean(), rel=0.1)
    assert np.abs(turned - before).mean() > 20
    little = pictures(drifted(frame, project, "rotation", seed=0, strength=0.05))
    assert np.abs(little - before).mean() < np.abs(turned - before).mean() / 3


def test_a_kind_that_does_not_fit_is_refused_with_those_that_do() -> None:
    project, frame = digits()
    with pytest.raises(BadRequest, match=r"\(labels, concept, rotation, inversion, thickness\)"):
        drifted(frame, project, "covariate", seed=0)
    table, rows = penguins()
    with pytest.raises(BadRequest, match="got rotation"):
        drifted(rows, table, "rotation", seed=0)
    assert (default_kind(project), default_kind(table)) == ("rotation", "covariate")
