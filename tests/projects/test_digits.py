"""The digits project: its rows, its wire replies, and the version that ships with it."""

import json
from pathlib import Path

import numpy as np
import pytest

from timonel import artifact
from timonel.data.pictures import prepare
from timonel.errors import SourceError
from timonel.project import Pretrained, Read, load_project
from timonel.serving.local import load
from timonel.settings import Settings
from timonel.signature import Signature
from timonel.training.export import pretrained

PROJECT = load_project("digits")


def read(tmp_path: Path, folder: Path | None) -> Read:
    return Read(folder=folder, cache=tmp_path / "cache", database="")


def test_mnist_is_read_from_the_data_folder_with_its_own_test_part(
    tmp_path: Path, test_data: Path
) -> None:
    rows = PROJECT.source.read(read(tmp_path, test_data))
    assert not rows.embedded
    assert rows.frame["part"].value_counts().sort("part")["count"].to_list() == [10_000, 60_000]


def test_without_mnist_the_bundled_digits_are_used_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*arguments: object) -> None:
        raise SourceError("There is no network.")

    monkeypatch.setattr("timonel.data.sources.locate", unreachable)
    rows = PROJECT.source.read(read(tmp_path, None))
    assert rows.embedded
    assert rows.frame.height == 1_797
    assert set(rows.frame["part"]) == {"train", "test"}
    assert "bundled digits" in rows.notes[-1]


def test_the_version_that_ships_is_what_the_definition_says() -> None:
    model = PROJECT.model("cnn")
    assert model.embedded is not None
    assert isinstance(model.recipe, Pretrained)
    content = (model.embedded / "model.onnx").read_bytes()
    assert len(content) <= 200_000
    signature = Signature.from_json((model.embedded / "signature.json").read_bytes())
    assert signature == Signature(
        "digits",
        "cnn",
        PROJECT.columns,
        PROJECT.target,
        tuple(range(10)),
        pretrained(content, model.recipe, PROJECT.columns, range(10)),
    )


def test_the_card_that_ships_names_the_model_by_its_hash() -> None:
    folder = PROJECT.model("cnn").embedded
    assert folder is not None
    _, hashes = artifact.seal(folder)
    assert hashes["model.onnx"] in (folder / "card.md").read_text()


def test_the_version_that_ships_answers_the_systems_own_test_set(
    tmp_path: Path, test_data: Path
) -> None:
    samples = json.loads((test_data / "digits_original" / "test_data.json").read_text())
    model = load("digits/cnn", Settings(home=tmp_path))
    answers = model.predict_many([{"pixels": sample["pixels"]} for sample in samples])
    assert [answer.label for answer in answers] == [sample["label"] for sample in samples]


def test_the_version_that_ships_reads_ordinary_pictures(tmp_path: Path, test_data: Path) -> None:
    model = load("digits/cnn", Settings(home=tmp_path))
    drawn = sorted((test_data / "digit_pictures").rglob("*.[pj][np]g"))
    answers = model.predict_many(drawn)
    wrong = [p for p, a in zip(drawn, answers, strict=True) if str(a.label) != p.name[0]]
    assert len(drawn) == 60
    assert wrong == []


def test_a_picture_gives_the_same_answer_as_its_pixels(tmp_path: Path, test_data: Path) -> None:
    path = next((test_data / "digit_pictures" / "drawn").glob("*.png"))
    model = load("digits/cnn", Settings(home=tmp_path))
    pixels = prepare(path.read_bytes())
    assert model.predict(path).probabilities == model.predict(pixels.tolist()).probabilities


def test_numbers_of_any_scale_and_nesting_give_the_same_answer(tmp_path: Path) -> None:
    model = load("digits/cnn", Settings(home=tmp_path))
    picture = np.zeros((28, 28))
    picture[5:24, 13:15] = 255
    answers = [
        model.predict(value).probabilities
        for value in (picture.ravel().tolist(), picture.tolist(), (picture / 255).tolist())
    ]
    assert answers[0] == answers[1] == answers[2]
