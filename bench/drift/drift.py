"""Drift beside Evidently: `python bench/drift/drift.py [--peer PYTHON]`.

First, of windows of 50 to 20,000 rows, what share alarms when nothing drifts, and when one of 16
columns does; then time and memory from files to verdicts, 200,000 reference rows against a million
(and against four, which shows whether memory grows). `--peer` is the Python of an environment with
`requirements.txt`; without it only Timonel is measured. Windows are fresh rows of the reference's
distribution. Every measurement is a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REFERENCE = 50_000
SIZES = (50, 200, 1_000, 20_000)
POWER = ((50, 1.0), (200, 0.5), (1_000, 0.3))
SMALL = (200_000, 0.02)


def _reference(frame: Any) -> Any:
    from timonel.monitoring.reference import Reference
    from timonel.policies import Drift
    from timonel.schema import Column

    columns = [Column(c, "category" if c.startswith("c") else "number") for c in frame.columns]
    return Reference.of_frame(frame, columns, [], Drift())


def alarms(reference_rows: int, count: int, shift: float, repeats: int, seed: int) -> Any:
    """How many windows alarm at all, and how many name the shifted column."""
    import numpy as np
    import polars as pl
    from rows import SHIFTED, rows

    from timonel.monitoring.drift import judge
    from timonel.monitoring.sketch import sketch_of_frame
    from timonel.policies import Drift

    rng = np.random.default_rng(seed)
    reference = _reference(pl.DataFrame(rows(reference_rows, rng)))
    any_column = the_column = 0
    kept: dict[int, bytes] = {}
    for _ in range(repeats):
        window = sketch_of_frame(pl.DataFrame(rows(count, rng, shift=shift)), reference.shape)
        found = judge(reference, window, Drift(), rng=rng, calibrations=kept).drifted
        any_column += bool(found)
        the_column += SHIFTED in [column.name for column in found]
    return {"any": any_column / repeats, "column": the_column / repeats}


def speed(reference: str, *windows: str) -> Any:
    """Seconds from a stored reference and a file to verdicts, and peak memory in MiB.

    The reference is in its stored form, as a version has it. `first` makes the calibration for this
    size of window, which is kept; `seconds` is the median of what follows.
    """
    import numpy as np
    import polars  # noqa: F401 (Evidently's imports are not counted either)

    from timonel.monitoring.drift import judge
    from timonel.monitoring.reference import Reference
    from timonel.monitoring.sketch import sketch_of_parquet
    from timonel.policies import Drift

    kept: dict[int, bytes] = {}
    times = []
    for _ in range(6):
        start = time.perf_counter()
        made = Reference.from_bytes(Path(reference).read_bytes())
        window = sketch_of_parquet([Path(path) for path in windows], made.shape)
        verdict = judge(made, window, Drift(), rng=np.random.default_rng(0), calibrations=kept)
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "first": times[0],
        "seconds": sorted(times[1:])[2],
        "peak_mib": peak,
        "drifted": [column.name for column in verdict.drifted],
    }


def _run(python: str, script: str, *given: object) -> Any:
    command = [python, str(HERE / script), *map(str, given)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _write(folder: Path) -> tuple[Path, Path, Path]:
    import numpy as np
    import polars as pl
    from rows import rows

    rng = np.random.default_rng(1)
    reference, stored, window = (
        folder / n for n in ("ref.parquet", "sketch.bin", "window.parquet")
    )
    frame = pl.DataFrame(rows(200_000, rng))
    frame.write_parquet(reference)
    stored.write_bytes(_reference(frame).to_bytes())
    pl.DataFrame(rows(1_000_000, rng)).write_parquet(window)
    return reference, stored, window


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _table(peer: str | None, windows: int, repeats: int) -> None:
    _say(
        "| rows | shift of 1 in 16 columns | Timonel: windows that alarm | Evidently: any column | "
        "of |"
    )
    _say("|--:|--:|--:|--:|--:|")
    cases = [(n, 0.0, windows) for n in SIZES] + [(n, s, windows // 4) for n, s in POWER]
    cases.append((*SMALL, max(windows // 100, 1)))
    for number, (count, shift, times) in enumerate(cases):
        size = max(REFERENCE, count)
        mine = _run(sys.executable, "drift.py", "--alarms", size, count, shift, times, number)
        share = mine["column"] if shift and count < SMALL[0] else mine["any"]
        told = f"{share:.2%} of {times:,}"
        theirs, of = "", ""
        if peer:
            few = max(repeats // (10 if count >= 20_000 else 1), 2)
            found = _run(peer, "peer.py", "alarms", size, count, shift, few, number)
            column = f" ({found['column']:.0%} the shifted one)" if shift else ""
            theirs, of = f"{found['any']:.0%}{column}", f"{few}"
        _say(f"| {count:,} | {f'{shift} σ' if shift else 'none'} | {told} | {theirs} | {of} |")


def _speeds(peer: str | None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        reference, stored, window = _write(Path(temporary))
        mine = _run(sys.executable, "drift.py", "--speed", stored, window)
        four = _run(sys.executable, "drift.py", "--speed", stored, *[window] * 4)
        _say("\n| 200,000 reference rows × 16 against | seconds | peak MiB |\n|---|--:|--:|")
        _say(f"| Timonel, 1M rows | {mine['seconds']:.2f} | {mine['peak_mib']:.0f} |")
        _say(f"| the same, calibrating too | {mine['first']:.2f} | |")
        _say(f"| Timonel, 4M rows | {four['seconds']:.2f} | {four['peak_mib']:.0f} |")
        if peer:
            theirs = _run(peer, "peer.py", "speed", reference, window)
            _say(f"| Evidently, 1M rows | {theirs['seconds']:.2f} | {theirs['peak_mib']:.0f} |")
            _say(
                f"\n{theirs['seconds'] / mine['seconds']:.0f} times as fast, "
                f"{mine['peak_mib'] / theirs['peak_mib']:.2f} of the memory."
            )


def main() -> None:
    """Measure and print tables in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", help="the Python of Evidently's environment")
    parser.add_argument("--windows", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=50, help="windows that Evidently judges")
    parser.add_argument("--only", choices=["table", "speed"])
    chosen = parser.parse_args()
    if chosen.only != "table":
        _speeds(chosen.peer)
    if chosen.only != "speed":
        _table(chosen.peer, chosen.windows, chosen.repeats)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alarms"]:
        size, n, moved, times, start_from = sys.argv[2:]
        result = alarms(int(size), int(n), float(moved), int(times), int(start_from))
        sys.stdout.write(json.dumps(result) + "\n")
    elif sys.argv[1:2] == ["--speed"]:
        sys.stdout.write(json.dumps(speed(*sys.argv[2:])) + "\n")
    else:
        main()
