"""Always-valid tests: how often they are wrong, and that they know how sure they are."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timonel.control.sequential import against_mean_at_most, mean_bounds, share_bounds

COUNTS = st.integers(0, 5_000)


@given(COUNTS, COUNTS, COUNTS)
def test_the_bounds_of_a_mean_hold_the_estimate(minus: int, zero: int, plus: int) -> None:
    low, high = mean_bounds(minus, zero, plus, 0.05)
    assert -1 <= low <= high <= 1
    if count := minus + zero + plus:
        assert low - 1e-6 <= (plus - minus) / count <= high + 1e-6


@given(COUNTS, COUNTS)
def test_the_bounds_of_a_share_hold_the_estimate(successes: int, failures: int) -> None:
    trials = successes + failures
    low, high = share_bounds(successes, trials, 0.05)
    assert 0 <= low <= high <= 1
    if trials:
        assert low <= successes / trials <= high


def test_nothing_seen_says_nothing() -> None:
    assert against_mean_at_most(0.0, 0, 0, 0) == 0.0
    assert mean_bounds(0, 0, 0, 0.05) == (-1.0, 1.0)
    assert share_bounds(0, 0, 0.05) == (0.0, 1.0)


def test_bounds_narrow_as_rows_come() -> None:
    widths = [np.diff(mean_bounds(n, 8 * n, n, 0.05))[0] for n in (10, 100, 1_000, 10_000)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.02
    shares = [np.diff(share_bounds(n, 10 * n, 0.05))[0] for n in (1, 10, 100, 1_000)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.03


def test_the_e_value_is_the_gamblers_mean_wealth() -> None:
    # One difference of +1 against "a mean of at most 0": the mean of 1 + bet over the bets.
    bets = np.geomspace(1e-4, 0.499, 64)
    assert against_mean_at_most(0.0, 0, 0, 1) == pytest.approx(math.log((1 + bets).mean()))


@pytest.mark.parametrize("mean", [0.0, -0.01])
def test_a_true_null_is_rarely_refused_however_often_one_looks(mean: float) -> None:
    rng = np.random.default_rng(7)
    alpha, wrong, runs = 0.05, 0, 400
    for _ in range(runs):
        drawn = rng.choice(3, size=2_000, p=[0.05 - mean / 2, 0.9, 0.05 + mean / 2])
        minus, plus = np.cumsum(drawn == 0), np.cumsum(drawn == 2)
        wrong += any(
            against_mean_at_most(mean, int(minus[n]), n + 1 - int(minus[n] + plus[n]), int(plus[n]))
            > math.log(1 / alpha)
            for n in range(9, 2_000, 10)
        )
    assert wrong <= alpha * runs


def test_a_share_leaves_its_bounds_rarely_however_often_one_looks() -> None:
    rng = np.random.default_rng(8)
    alpha, wrong, runs, share = 0.05, 0, 300, 0.02
    for _ in range(runs):
        failed = np.cumsum(rng.random(2_000) < share)
        for n in range(49, 2_000, 50):
            low, high = share_bounds(int(failed[n]), n + 1, alpha)
            if not low <= share <= high:
                wrong += 1
                break
    assert wrong <= alpha * runs
