"""Samples: pictures that a person could have taken, and rows as requests send them."""

from pathlib import Path

import pytest

from timonel.data.samples import Sample, as_json, rows_of, write_pictures
from timonel.errors import BadRequest, SourceError
from timonel.project import Project, Read, load_project


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> Project:
    """The digits project where MNIST cannot be reached."""

    def unreachable(*arguments: object) -> None:
        raise SourceError("There is no network.")

    monkeypatch.setattr("timonel.data.sources.locate", unreachable)
    return load_project("digits")


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return Read(folder=None, cache=tmp_path / "cache", database="")


def test_pictures_have_the_names_of_the_original_and_are_read_back_as_what_they_show(
    digits: Project, read: Read, tmp_path: Path
) -> None:
    from timonel.serving.local import load
    from timonel.settings import Settings

    sample = rows_of(digits, read, 12, seed=1)
    paths = list(write_pictures(digits, sample, tmp_path / "out"))
    assert [path.name for path in paths] == [f"digit_{n}.jpg" for n in range(1, 13)]
    answers = load("digits/cnn", Settings(home=tmp_path)).predict_many(paths)
    right = sum(a.label == b for a, b in zip(answers, sample.frame["label"], strict=True))
    assert right >= 8  # of digits that are 8×8 pixels at heart
    labels = (tmp_path / "out" / "labels.csv").read_text().splitlines()
    assert labels[:2] == ["file,label", f"digit_1.jpg,{sample.frame['label'][0]}"]


def test_the_same_seed_draws_the_same_rows(digits: Project, read: Read) -> None:
    first, again, other = (rows_of(digits, read, 5, seed=seed).frame for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_only_rows_for_testing_are_drawn(digits: Project, read: Read) -> None:
    assert set(rows_of(digits, read, 300).frame["part"]) == {"test"}


def test_rows_are_what_a_request_sends(read: Read) -> None:
    penguins = load_project("penguins")
    rows = list(as_json(penguins, rows_of(penguins, read, 3)))
    assert len(rows) == 3
    assert set(rows[0]) == {"bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"}


def test_what_cannot_be_drawn_or_written_is_said(
    digits: Project, read: Read, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest, match="Expected 1 to 360 rows, got 5,000"):
        rows_of(digits, read, 5_000)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match="Expected a folder to write"):
        list(write_pictures(digits, rows_of(digits, read, 1), tmp_path / "file"))
    penguins = load_project("penguins")
    sample = Sample(rows_of(penguins, read, 1).frame, "", ())
    with pytest.raises(BadRequest, match="has no pictures"):
        list(write_pictures(penguins, sample, tmp_path))
