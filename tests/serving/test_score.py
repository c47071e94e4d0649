"""Tables and files with their predictions."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import timonel
from tests.homes import deploy, home_at, penguin_rows
from timonel.errors import BadRequest, DataRefused
from timonel.project import load_project
from timonel.serving.score import Scorer
from timonel.settings import Settings

ADDED = ["prediction", "probability", "version"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = home_at(tmp_path_factory.mktemp("score"))
    deploy(load_project("penguins"), settings)
    return settings


@pytest.fixture
def scorer(settings: Settings) -> Scorer:
    return timonel.load("penguins", settings).scorer()


def frame_of(rows: int = 100) -> pl.DataFrame:
    frame = pl.DataFrame(penguin_rows(rows, seed=3)[0]).cast(pl.Float64)
    return frame.with_columns(name=pl.format("n{}", pl.int_range(rows)))


def test_a_frame_gets_the_answer_of_each_of_its_rows(settings: Settings) -> None:
    model = timonel.load("penguins", settings)
    frame = frame_of()
    answers = model.score(frame)
    assert answers.columns == [*frame.columns, *ADDED]
    alone = model.predict_many(frame.drop("name").to_dicts())
    assert answers["prediction"].to_list() == [answer.label for answer in alone]
    sure = [answer.probabilities[answer.label] for answer in alone]
    assert answers["probability"].to_list() == pytest.approx(sure)
    assert set(answers["version"]) == {model.version}


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".arrow", ".jsonl"])
def test_a_file_becomes_one_of_any_form(scorer: Scorer, tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / "rows.csv", tmp_path / f"out{suffix}"
    frame_of().write_csv(source)
    told: list[tuple[float, int]] = []
    done = scorer.file(source, target, report=lambda share, rows: told.append((share, rows)))
    assert (done.rows, done.refused, done.engine) == (100, 0, "onnxruntime")
    assert told[-1] == (1.0, 100)
    read: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".arrow": pl.read_ipc,
        ".jsonl": pl.read_ndjson,
    }
    answers = read.get(suffix, pl.read_csv)(target)
    expected = scorer.frame(frame_of())
    assert answers.columns == expected.columns
    assert answers["prediction"].to_list() == expected["prediction"].to_list()
    assert answers["name"].to_list() == expected["name"].to_list()


def broken(tmp_path: Path) -> Path:
    source = tmp_path / "rows.csv"
    rows = frame_of(5).with_columns(pl.col("name").str.replace("n1", "two\nlines"))
    texts = rows.cast(pl.String).with_columns(
        bill_depth_mm=pl.Series(["18", "17", "0", "16", "many"])
    )
    texts.write_csv(source)
    return source


def test_rows_that_do_not_fit_are_refused_with_line_and_field(
    scorer: Scorer, tmp_path: Path
) -> None:
    with pytest.raises(DataRefused) as refused:
        scorer.file(broken(tmp_path), tmp_path / "out.csv")
    said = refused.value.message
    assert "line 5, bill_depth_mm: Input should be greater than 0, got '0'" in said
    assert "line 7, bill_depth_mm: Input should be a valid number" in said
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_rows_that_do_not_fit_may_be_left_out_into_a_file(scorer: Scorer, tmp_path: Path) -> None:
    done = scorer.file(broken(tmp_path), tmp_path / "out.csv", bad="skip")
    assert (done.rows, done.refused) == (5, 2)
    assert pl.read_csv(tmp_path / "out.csv")["name"].to_list() == ["n0", "two\nlines", "n3"]
    assert done.rejected is not None
    rejected = pl.read_ndjson(done.rejected)
    assert rejected["place"].to_list() == ["line 5", "line 7"]
    assert "greater than 0" in rejected["reasons"][0][0]
    assert '"bill_depth_mm":"many"' in rejected["row"][1]


def test_rows_that_do_not_fit_may_stay_without_a_prediction(scorer: Scorer, tmp_path: Path) -> None:
    done = scorer.file(broken(tmp_path), tmp_path / "out.csv", bad="keep")
    assert (done.rows, done.refused, done.rejected) == (5, 2, None)
    answers = pl.read_csv(tmp_path / "out.csv")
    assert answers["name"].to_list() == ["n0", "two\nlines", "n2", "n3", "n4"]
    assert answers["prediction"].is_null().to_list() == [False, False, True, False, True]


def test_probabilities_of_every_class_alone(settings: Settings, tmp_path: Path) -> None:
    scorer = timonel.load("penguins", settings).scorer(probabilities=True, only=True)
    answers = scorer.frame(frame_of())
    assert answers.columns == [
        "prediction", "probability_0", "probability_1", "probability_2", "version",
    ]  # fmt: skip
    total = answers.select(pl.sum_horizontal(pl.col("^probability_.*$"))).to_series()
    assert total.to_list() == pytest.approx([1.0] * 100, abs=1e-5)


def test_a_table_that_has_such_a_column_already_is_refused(scorer: Scorer) -> None:
    with pytest.raises(BadRequest, match="got version"):
        scorer.frame(frame_of().with_columns(version=1))


def test_a_file_is_not_written_onto_itself(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="the same"):
        scorer.file(tmp_path / "rows.csv", tmp_path / "rows.csv")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_interrupt_leaves_no_half_file(settings: Settings, tmp_path: Path, suffix: str) -> None:
    source = tmp_path / "rows.csv"
    with source.open("w") as file:
        file.write(frame_of(200_000).write_csv())
        rows = frame_of(200_000).write_csv(include_header=False)
        for _ in range(15):
            file.write(rows)
    command = [sys.executable, "-m", "timonel", "score", "penguins", str(source)]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path / f"out{suffix}")],
        env={**os.environ, **settings.environment_variables()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(tmp_path.glob(".out*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
