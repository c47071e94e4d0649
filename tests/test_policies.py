"""Policies: a wrong one fails where it is written."""

from collections.abc import Callable
from typing import Any

import pytest

from timonel.errors import DefinitionError
from timonel.policies import (
    Cache,
    Choice,
    Drift,
    Gate,
    Grid,
    Integer,
    Optuna,
    Quality,
    Retention,
    Split,
)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Split(test=1.5), "Split: expected test between 0 and 0.9, got 1.5"),
        (lambda: Split(test=0.5, validation=0.5), "test [+] validation"),
        (lambda: Quality(max_refused=-0.1), "max_refused"),
        (lambda: Quality(duplicates="merge"), "drop, refuse or keep"),  # type: ignore[arg-type]
        (lambda: Gate(margin=2), "margin"),
        (lambda: Gate(retries=100), "retries"),
        (lambda: Grid(depth="abc"), "expected a list of values for depth"),
        (lambda: Grid(depth=[]), "expected a list of values for depth"),
        (
            lambda: Optuna(space={"depth": 3}),  # type: ignore[dict-item]
            "Integer, Float or Choice for depth",
        ),
        (lambda: Optuna(trials=0), "trials"),
        (lambda: Cache(ttl=0), "ttl"),
        (lambda: Cache(ttl=float("nan")), "ttl"),
        (lambda: Cache(most=0), "most"),
        (lambda: Retention(segments=60), "Retention: expected segments between 3600"),
        (lambda: Retention(labels=float("inf")), "labels"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_was_expected(
    make: Callable[[], Any], said: str
) -> None:
    with pytest.raises(DefinitionError, match=said):
        make()


def test_a_search_names_the_parameters_that_it_varies() -> None:
    assert Grid(depth=[1], leaves=[2]).parameters == ("depth", "leaves")
    space: dict[str, Integer | Choice] = {"depth": Integer(1, 9), "kind": Choice("a", "b")}
    assert Optuna(space=space).parameters == ("depth", "kind")


def test_policies_with_the_same_choices_are_equal() -> None:
    assert Grid(depth=[1, 2]) == Grid(depth=[1, 2])
    assert Gate() == Gate()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"alarm": 0.0}, "expected alarm between"),
        ({"window": 1}, "expected window between"),
        ({"number": "t-test"}, "number to be one of wasserstein, ks, js, psi, got 't-test'"),
        ({"matters": {"f": 1.0}}, "matters\\['f'\\] to be one of"),
        ({"season": {"x": "decade"}, "dated": "day"}, "to be one of month, weekday, hour"),
        ({"season": {"x": "month"}}, "expected dated to name a column"),
    ],
)
def test_a_wrong_drift_policy_fails_where_it_is_written(
    wrong: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DefinitionError, match=sentence):
        Drift(**wrong)


def test_a_drift_policy_says_how_many_false_alarms_follow() -> None:
    assert Drift(every=3_600, alarm=0.01).false_alarms_a_week == pytest.approx(1.68)
    assert Drift(matters={"js": 0.3}).least("js") == 0.3
    assert Drift().least("wasserstein") == 0.1
