"""Evidence from segments: who answered what, how long it took, and what both said."""

import uuid
from collections.abc import Sequence
from typing import Any

import polars as pl

from timonel.journal.records import SHADOW
from timonel.monitoring.traffic import answers_of, labelled, times_of
from timonel.stores.labels import Label

OLD, NEW = "boat/m@1", "boat/m@2"
IDS = [str(uuid.UUID(int=n)) for n in range(10)]


def rows(*given: dict[str, Any]) -> pl.DataFrame:
    usual = {
        "version": OLD,
        "prediction": "a",
        "via": "json",
        "seconds": 0.5,
        "error": None,
        "x": 1,
    }
    schema = {
        "id": pl.String,
        "version": pl.String,
        "prediction": pl.String,
        "via": pl.String,
        "seconds": pl.Float32,
        "error": pl.String,
        "x": pl.Int64,
    }
    return pl.DataFrame([usual | one for one in given], schema=schema)


def test_a_request_of_several_rows_counts_once_and_fails_as_one() -> None:
    segment = rows(
        {"id": f"{IDS[0]}.0"},
        {"id": f"{IDS[0]}.1"},
        {"id": IDS[1], "seconds": 0.25},
        {"id": IDS[2], "prediction": None, "error": "Out of memory."},
        {"id": IDS[3], "version": NEW},
    )
    old = times_of(segment, OLD)
    assert (old.requests, old.failed, sorted(old.seconds)) == (3, 1, [0.25, 0.5])
    assert times_of(segment, NEW).requests == 1
    assert times_of(segment, "boat/m@3") == times_of(segment[:0], OLD)


def test_answers_to_the_same_row_are_compared_and_those_alone_are_scored() -> None:
    segment = rows(
        {"id": IDS[0], "prediction": "a"},
        {"id": IDS[0], "prediction": "b", "version": NEW, "via": SHADOW},
        {"id": f"{IDS[1]}.0", "prediction": "a", "x": 7},
        {"id": f"{IDS[1]}.1", "prediction": "a", "x": 8},
        {"id": IDS[2], "prediction": "c", "version": NEW, "x": 9},
        {"id": IDS[3], "prediction": None, "version": NEW, "error": "no"},
    )
    only = answers_of(segment, OLD, NEW)
    assert only.frame.rows() == [(IDS[0], 0, "a", "b")]
    assert (only.agreed, only.disagreed) == (0, 1)

    asked: list[tuple[str, list[int]]] = []

    def score(version: str, frame: pl.DataFrame) -> Sequence[str]:
        asked.append((version, frame["x"].to_list()))
        return ["a"] * len(frame)

    both = answers_of(segment, OLD, NEW, score)
    assert asked == [(NEW, [7, 8]), (OLD, [9])]
    assert sorted(both.frame.rows()) == [
        (IDS[0], 0, "a", "b"),
        (IDS[1], 0, "a", "a"),
        (IDS[1], 1, "a", "a"),
        (IDS[2], 0, "a", "c"),
    ]
    assert (both.agreed, both.disagreed) == (2, 2)


def test_features_called_like_our_own_columns_reach_the_version_as_they_were() -> None:
    segment = rows({"id": IDS[0]}, {"id": f"{IDS[1]}.1"}).with_columns(
        row=pl.Series([70, 80]), request=pl.Series(["p", "q"]), champion=pl.Series([1, 2])
    )
    seen: list[pl.DataFrame] = []

    def score(version: str, frame: pl.DataFrame) -> Sequence[str]:
        seen.append(frame)
        return ["b"] * len(frame)

    assert answers_of(segment, OLD, NEW, score).disagreed == 2
    assert seen[0].select("row", "request", "champion").rows() == [(70, "p", 1), (80, "q", 2)]


def test_labels_say_who_was_right() -> None:
    segment = rows(
        *({"id": IDS[n], "prediction": said} for n, said in enumerate("aabb")),
        *(
            {"id": IDS[n], "prediction": said, "version": NEW, "via": SHADOW}
            for n, said in enumerate("abab")
        ),
    )
    answers = answers_of(segment, OLD, NEW)
    labels = [Label("boat", IDS[n], 0, "a", 1.0) for n in (0, 1, 2, 9)]
    assert labelled(answers, labels) == (1, 1, 1)
    assert labelled(answers, []) == (0, 0, 0)


def test_nothing_answered_compares_nothing() -> None:
    answers = answers_of(rows()[:0], OLD, NEW)
    assert (answers.agreed, answers.disagreed) == (0, 0)
