"""A window is the newest rows that a version answered, whatever segments they lie in."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.control.live import Live
from timonel.monitoring.reference import Reference
from timonel.monitoring.sketch import Shape, Sketch
from timonel.monitoring.window import live_rows, window_of
from timonel.stores.artifacts import fetch_version


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path)
    yield live
    live.database.close()


def shape(live: Live) -> Shape:
    version = live.versions.get("penguins", "rf", 1)
    folder = fetch_version(version.digest, live.objects, live.settings.serving_folder)
    return Reference.of_version(folder, live.project.drift).shape


def window(live: Live, rows: int | None = None, **period: float) -> list[Sketch]:
    listed = live.segments.list("penguins")
    return window_of(
        listed, live.objects, shape(live), "penguins/rf@1", rows=rows, **period
    )  # fmt: skip


def test_it_has_exactly_the_newest_rows_in_order_of_time(live: Live) -> None:
    for _ in range(3):
        live.traffic(100)
    pieces = window(live, 150)
    assert sum(piece.rows for piece in pieces) == 150
    times = [(piece.since or 0.0, piece.until or 0.0) for piece in pieces]
    assert all(first[1] <= second[0] for first, second in pairwise(times))
    assert times[-1][1] == pytest.approx(live.clock.now, abs=0.01)
    assert sum(piece.rows for piece in window(live)) == 300


def test_many_pieces_are_put_together_and_lose_no_row(live: Live) -> None:
    for _ in range(90):
        live.traffic(3, seconds=1.0)
    pieces = window(live)
    assert len(pieces) == 40
    assert sum(piece.rows for piece in pieces) == 270
    assert sum(pieces[1:], pieces[0]).tallies["body_mass_g"].rows == 270


def test_a_period_includes_its_beginning_only(live: Live) -> None:
    live.traffic(100, seconds=100.0)
    (segment,) = live.segments.list("penguins")
    times = live_rows(segment, live.objects, "penguins/rf@1")["time"].dt.timestamp("us") / 1e6
    found = window(live, since=times[10], until=times[20])
    assert sum(piece.rows for piece in found) == 10
    assert window(live, since=live.clock.now + 1) == []


def test_what_was_mirrored_or_failed_is_not_in_it(live: Live) -> None:
    live.traffic(200, share=0.5, mirror=1.0, failing=1.0)
    (segment,) = live.segments.list("penguins")
    first, second = (live_rows(segment, live.objects, f"penguins/rf@{n}") for n in (1, 2))
    assert 60 < len(first) < 140
    assert len(second) == 0
    assert first["via"].unique().to_list() == ["json"]
