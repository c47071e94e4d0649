"""Evidence adds up in any order, and its histogram is fine enough."""

from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from timonel.control.evidence import EDGES, Arm, Evidence, Pairs, latency_bin

COUNT = st.integers(0, 50)
ARMS = st.builds(
    Arm, requests=COUNT, failed=COUNT, latencies=st.dictionaries(st.integers(0, 331), COUNT)
)
PAIRS = st.builds(Pairs, COUNT, COUNT, COUNT, COUNT, COUNT)
EVIDENCE = st.builds(Evidence, ARMS, ARMS, PAIRS)


@given(st.lists(EVIDENCE, min_size=3, max_size=3))
def test_evidence_adds_up_in_any_order(parts: list[Evidence]) -> None:
    sums = [sum(order, Evidence()) for order in permutations(parts)]
    assert all(one == sums[0] for one in sums)


@given(st.floats(1e-5, 99.0))
def test_a_latency_lies_within_five_per_cent_of_its_bin(seconds: float) -> None:
    edge = EDGES[latency_bin(seconds)]
    assert seconds <= edge * (1 + 1e-9)
    assert edge <= seconds * 1.0501


def test_quantiles_are_those_of_the_times_within_a_bin() -> None:
    times = np.random.default_rng(3).lognormal(-6, 1, 20_000)
    arm = Arm.of(times.tolist(), failed=5)
    assert (arm.requests, arm.failed, arm.answered) == (20_005, 5, 20_000)
    for share in (0.5, 0.9, 0.99):
        assert abs(arm.quantile(share) / np.quantile(times, share) - 1) < 0.06


def test_no_traffic_has_no_quantile() -> None:
    assert Arm().quantile(0.99) == 0.0


def test_what_takes_longer_than_all_bins_is_kept() -> None:
    arm = Arm.of([1e4])
    assert arm.answered == 1
    assert arm.quantile(0.5) == EDGES[-1]
    assert arm.above(len(EDGES)) == 1
