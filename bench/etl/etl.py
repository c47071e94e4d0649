"""The ETL of a year of Chicago's crimes, three ways: `python bench/etl/etl.py [FILE] [--rows N]`.

Each way reads the same Parquet file of texts, derives the calendar, keeps the latest of equal
rows, leaves out rows with holes, splits 70/30 and writes X_train, X_test, y_train and y_test as
CSV. `dag` is pandas in a process a task, handing over CSV, as the original's DAG did; `pandas` the
same in one process; `timonel` the library's own functions, checks of each value included. Times
are of the work alone (interpreters and imports not counted), memory is the largest process's peak;
the median of 3 rounds in which the ways take turns.

With `--rows` (such as 2600000) it is made of that year, over and over with other ids, case numbers
and years, and pandas in one process and Timonel take it once, and half of it before, which shows
how memory grows. That takes two minutes and half a gigabyte of the temporary folder.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = "chicago_crimes/crimes_2017.parquet"
ROUNDS = 3
USED = [
    "iucr", "primary_type", "description", "location_description", "arrest", "domestic", "beat",
    "district", "ward", "community_area", "latitude", "longitude", "mes", "dia_mes", "dia_semana",
    "hora", "fbi_code",
]  # fmt: skip
IGNORED = ["id", "date", "updated_on"]


def obtained(source: Path) -> Any:
    """The file's rows under the API's names."""
    import pandas as pd

    frame = pd.read_parquet(source)
    return frame.rename(columns=lambda name: name.lower().replace(" ", "_"))


def preprocessed(frame: Any) -> Any:
    """Clean rows of the used columns."""
    import pandas as pd

    for column in ("date", "updated_on"):
        frame[column] = pd.to_datetime(frame[column], format="%m/%d/%Y %I:%M:%S %p")
    compared = [name for name in frame.columns if name not in IGNORED]
    frame = frame.sort_values(["date", "updated_on"], kind="stable")
    frame = frame.drop_duplicates(compared, keep="last")
    moment = frame["date"].dt
    frame = frame.assign(
        mes=moment.month, dia_mes=moment.day, dia_semana=moment.dayofweek, hora=moment.hour
    )
    frame = frame[USED].replace("", None).dropna()
    for column in ("beat", "district", "ward", "community_area"):
        frame[column] = frame[column].astype("int64")
    for column in ("latitude", "longitude"):
        frame[column] = frame[column].astype("float64")
    return frame


def parted(frame: Any, folder: Path) -> None:
    """The four files of a stratified split."""
    from sklearn.model_selection import train_test_split

    X, y = frame.drop(columns="fbi_code"), frame["fbi_code"]
    rare = y.map(y.value_counts()) < 2
    parts = train_test_split(X[~rare], y[~rare], test_size=0.3, stratify=y[~rare], random_state=0)
    for name, part in zip(("X_train", "X_test", "y_train", "y_test"), parts, strict=True):
        part.to_csv(folder / f"{name}.csv", index=False)


def dag_obtain(source: Path, folder: Path) -> None:
    """First task of the DAG."""
    obtained(source).to_csv(folder / "original.csv", index=False)


def dag_preprocess(source: Path, folder: Path) -> None:
    """Second task of the DAG."""
    import pandas as pd

    frame = pd.read_csv(folder / "original.csv", dtype=str, keep_default_na=False)
    preprocessed(frame).to_csv(folder / "preprocessed.csv", index=False)


def dag_split(source: Path, folder: Path) -> None:
    """Third task of the DAG."""
    import pandas as pd

    kept = {"iucr": str, "fbi_code": str}
    parted(pd.read_csv(folder / "preprocessed.csv", dtype=kept), folder)


def pandas(source: Path, folder: Path) -> None:
    """All of it in one process."""
    parted(preprocessed(obtained(source)), folder)


def timonel(source: Path, folder: Path) -> None:
    """The steps that `timonel run crimes --until split` takes, without its stores."""
    import polars as pl

    from timonel.data import quality, split
    from timonel.data.portal import read_file
    from timonel.project import load_project

    project = load_project("crimes")
    frame, _ = project.prepared(read_file(source)[0])
    frame = quality.check(frame, project).frame
    frame = split.assign(frame, project.split, project.columns, project.target)
    names = [column.name for column in project.columns]
    test = pl.col("split") == "test"
    for side, rows in (("train", ~test), ("test", test)):
        part = frame.lazy().filter(rows)
        part.select(names).sink_csv(folder / f"X_{side}.csv")
        part.select(project.target).sink_csv(folder / f"y_{side}.csv")


def enlarged(source: Path, folder: Path, rows: int) -> None:
    """`rows.parquet` in the folder: the source's rows over and over, as rows of other years."""
    import polars as pl

    year = pl.read_parquet(source)
    years = [
        year.with_columns(
            pl.concat_str(pl.lit(str(number + 1)), "ID").alias("ID"),
            pl.concat_str(pl.lit(f"{number:02}"), "Case Number").alias("Case Number"),
            pl.col("Date").str.replace(r"/\d{4} ", f"/{2001 + number} "),
        )
        for number in range(-(-rows // year.height))
    ]
    pl.concat(years).head(rows).write_parquet(folder / "rows.parquet")


TASKS: dict[str, Callable[[Path, Path], None]] = {
    task.__name__: task for task in (dag_obtain, dag_preprocess, dag_split, pandas, timonel)
}
WAYS = {
    "dag": ["dag_obtain", "dag_preprocess", "dag_split"],
    "pandas": ["pandas"],
    "timonel": ["timonel"],
}
WAYS_OF_MANY = ("pandas", "timonel")
IMPORTS = {
    "timonel": "numpy polars xxhash timonel.data.quality timonel.data.split timonel.projects.crimes"
}


def work(name: str, source: Path, folder: Path) -> None:
    """One task in this process: prints its seconds and the process's peak in MB."""
    import importlib

    for module in IMPORTS.get(name, "pandas pyarrow sklearn.model_selection").split():
        importlib.import_module(module)
    started = time.perf_counter()
    TASKS[name](source, folder)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps([seconds, peak]))


def measured(way: str, source: Path) -> tuple[float, float]:
    """Seconds of all tasks of a way, and the largest peak."""
    with tempfile.TemporaryDirectory() as folder:
        ended = [
            subprocess.run(
                [sys.executable, __file__, task, str(source), folder],
                check=True,
                capture_output=True,
                text=True,
            )
            for task in WAYS[way]
        ]
    found = [json.loads(end.stdout) for end in ended]
    return sum(seconds for seconds, _ in found), max(peak for _, peak in found)


def of_a_year(source: Path) -> list[str]:
    """All ways in turn, beside the first."""
    results: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            results[way].append(measured(way, source))
    medians = {
        way: [statistics.median(column) for column in zip(*rounds, strict=True)]
        for way, rounds in results.items()
    }
    seconds, peak = medians["dag"]
    lines = [f"{source.name}, median of {ROUNDS}", "", "| way | s | times faster | MB | share |"]
    lines.append("|---|--:|--:|--:|--:|")
    return lines + [
        f"| {way} | {s:.2f} | {seconds / s:.1f} | {m:.0f} | {m / peak:.0%} |"
        for way, (s, m) in medians.items()
    ]


def of_many_years(source: Path, rows: int) -> list[str]:
    """Measure pandas and Timonel, at half of the rows and at all of them."""
    lines = [f"{source.name} made to {rows:,} rows, once", ""]
    lines += ["| rows | way | s | times faster | MB | share |", "|--:|---|--:|--:|--:|--:|"]
    for count in (rows // 2, rows):
        with tempfile.TemporaryDirectory() as folder:
            # A process of its own, since what it takes would be counted in those that follow.
            made = [sys.executable, __file__, str(source), "--rows", str(count), "--into", folder]
            subprocess.run(made, check=True)
            found = {way: measured(way, Path(folder, "rows.parquet")) for way in WAYS_OF_MANY}
        seconds, peak = found["pandas"]
        lines += [
            f"| {count:,} | {way} | {s:.1f} | {seconds / s:.1f} | {m:.0f} | {m / peak:.0%} |"
            for way, (s, m) in found.items()
        ]
    return lines


def main() -> None:
    """Measure, and print a table."""
    default = Path(__file__).parents[3] / "shared" / "data"
    root = Path(os.environ.get("TIMONEL_TEST_DATA", default))
    parser = argparse.ArgumentParser(description="The ETL of a year of crimes, measured.")
    parser.add_argument("source", nargs="?", type=Path, default=root / FILE, metavar="FILE")
    parser.add_argument("--rows", type=int, help="make the year to as many")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.source.is_file():
        sys.exit(f"Expected a year of crimes at {given.source}; set TIMONEL_TEST_DATA or name one.")
    if given.into:
        enlarged(given.source, given.into, given.rows)
        return
    lines = of_many_years(given.source, given.rows) if given.rows else of_a_year(given.source)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] in TASKS:
        work(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
