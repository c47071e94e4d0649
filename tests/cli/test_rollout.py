"""`timonel rollout` on a home without a server."""

from pathlib import Path

import pytest

from tests.cli.conftest import Timonel
from tests.homes import deploy
from timonel.project import load_project
from timonel.rollouts import Canary
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.rollouts import Rollouts
from timonel.stores.versions import Versions


@pytest.fixture
def settings(home: Path) -> Settings:
    """penguins/rf@1 serves, and @2 may."""
    settings = Settings(home=home)
    for number in (1, 2):
        deploy(load_project("penguins"), settings, number=number, champion=number == 1)
    return settings


def states(settings: Settings) -> list[str]:
    versions = Versions(Database.open(settings.database_url))
    return [version.state for version in versions.list("penguins")]


def test_a_rollout_is_begun_paused_resumed_and_promoted_by_hand(
    timonel: Timonel, settings: Settings
) -> None:
    begun = timonel("rollout", "start", "penguins/rf@2", "--canary", "--steps", "0.2,1")
    assert begun.code == 0, begun.err
    assert begun.out == ("penguins/rf@2 against @1: running, 20% of the requests. begun by hand\n")
    assert "No server runs on this home" in begun.err
    assert timonel("rollout", "pause", "penguins/rf").out.startswith("penguins/rf@2 against @1: pa")
    listed = timonel("rollout", "status", "penguins/rf").out.splitlines()
    assert len(listed) == 2
    assert "\tpaused\t1 of 2\t20%\t" in listed[1]
    assert timonel("rollout", "resume", "penguins/rf").code == 0
    done = timonel("rollout", "promote", "penguins/rf", "--reason", "enough", "--json").json()
    assert (done["state"], done["reason"]) == ("watching", "enough")
    assert states(settings) == ["retired", "champion"]


@pytest.mark.parametrize("promoted", [False, True])
def test_a_rollback_ends_the_rollout_that_goes_on(
    timonel: Timonel, settings: Settings, promoted: bool
) -> None:
    timonel("rollout", "start", "penguins/rf@2", "--reason", "new data")
    if promoted:
        timonel("rollout", "promote", "penguins/rf")
    back = timonel("rollback", "penguins/rf")
    assert back.out == "penguins/rf@1 is champion; penguins/rf@2 is rolled_back.\n"
    assert states(settings) == ["champion", "rolled_back"]
    (ended,) = timonel("rollout", "status", "--json").json()
    assert ended["state"] == "rolled_back"


def test_an_aborted_version_may_be_tried_again_with_another_plan(
    timonel: Timonel, settings: Settings
) -> None:
    assert timonel("rollout", "start", "penguins/rf@2").code == 0
    again = timonel("rollout", "start", "penguins/rf@2")
    assert again.code != 0
    assert "Expected no rollout of penguins/rf, got that of penguins/rf@2" in again.err
    assert timonel("rollout", "abort", "penguins/rf").code == 0
    assert states(settings) == ["champion", "retired"]
    shadow = timonel(
        "rollout", "start", "penguins/rf@2", "--plan", "shadow", "--share", 0.5, "--json"
    ).json()
    assert (shadow["share"], shadow["mirror"], shadow["plan"]["kind"]) == (0.0, 0.5, "Shadow")


def test_values_that_a_plan_has_not_are_said(timonel: Timonel, settings: Settings) -> None:
    wrong = timonel("rollout", "start", "penguins/rf@2", "--plan", "shadow", "--steps", "0.1,1")
    assert "Expected values of a Shadow" in wrong.err
    wrong = timonel("rollout", "start", "penguins/rf@2", "--steps", "many")
    assert "Expected shares such as 0.05,0.5,1, got 'many'" in wrong.err
    wrong = timonel("rollout", "start", "penguins/rf@2", "--steps", "0.5,0.1")
    assert "expected growing steps" in wrong.err
    assert states(settings) == ["champion", "challenger"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("start", "penguins/rf@1"), "which is champion"),
        (("start", "penguins/rf@7"), "which there is not"),
        (("start", "penguins"), "Expected PROJECT/MODEL@N"),
        (("pause", "penguins/rf"), "Expected a rollout of penguins/rf that goes on, got none"),
        (("abort", "penguins"), "Expected PROJECT/MODEL, got 'penguins'"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    timonel: Timonel, settings: Settings, arguments: tuple[str, ...], said: str
) -> None:
    ended = timonel("rollout", *arguments)
    assert ended.code != 0
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_the_plan_of_the_start_is_kept(timonel: Timonel, settings: Settings) -> None:
    timonel("rollout", "start", "penguins/rf@2", "--sticky", "X-User", "--watch", "5")
    (standing,) = Rollouts(Database.open(settings.database_url)).active()
    assert standing.plan == Canary(sticky="X-User", watch=5)
