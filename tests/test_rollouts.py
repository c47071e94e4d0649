"""Plans are checked where they are written."""

import json
from collections.abc import Callable

import pytest

from timonel.errors import DefinitionError
from timonel.rollouts import (
    AllAtOnce,
    BlueGreen,
    Canary,
    Limits,
    Rollout,
    Shadow,
    plan_from_dict,
    plan_to_dict,
)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limits(alpha=0.5),
        lambda: Limits(accuracy=0.0),
        lambda: Limits(slower=1.0),
        lambda: AllAtOnce(watch=-1),
        lambda: BlueGreen(share=0),
        lambda: BlueGreen(seconds=7_200),
        lambda: Canary(steps=()),
        lambda: Canary(steps=(0.5, 0.25, 1)),
        lambda: Canary(steps=(0.1, 0.5)),
        lambda: Canary(steps=(1,)),
        lambda: Canary(steps=(0.0, 1.0)),
        lambda: Canary(requests=0),
        lambda: Shadow(share=2),
    ],
)
def test_a_wrong_plan_is_refused_with_what_was_expected(make: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError, match="expected"):
        make()


def test_defaults_are_sane() -> None:
    assert Canary().steps[-1] == 1
    assert {type(plan).__name__ for plan in (AllAtOnce(), BlueGreen(), Canary(), Shadow())} == {
        "AllAtOnce",
        "BlueGreen",
        "Canary",
        "Shadow",
    }


@pytest.mark.parametrize(
    "plan",
    [AllAtOnce(watch=5), BlueGreen(limits=Limits(slower=2)), Canary(sticky="X-User"), Shadow()],
)
def test_a_plan_survives_json(plan: Rollout) -> None:
    assert plan_from_dict(json.loads(json.dumps(plan_to_dict(plan)))) == plan


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "expected a plan's kind|Expected a plan's kind"),
        ({"kind": "Canary", "steps": [0.5]}, "growing steps"),
        ({"kind": "Canary", "requests": "many"}, "Canary: "),
    ],
)
def test_what_is_no_plan_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        plan_from_dict(values)
