"""`timonel sample`: rows and pictures to try a project with."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Timonel
from timonel.errors import SourceMissing


def test_rows_are_printed_as_a_request_sends_them(timonel: Timonel) -> None:
    ended = timonel("sample", "penguins", "--n", 3, "--seed", 1)
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert len(rows) == 3
    assert set(rows[0]) == {"bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"}
    assert timonel("sample", "penguins", "--n", 3, "--seed", 1).out == ended.out


def test_pictures_are_written_and_what_they_are_is_said(
    timonel: Timonel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*arguments: object) -> None:
        raise SourceMissing("There is no network.")

    monkeypatch.setattr("timonel.data.sources.locate", unreachable)
    ended = timonel("sample", "digits", "--n", 2, "--out", tmp_path / "pictures")
    names = [Path(line).name for line in ended.out.splitlines()]
    assert names == ["digit_1.jpg", "digit_2.jpg"]
    assert "bundled digits" in ended.err
    assert (tmp_path / "pictures" / "labels.csv").is_file()


def test_a_mistake_is_a_sentence(timonel: Timonel, tmp_path: Path) -> None:
    ended = timonel("sample", "penguins", "--out", tmp_path / "pictures")
    assert ended.code == 2
    assert "has no pictures" in ended.err
    assert timonel("sample", "penguins", "--n", 5_000).code == 2
