"""The production verdict on simulated canaries: how often it is right, and what it says."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from timonel.control.evidence import Arm, Evidence, Pairs
from timonel.control.verdict import Verdict, judge
from timonel.rollouts import Canary, Limits

LIMITS = Limits()
STEPS = Canary().steps[:-1]


def simulated(
    rng: np.random.Generator,
    *,
    errors: float = 0.0,
    slower: float = 1.0,
    accuracy: float = 0.0,
    requests: int = 200_000,
    block: int = 4_000,
) -> tuple[str, int, int]:
    """How a canary ended: in promotion, roll back or undecided; after how many requests and labels.

    A tenth of the requests gets its label; both versions fail 2 in 1,000 times besides `errors`.
    """
    evidence, step, asked = Evidence(), 0, 0
    disagree = 0.04 + abs(accuracy)
    worse, better = (disagree - accuracy) / 2, (disagree + accuracy) / 2

    def arm(count: int, share: float, factor: float) -> Arm:
        failed = int(rng.binomial(count, share))
        return Arm.of((rng.lognormal(-6, 0.5, count - failed) * factor).tolist(), failed)

    while asked < requests:
        asked += block
        moved = int(rng.binomial(block, STEPS[step]))
        labelled = rng.multinomial(block // 10, [worse, 1 - worse - better, better])
        evidence += Evidence(
            arm(block - moved, 0.002, 1.0),
            arm(moved, 0.002 + errors, slower),
            Pairs(*map(int, labelled)),
        )
        verdict = judge(evidence, LIMITS, labels=True)
        if verdict.outcome == "breach":
            return "rolled back", asked, evidence.pairs.labelled
        if step < len(STEPS) - 1:
            step += evidence.challenger.requests >= 100 * (step + 1)
        elif verdict.outcome == "pass":
            return "promoted", asked, evidence.pairs.labelled
    return "undecided", asked, evidence.pairs.labelled


GOOD: dict[str, dict[str, Any]] = {"equal": {}, "better": {"accuracy": 0.01}}
BAD: dict[str, dict[str, Any]] = {
    "two points less accurate": {"accuracy": -0.02},
    "one point more errors": {"errors": 0.01},
    "twice as slow": {"slower": 2.0},
}


def shares(kind: dict[str, Any], runs: int) -> tuple[float, str]:
    ends = [simulated(np.random.default_rng(seed), **kind) for seed in range(runs)]
    promoted = sum(end == "promoted" for end, _, _ in ends) / runs
    requests, labels = (float(np.median([end[place] for end in ends])) for place in (1, 2))
    return (
        promoted,
        f"promoted {promoted:.1%}, median {requests:,.0f} requests, {labels:,.0f} labels",
    )


@pytest.mark.parametrize("name", GOOD)
def test_a_good_challenger_is_promoted(name: str) -> None:
    promoted, said = shares(GOOD[name], 20)
    assert promoted >= 0.9, said


@pytest.mark.parametrize("name", BAD)
def test_a_bad_challenger_is_not_promoted(name: str) -> None:
    promoted, said = shares(BAD[name], 20)
    assert promoted == 0, said


@pytest.mark.soak
@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_a_thousand_canaries_end_as_they_should(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    promoted, said = shares((GOOD | BAD)[name], 1_000)
    record_property(name, said)
    assert promoted >= 0.95 if name in GOOD else promoted <= 0.01, said


def ample() -> Evidence:
    times = np.random.default_rng(5).lognormal(-6, 0.5, 20_000).tolist()
    arm = Arm.of(times, failed=20)
    return Evidence(arm, arm, Pairs(worse=100, same=9_800, better=100, agreed=9_800, disagreed=200))


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {check.name: check.outcome for check in verdict.checks}


def test_ample_evidence_of_equals_passes_all_checks_and_says_why() -> None:
    verdict = judge(ample(), LIMITS, labels=True)
    assert verdict.outcome == "pass"
    assert outcomes(verdict) == {"errors": "pass", "latency": "pass", "accuracy": "pass"}
    assert "10,000 labelled rows" in verdict.sentence
    assert "99th percentile" in verdict.sentence


def test_no_evidence_decides_nothing() -> None:
    verdict = judge(Evidence(), LIMITS, labels=True)
    assert verdict.outcome == "open"
    assert set(outcomes(verdict).values()) == {"open"}


def test_a_challenger_that_always_fails_is_found_within_a_few_requests() -> None:
    evidence = Evidence(Arm.of([0.001] * 1_000), Arm(12, 12, {}))
    verdict = judge(evidence, LIMITS, labels=True)
    assert outcomes(verdict)["errors"] == verdict.outcome == "breach"
    assert verdict.sentence.startswith("Failed requests: 12 of 12, against the champion's 0 of")


def test_without_labels_agreement_decides() -> None:
    alike = replace(ample(), pairs=Pairs(agreed=990, disagreed=10))
    assert outcomes(judge(alike, LIMITS, labels=False))["agreement"] == "pass"
    apart = replace(ample(), pairs=Pairs(agreed=500, disagreed=500))
    verdict = judge(apart, LIMITS, labels=False)
    assert outcomes(verdict)["agreement"] == verdict.outcome == "breach"
    waits = judge(alike, Limits(labels="require"), labels=False)
    assert outcomes(waits)["accuracy"] == "open"
    ignores = judge(alike, Limits(labels="ignore"), labels=True)
    assert outcomes(ignores)["agreement"] == "pass"
