"""A page of a verdict draws numbers and categories, and no value can break out of it."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl

from timonel.monitoring.drift import Verdict, judge
from timonel.monitoring.reference import Reference
from timonel.monitoring.report import html_of
from timonel.monitoring.sketch import sketch_of_frame
from timonel.policies import Drift
from timonel.schema import Column

COLUMNS = [Column("x", "number", nullable=True), Column("kind", "category")]
BAD = '<script>alert("x")</script>'


def verdict(kinds: list[str], low: float, policy: Drift | None = None) -> Verdict:
    rng = np.random.default_rng(0)

    def rows(values: list[str], mean: float) -> pl.DataFrame:
        return pl.DataFrame({"x": rng.normal(mean, 1, 2_000), "kind": rng.choice(values, 2_000)})

    policy = policy or Drift()
    reference = Reference.of_frame(rows(["a", "b"], 0.0), COLUMNS, ["y", "n"], policy)
    sketch = sketch_of_frame(rows(kinds, low), reference.shape)
    return judge(reference, sketch, policy, rng=rng)


class Tags(HTMLParser):
    """Which elements a page opens, and which it never closes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)


def test_a_page_is_well_formed_whatever_the_values_are() -> None:
    tags = Tags()
    page = html_of({"p/m@1": verdict(["a", BAD], 1.0)}, made=0.0)
    tags.feed(page)
    assert tags.open == []
    assert "script" not in tags.seen
    assert {"svg", "rect", "path", "table"} <= tags.seen
    assert "1970-01-01 00:00:00 UTC" in page


def test_each_column_says_what_was_found_of_it() -> None:
    page = html_of({"p/m@1": verdict(["a", "c"], 0.0, Drift(exclude=("x",)))}, made=0.0)
    assert '<h3>kind: <span class="drift">drift</span></h3>' in page
    assert '<h3>x: <span class="soft">not watched</span></h3>' in page
    assert "Values unseen before: 0.00% in the reference, " in page
    assert "Grew most: c (0.0% → " in page


def test_versions_follow_one_another_and_a_window_without_rows_has_no_pictures() -> None:
    found = verdict(["a", "b"], 0.0)
    empty = replace(found, state="not enough data", rows=0, columns=(), since=None)
    page = html_of({"p/m@1": found, "p/other@2": empty}, made=0.0)
    assert page.index("No drift in 2,000 rows.") < page.index("Not enough data: 0 rows.")
    assert page.count("<svg") == 2


def test_a_page_can_be_kept(tmp_path: Path) -> None:
    page = html_of({"p/m@1": verdict(["a", "b"], 0.0)}, made=0.0)
    assert len(page.encode()) < 60_000
