"""Segments are joined with labels, whatever the inputs are called."""

from pathlib import Path

import polars as pl

from tests.monitoring.answered import START, Home, id_of
from timonel.ids import span
from timonel.monitoring.joined import joined

IDS = span(START, START + 1e6)


def test_inputs_may_be_called_as_what_is_added(tmp_path: Path) -> None:
    names = ("request", "row", "label", "id", "error")
    home = Home(tmp_path, [(name, "integer") for name in names])
    many = home.answer("a", "b", rows=[(1, 2, 3, 4, 5), (6, 7, 8, 9, 10)])
    home.export(many, home.said(many, "b", row=1))
    (frame,) = joined(home.segments, home.labels, home.objects, "boat", IDS)
    assert frame.select("request", "row", "label").rows() == [
        (id_of(many), 0, None),
        (id_of(many), 1, "b"),
    ]
    assert frame.select(f"input.{name}" for name in names).row(1) == (6, 7, 8, 9, 10)


def test_only_segments_with_such_ids_are_read_and_only_their_columns(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = home.answer("a")
    home.export(first)
    home.clock.now += 100
    second = home.answer("b")
    home.export(second, home.said(second, "b"))
    ids = span(first.time_ns / 1e9 + 1, START + 1e6)
    kept = frozenset(("id", "via", "prediction")).__contains__
    (frame,) = joined(home.segments, home.labels, home.objects, "boat", ids, kept)
    assert frame["request"].to_list() == [id_of(second)]
    assert frame["label"].to_list() == ["b"]
    assert frame["version"].is_null().all()
    assert "input.x" not in frame.columns
    assert frame.schema["row"] == pl.Int64
