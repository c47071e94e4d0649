"""Real drift, unattended: `python bench/real_drift/real_drift.py`; `--help` has the options.

A server of its own, in a home that is deleted at the end, trains crimes (as crimes_loop.py has it)
on 2016 and 2017, and is then asked over HTTP for every incident of January to June 2018 and of the
2024 sample, in order of time; labels follow. What the loop makes of that goes to `results.json`
beside this file, and `--page` writes docs/drift-on-real-data.md from it. TIMONEL_TEST_DATA is the
folder with `chicago_crimes/`. It takes about a quarter of an hour, and is nice to others.
"""

# ruff: noqa: E402 (this folder's real_drift.py would hide the package of that name)
import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).absolute().parents[2]
sys.path[0] = str(ROOT)

from bench.real_drift import report
from bench.real_drift.loop import FULL, SHORT, measure

RESULTS = Path(__file__).parent / "results.json"
PAGE = ROOT / "docs" / "drift-on-real-data.md"


def main() -> None:
    """Run, write the results and perhaps the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="as the test does, in minutes")
    parser.add_argument("--page", action="store_true", help="write the page from the results")
    parser.add_argument("--no-run", action="store_true", help="take the results that there are")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if not given.no_run:
        data = Path(os.environ.get("TIMONEL_TEST_DATA", ROOT.parent / "shared" / "data"))
        os.nice(10)  # others may be at work on this machine
        with tempfile.TemporaryDirectory(prefix="timonel-real-drift-") as home:
            results = measure(data / "chicago_crimes", Path(home), SHORT if given.short else FULL)
        given.out.write_text(json.dumps(results, indent=1) + "\n")
    if given.page:
        PAGE.write_text(report.page(json.loads(given.out.read_text())))


if __name__ == "__main__":
    main()
