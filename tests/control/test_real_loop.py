"""The whole loop on real incidents, over HTTP and unattended: the bench's script, shortened."""

from pathlib import Path

import pytest
from bench.real_drift.loop import SHORT, measure

pytestmark = pytest.mark.soak


def test_crimes_of_2024_are_noticed_learnt_and_rolled_out_by_themselves(
    test_data: Path, tmp_path: Path
) -> None:
    results = measure(test_data / "chicago_crimes", tmp_path, SHORT)
    assert results["requests"]["failed"] == {}
    assert results["requests"]["rows"] == results["requests"]["labels"]
    assert results["reworded_named"]["rows_looked_at"] <= 500
    assert results["reworded_named"]["rows_asked"] <= 1_000  # by when it was said
    assert [one["act"] for one in results["decisions"]].count("retrain") == 1
    assert [one["status"] for one in results["runs"]] == ["succeeded", "succeeded"]
    assert "recent rows" in results["runs"][-1]["reason"]
    assert [one["state"] for one in results["rollouts"]] == ["promoted"]
    later = results["after"]
    assert later["rows"] >= 1_000
    assert later["errors"]["after"] <= later["errors"]["before"] / 2
    assert later["moved_right"]["after"] > later["moved_rows"] / 2
    assert later["differs_from_live"] == 0
