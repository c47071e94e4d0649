"""`timonel promote` and `timonel rollback` on a home without a server."""

from pathlib import Path

import pytest

from tests.cli.conftest import Timonel
from tests.homes import deploy
from timonel.project import load_project
from timonel.settings import Settings
from timonel.stores.database import Database
from timonel.stores.events import Events


@pytest.fixture
def settings(home: Path) -> Settings:
    """penguins/rf@2 serves, and @1 did."""
    settings = Settings(home=home)
    for number in (1, 2):
        deploy(load_project("penguins"), settings, number=number, seed=number)
    return settings


def test_a_rollback_and_a_promotion_say_who_serves_now(
    timonel: Timonel, settings: Settings
) -> None:
    back = timonel("rollback", "penguins/rf", "--reason", "wrong on chinstraps")
    assert back.code == 0, back.err
    assert back.out == "penguins/rf@1 is champion; penguins/rf@2 is rolled_back.\n"
    assert Events(Database.open(settings.database_url)).list()[0].evidence["reason"] == (
        "wrong on chinstraps"
    )
    deploy(load_project("penguins"), settings, number=3, seed=3)
    promoted = timonel("promote", "penguins/rf@1", "--wait", "--json")
    facts = promoted.json()
    assert facts.pop("seconds") > 0
    assert facts == {
        "champion": "penguins/rf@1",
        "former": "penguins/rf@3",
        "notes": [],
        "workers": None,
    }
    waited = timonel("rollback", "penguins/rf", "--to", 3, "--wait")
    assert waited.out == (
        "penguins/rf@3 is champion; penguins/rf@1 is rolled_back.\n"
        "No server runs on this home that serves it.\n"
    )


def test_what_cannot_be_is_a_sentence_and_an_exit_code(
    timonel: Timonel, settings: Settings
) -> None:
    for command, code, sentence in (
        ("promote penguins/rf", 2, "Expected PROJECT/MODEL@N, got 'penguins/rf'."),
        ("promote penguins/rf@x", 2, "Expected PROJECT/MODEL@N"),
        ("promote penguins@1", 2, "Expected PROJECT/MODEL@N"),
        ("promote penguins/rf@2", 2, "penguins/rf@2, which is champion"),
        ("promote penguins/rf@9", 2, "penguins/rf@9, which there is not"),
        ("rollback penguins/rf@1", 2, "Expected PROJECT/MODEL, got 'penguins/rf@1'."),
        ("rollback a/b/c", 2, "Expected PROJECT/MODEL, got 'a/b/c'."),
        ("rollback digits/cnn", 2, "digits/cnn has no champion to roll back."),
        ("restart", 2, "Expected a server that runs on"),
    ):
        ended = timonel(*command.split())
        assert (ended.code, sentence in ended.err) == (code, True), ended.err
    timonel("rollback", "penguins/rf")
    nothing = timonel("rollback", "penguins/rf", "--json")
    assert nothing.code == 2
    assert nothing.json()["error"].startswith("There is nothing to roll penguins/rf@1 back to")
