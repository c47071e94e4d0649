"""What is counted, in one process and summed over several."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from timonel.serving.metrics import Metrics

COUNT = """
from timonel.serving.metrics import Metrics
metrics = Metrics()
metrics.request("penguins", 200, 0.004)
metrics.predicted("penguins/rf@1", 3)
metrics.journal(lost=1, refused=2, short=True)
print(metrics.render().decode())
"""


def value(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_requests_rows_and_the_journal_are_counted() -> None:
    metrics = Metrics()
    metrics.request("penguins", 200, 0.004)
    metrics.request("penguins", 422, 0.001)
    metrics.predicted("penguins/rf@1", 3)
    metrics.cached("penguins", "hit")
    metrics.journal(lost=1, refused=2, short=True)
    text = metrics.render().decode()
    assert value(text, 'timonel_requests_total{project="penguins",status="422"}') == 1
    assert value(text, 'timonel_predictions_total{version="penguins/rf@1"}') == 3
    assert value(text, 'timonel_request_seconds_bucket{le="0.0025",project="penguins"}') == 1
    assert value(text, 'timonel_request_seconds_count{project="penguins"}') == 2
    assert value(text, 'timonel_cache_total{outcome="hit",project="penguins"}') == 1
    assert value(text, "timonel_journal_lost_total") == 1
    assert value(text, "timonel_journal_refused_total") == 2
    assert value(text, "timonel_journal_short") == 1


def test_processes_of_one_folder_are_summed(tmp_path: Path) -> None:
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, "-c", COUNT],
            env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
    assert value(ended.stdout, 'timonel_predictions_total{version="penguins/rf@1"}') == 6
    assert value(ended.stdout, 'timonel_request_seconds_count{project="penguins"}') == 2
    assert value(ended.stdout, "timonel_journal_refused_total") == 4


def test_what_was_counted_is_seen_by_others_once_it_is_flushed_and_is_not_counted_twice() -> None:
    metrics = Metrics()
    for seconds in (0.0004, 0.0005, 0.3, 60.0):
        metrics.request("penguins", 200, seconds)
    metrics.flush()
    metrics.flush()
    metrics.request("penguins", 200, 0.3)
    text = metrics.render().decode()
    bucket = 'timonel_request_seconds_bucket{le="%s",project="penguins"}'
    assert [value(text, bucket % le) for le in ("0.0005", "0.001", "0.5", "+Inf")] == [2, 2, 4, 5]
    assert value(text, 'timonel_request_seconds_sum{project="penguins"}') == pytest.approx(60.6009)
    assert value(text, 'timonel_requests_total{project="penguins",status="200"}') == 5
