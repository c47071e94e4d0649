"""The page on real drift says what was measured."""

import json
from pathlib import Path

from bench.real_drift import report

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_figures_of_the_results() -> None:
    results = json.loads((ROOT / "bench/real_drift/results.json").read_text())
    assert (ROOT / "docs/drift-on-real-data.md").read_text() == report.page(results)
