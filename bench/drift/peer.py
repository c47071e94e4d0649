"""Evidently's side, in its own environment: `python peer.py alarms …` or `python peer.py speed …`.

Its defaults decide. Prints one line of JSON. Column drift is read off as its report shows it: a
distance at or above its threshold, or a p-value below it.
"""

import json
import re
import resource
import sys
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
from rows import SHIFTED, rows

warnings.simplefilter("ignore")
_NAME = re.compile(r"ValueDrift\(column=(.*?),method=(.*),threshold=(.*)\)")


def drifted(window: pd.DataFrame, reference: pd.DataFrame) -> list[str]:
    """The columns that the report calls drifted."""
    report: Any = Report([DataDriftPreset()]).run(window, reference)
    found = []
    for metric in report.dict()["metrics"]:
        named = _NAME.fullmatch(metric["metric_name"])
        if named:
            column, method, threshold = named.groups()
            value, limit = float(metric["value"]), float(threshold)
            if (value < limit) if "p_value" in method else (value >= limit):
                found.append(column)
    return found


def alarms(reference_rows: int, count: int, shift: float, repeats: int, seed: int) -> Any:
    """How many windows had any column called drifted, and how many the shifted one."""
    rng = np.random.default_rng(seed)
    reference = pd.DataFrame(rows(reference_rows, rng))
    any_column = the_column = 0
    for _ in range(repeats):
        found = drifted(pd.DataFrame(rows(count, rng, shift=shift)), reference)
        any_column += bool(found)
        the_column += SHIFTED in found
    return {"any": any_column / repeats, "column": the_column / repeats}


def speed(reference: str, window: str) -> Any:
    """Seconds from files to the verdict of each column, and peak memory in MiB."""
    start = time.perf_counter()
    found = drifted(pd.read_parquet(window), pd.read_parquet(reference))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak, "drifted": found}


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    if what == "alarms":
        size, n, moved, times, start_from = given
        result = alarms(int(size), int(n), float(moved), int(times), int(start_from))
    else:
        result = speed(*given)
    sys.stdout.write(json.dumps(result) + "\n")
