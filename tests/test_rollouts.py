"""Plans are checked where they are written."""

from collections.abc import Callable

import pytest

from timonel.errors import DefinitionError
from timonel.rollouts import AllAtOnce, BlueGreen, Canary, Limits, Shadow


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
