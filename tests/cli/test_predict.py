"""`timonel predict`: answers without a server."""

from pathlib import Path

import pytest

from tests.cli.conftest import Timonel
from tests.homes import deploy
from timonel.project import load_project
from timonel.settings import Settings

ADELIE = (
    '{"bill_length_mm": 38.8, "bill_depth_mm": 18.3, "flipper_length_mm": 190, "body_mass_g": 3700}'
)


@pytest.fixture
def penguins(home: Path) -> None:
    deploy(load_project("penguins"), Settings(home=home))


@pytest.mark.usefixtures("penguins")
def test_a_row_is_answered_with_its_label_probability_and_version(timonel: Timonel) -> None:
    ended = timonel("predict", "penguins", ADELIE)
    assert ended.code == 0
    assert ended.out.startswith("0 (")
    assert "penguins/rf@1" in ended.out


@pytest.mark.usefixtures("penguins")
def test_json_is_one_document_a_row(timonel: Timonel) -> None:
    found = timonel("predict", "penguins/rf", ADELIE, "--json").json()
    assert found["prediction"] == 0
    assert set(found["probabilities"]) == {"0", "1", "2"}


@pytest.mark.usefixtures("penguins")
def test_a_list_of_rows_is_answered_in_its_order(timonel: Timonel) -> None:
    ended = timonel("predict", "penguins", f"[{ADELIE}, {ADELIE}]", "--json")
    assert len(ended.out.splitlines()) == 2


@pytest.mark.usefixtures("penguins")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["penguins"], "Expected a row or pictures, got neither"),
        (["penguins", ADELIE, "--image", "a.png"], "got both"),
        (["penguins", "not json"], "Expected a row as JSON"),
        (["penguins", "{}"], "bill_length_mm: Field required"),
        (["penguins/svm", ADELIE], "no model 'svm'"),
        (["unicorns", ADELIE], "There is no project 'unicorns'"),
        (["penguins/rf@9", ADELIE], "9"),
        (["penguins/rf@x", ADELIE], "a version's number after @"),
    ],
)
def test_a_mistake_is_a_sentence_and_an_exit_code(
    timonel: Timonel, arguments: list[str], said: str
) -> None:
    ended = timonel("predict", *arguments)
    assert ended.code != 0
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_a_model_without_a_version_says_how_to_train_one(timonel: Timonel) -> None:
    ended = timonel("predict", "penguins", ADELIE)
    assert ended.code == 7
    assert "timonel run penguins" in ended.err


def test_a_picture_that_is_not_there_is_said(timonel: Timonel) -> None:
    ended = timonel("predict", "digits", "--image", "nowhere.png")
    assert ended.code == 2
    assert "Expected a picture at nowhere.png" in ended.err
