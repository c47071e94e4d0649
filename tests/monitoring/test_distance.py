"""Distances, held to SciPy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance as spatial

from timonel.monitoring.distance import chi_square, jensen_shannon, kolmogorov, psi, wasserstein

COUNTS = st.lists(st.integers(0, 50), min_size=6, max_size=6).filter(any)


def shares(counts: list[int]) -> np.ndarray:
    return np.array(counts) / sum(counts)


@settings(deadline=None)
@given(p=COUNTS, q=COUNTS)
def test_jensen_shannon_is_scipys(p: list[int], q: list[int]) -> None:
    expected = spatial.jensenshannon(shares(p), shares(q), base=2)
    assert jensen_shannon(shares(p), shares(q)) == pytest.approx(expected, abs=1e-7)


@settings(deadline=None)
@given(p=COUNTS, q=COUNTS)
def test_the_area_between_atoms_is_scipys_wasserstein_distance(p: list[int], q: list[int]) -> None:
    places = np.array([0.0, 1.0, 1.5, 4.0, 5.0, 9.0])
    one, other = (np.concatenate([[0], shares(counts), [0]]) for counts in (p, q))
    expected = stats.wasserstein_distance(places, places, p, q)
    assert wasserstein(one, other, places, atoms=True) == pytest.approx(expected, abs=1e-9)


def test_the_area_between_bins_is_that_of_values_spread_evenly_in_them() -> None:
    edges = np.array([0.0, 1.0, 3.0, 4.0])
    p, q = np.array([0, 0.5, 0.3, 0.2, 0]), np.array([0, 0.1, 0.8, 0.1, 0])
    fine = np.linspace(0, 4, 400_001)
    curves = [np.interp(fine, edges, np.cumsum(s)[:-1]) for s in (p, q)]
    exact = np.abs(curves[0] - curves[1]).mean() * 4
    assert wasserstein(p, q, edges) == pytest.approx(exact, abs=1e-5)


@settings(deadline=None)
@given(p=COUNTS, q=COUNTS)
def test_chi_square_is_the_effect_size_of_scipys_test(p: list[int], q: list[int]) -> None:
    table = np.array([p, q])
    table = table[:, table.sum(axis=0) > 0]
    n, m = table.sum(axis=1)
    statistic = 0.0
    if table.shape[1] > 1:
        statistic = stats.chi2_contingency(table, correction=False).statistic
    effect = chi_square(shares(p), shares(q), n, m)
    assert effect**2 * n * m / (n + m) == pytest.approx(statistic, abs=1e-6)


def test_kolmogorov_is_the_largest_difference_of_the_curves() -> None:
    p, q = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), np.array([0.2, 0.3, 0.5])
    assert kolmogorov(p, q).tolist() == pytest.approx([0.5, 0.0])


def test_psi_is_the_usual_index_and_bears_empty_cells() -> None:
    p, q = np.array([0.25, 0.75]), np.array([0.5, 0.5])
    assert psi(p, q) == pytest.approx(-0.25 * np.log(0.5) + 0.25 * np.log(1.5))
    assert np.isfinite(psi(np.array([0.0, 1.0]), np.array([1.0, 0.0])))
