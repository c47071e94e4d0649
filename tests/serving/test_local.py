"""Predictions without a server."""

from pathlib import Path

import numpy as np
import pytest

import timonel
from tests.homes import deploy, deploy_digits, digit_rows, home_at, store_version, tiny_digits
from tests.serving.bad_inputs import png
from timonel import artifact
from timonel.errors import ArtifactError, BadRequest, NotFound, NotReady, StoreError
from timonel.project import load_project
from timonel.serving import local
from timonel.settings import Settings

ROW = {"bill_length_mm": 20, "bill_depth_mm": 40, "flipper_length_mm": 200, "body_mass_g": 4000}


def test_a_row_is_answered_with_label_probabilities_and_version(home: Settings) -> None:
    model = timonel.load("penguins", home)
    answer = model.predict(ROW)
    assert answer.label == 0
    assert answer.version == model.version == "penguins/rf@1"
    assert set(answer.probabilities) == {0, 1, 2}
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert [p.label for p in model.predict_many([ROW, ROW])] == [0, 0]
    assert model.predict_many([]) == []


@pytest.mark.parametrize("reference", ["digits", "digits/cnn", "digits/clf", "digits/cnn@1"])
def test_a_picture_may_be_numbers_a_path_or_bytes(
    reference: str, home: Settings, tmp_path: Path
) -> None:
    model = timonel.load(reference, home)
    pixels = digit_rows()[0][0]
    label = model.predict(pixels.tolist()).label
    for same in (pixels, pixels.reshape(28, 28), {"pixels": pixels}, {"data": pixels.tolist()}):
        assert model.predict(same).label == label
    file = tmp_path / "picture.png"
    file.write_bytes(png())
    labels = {model.predict(way).label for way in (file, str(file), file.read_bytes())}
    assert len(labels) == 1


def test_a_refusal_names_the_field(home: Settings) -> None:
    model = timonel.load("penguins", home)
    with pytest.raises(BadRequest, match=r"^body_mass_g: Input should be a valid number"):
        model.predict(ROW | {"body_mass_g": "heavy"})
    with pytest.raises(BadRequest, match=r"^Input should be a valid dictionary"):
        model.predict([1, 2])
    with pytest.raises(BadRequest, match=r"^Expected 784 numbers \(28×28 pixels\), got 3\.$"):
        timonel.load("digits", home).predict([1, 2, 3])


def test_the_champion_is_the_newest_and_a_number_names_any(tmp_path: Path) -> None:
    settings, penguins = home_at(tmp_path), load_project("penguins")
    deploy(penguins, settings, number=1)
    deploy(penguins, settings, number=2, seed=2)
    assert timonel.load("penguins/rf", settings).version == "penguins/rf@2"
    assert timonel.load("penguins@1", settings).version == "penguins/rf@1"


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("cats", "There is no project 'cats'"),
        ("penguins/svm", "has no model 'svm'; expected one of: rf"),
        ("penguins@7", "penguins/rf@7"),
        ("penguins@-1", "Expected a version's number after @, got '-1'"),
        ("penguins@1e3", "Expected a version's number after @, got '1e3'"),
        ("../penguins", "There is no project"),
    ],
)
def test_what_there_is_not_is_said(reference: str, sentence: str, home: Settings) -> None:
    with pytest.raises(NotFound, match=sentence):
        timonel.load(reference, home)


def test_without_a_version_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match=r"penguins/rf has no version yet\. .*timonel run penguins"):
        timonel.load("penguins", home_at(tmp_path))


def test_without_a_home_the_version_that_ships_with_the_project_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = load_project("digits")
    made = home_at(tmp_path / "made")
    deploy_digits(made)
    embedded = made.root / "made" / "digits-cnn-1"
    monkeypatch.setattr(local, "load_project", lambda name: _with(digits, embedded))
    model = timonel.load("digits", home_at(tmp_path))
    assert model.version == "digits/cnn@0"
    assert not (tmp_path / "home").exists()
    with pytest.raises(NotReady):
        timonel.load("digits/cnn@3", home_at(tmp_path))
    with pytest.raises(NotReady):
        timonel.load("digits/clf", home_at(tmp_path))


def test_a_copy_that_was_changed_is_fetched_anew_and_damaged_objects_are_refused(
    tmp_path: Path,
) -> None:
    settings = home_at(tmp_path)
    version = deploy(load_project("penguins"), settings)
    timonel.load("penguins", settings)
    copy = settings.serving_folder / version.digest / "model.onnx"
    copy.write_bytes(b"no model")
    assert timonel.load("penguins", settings).predict(ROW).label == 0
    for path in (settings.root / "objects" / "sha256").rglob("*"):
        if path.is_file():
            path.write_bytes(b"no model")
    copy.write_bytes(b"no model")
    with pytest.raises((ArtifactError, StoreError)):
        timonel.load("penguins", settings)


def test_a_version_that_is_not_champion_can_be_asked_by_number(tmp_path: Path) -> None:
    settings, digits, tiny = home_at(tmp_path), load_project("digits"), tiny_digits()
    store_version(digits, settings, "clf", tiny.content, tiny.classes, tiny.binding, champion=False)
    picture = np.zeros(784)
    assert timonel.load("digits/clf@1", settings).predict(picture).version == "digits/clf@1"


def _with(project: timonel.Project, embedded: Path) -> timonel.Project:
    assert artifact.seal(embedded)
    fields = {name: getattr(project, name) for name in project.__dataclass_fields__}
    models = [
        timonel.Model("cnn", project.models[0].recipe, embedded=embedded),
        timonel.Model("clf", project.models[1].recipe),
    ]
    return timonel.Project(**{**fields, "models": models})
