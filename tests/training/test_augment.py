"""Jittered copies: seeded, inside their ranges, beside the originals."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from timonel.errors import DefinitionError
from timonel.training.augment import Augment, jitter

Pictures = NDArray[np.uint8]


@pytest.fixture
def bars() -> Pictures:
    """600 pictures of one upright bar, 3 wide and 16 tall, in the middle."""
    pictures = np.zeros((600, 28, 28), dtype=np.uint8)
    pictures[:, 6:22, 12:15] = 255
    return pictures


def ink(pictures: Pictures) -> NDArray[np.float64]:
    total: NDArray[np.float64] = pictures.sum(axis=(1, 2)) / 255
    return total


def centres(pictures: Pictures, axis: int) -> NDArray[np.float64]:
    along = pictures.sum(axis=3 - axis) * np.arange(28)
    mean: NDArray[np.float64] = along.sum(axis=1) / pictures.sum(axis=(1, 2))
    return mean


def test_no_range_leaves_every_picture_as_it_is(bars: Pictures) -> None:
    assert np.array_equal(jitter(bars, np.random.default_rng(0)), bars)


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others(bars: Pictures) -> None:
    first, again, other = (
        Augment().jitter(bars, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_shift_moves_the_ink_within_its_range_and_keeps_it(bars: Pictures) -> None:
    moved = jitter(bars, np.random.default_rng(0), shift=2)
    for axis in (1, 2):
        offsets = centres(moved, axis) - centres(bars, axis)
        assert np.abs(offsets).max() <= 2.01
        assert offsets.min() < -1.5
        assert offsets.max() > 1.5
    assert ink(moved) == pytest.approx(ink(bars), rel=0.01)


def test_a_rotation_tilts_the_bar_by_at_most_its_angle(bars: Pictures) -> None:
    turned = jitter(bars, np.random.default_rng(0), rotate=30)
    top = (turned[:, :14].sum(axis=1) * np.arange(28)).sum(axis=1) / turned[:, :14].sum(axis=(1, 2))
    low = (turned[:, 14:].sum(axis=1) * np.arange(28)).sum(axis=1) / turned[:, 14:].sum(axis=(1, 2))
    angles = np.degrees(np.arctan2(low - top, 8))
    assert np.abs(angles).max() < 32
    assert angles.std() > 12


def test_scale_changes_the_area_by_at_most_its_square(bars: Pictures) -> None:
    areas = ink(jitter(bars, np.random.default_rng(0), scale=0.2)) / ink(bars)
    assert areas.min() > 0.8**2 - 0.05
    assert areas.max() < 1.2**2 + 0.05
    assert areas.std() > 0.1


def test_thickness_gives_thinner_and_thicker_strokes_as_bright_as_before(bars: Pictures) -> None:
    repenned = jitter(bars, np.random.default_rng(0), thickness=1)
    areas = ink(repenned) / ink(bars)
    assert areas.min() < 0.5
    assert areas.max() > 1.5
    assert (repenned.max(axis=(1, 2)) == 255).all()


def test_an_elastic_net_bends_what_was_straight(bars: Pictures) -> None:
    bent = jitter(bars, np.random.default_rng(0), elastic=2)
    across = (bent[:, 8:20] * np.arange(28)).sum(axis=2) / bent[:, 8:20].sum(axis=2)
    assert across.std(axis=1).mean() > 0.3
    assert ink(bent).mean() == pytest.approx(ink(bars).mean(), rel=0.1)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12)),
    amount=st.floats(0, 0.9),
    seed=st.integers(0, 1000),
)
def test_any_pictures_keep_their_shape_and_type(
    shape: tuple[int, int, int], amount: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, shape, dtype=np.uint8)
    augment = Augment(
        shift=amount * 20,
        rotate=amount * 180,
        scale=amount,
        shear=amount,
        thickness=amount,
        elastic=amount * 5,
    )
    jittered = augment.jitter(pictures, rng)
    assert jittered.shape == shape
    assert jittered.dtype == np.uint8
    assert jittered.max() <= pictures.max()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_copies_follow_the_originals_and_keep_labels_and_dtype(
    bars: Pictures, dtype: type[Any]
) -> None:
    rows = bars[:5].reshape(5, 784).astype(dtype)
    labels = np.array(list("abcde"))
    grown, answers = Augment(copies=2)(rows, labels, np.random.default_rng(0))
    assert grown.shape == (15, 784)
    assert grown.dtype == dtype
    assert np.array_equal(grown[:5], rows)
    assert not np.array_equal(grown[5:10], grown[10:])
    assert list(answers) == list("abcde" * 3)


def test_no_copies_gives_the_rows_back(bars: Pictures) -> None:
    grown, _ = Augment(copies=0)(bars, np.zeros(600), np.random.default_rng(0))
    assert np.array_equal(grown, bars)


def test_rows_of_another_size_are_refused_with_the_setting_to_change() -> None:
    with pytest.raises(DefinitionError, match=r"28x28 = 784 values; got .*\(3, 100\)") as refused:
        Augment()(np.zeros((3, 100)), np.zeros(3), np.random.default_rng(0))
    assert "shape=" in str(refused.value.remedy)


@pytest.mark.parametrize(
    "wrong", [{"copies": -1}, {"shift": -1.0}, {"scale": 1.0}, {"thickness": 1.5}]
)
def test_impossible_ranges_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="Augment expects"):
        replace(Augment(), **wrong)
