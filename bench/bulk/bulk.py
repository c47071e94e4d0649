"""A million rows through a forest of 100 trees, several ways: `python bench/bulk/bulk.py`.

Each way is given the same float32 rows of four numbers and all cores: scikit-learn with n_jobs=-1,
ONNX Runtime on the exported file, treelite's own predictor (if installed), and Timonel's bulk model
as `timonel score` uses it, compiling and comparing included in its first round only. Ways take
turns; the median of ROUNDS counts, in wall time and in CPU time, since a machine that others use
makes only the latter steady. Labels are compared with scikit-learn's for every row; those that
fall on a different side of a threshold in float32 would be counted as different.

Then a CSV file of as many rows, and one of four times as many, goes through `timonel score` in a
process of its own: seconds and peak memory.

Two forests: `small` is the size of the penguins' (about 25 leaves a tree), `large` is grown out on
noise (about 90).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 3
TYPICAL = np.array([[38.8, 18.3, 190, 3700], [48.8, 18.4, 196, 3730], [47.5, 15.0, 217, 5080]])
NAMES = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
# A process of its own in between: what its parent had used would count as the command's peak.
MEASURED = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss}))
"""
FORESTS = {"small": 344, "large": 2_000}


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Made-up penguins: float32 (rows, 4) and species."""
    rng = np.random.default_rng(seed)
    species = rng.integers(0, 3, rows)
    values = TYPICAL[species] * rng.normal(1.0, 0.08, (rows, 4))
    return values.astype(np.float32), species


def trained(rows: int) -> tuple[Any, Any]:
    """The estimator, and what it is exported to."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from timonel.project import load_project
    from timonel.training.export import to_onnx

    X, labels = drawn(rows, 1)
    forest = RandomForestClassifier(100, random_state=0, n_jobs=-1)
    estimator = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), forest)
    estimator.fit(X, labels)
    arrays = {name: X[:, i] for i, name in enumerate(NAMES)}
    return estimator, to_onnx(estimator, load_project("penguins").columns, arrays)


def ways_of(estimator: Any, exported: Any, X: np.ndarray) -> dict[str, Callable[[], Any]]:
    """What predicts the labels of X."""
    import onnxruntime

    from timonel.compiled.bulk import BulkModel, cores
    from timonel.project import load_project
    from timonel.signature import Signature

    project = load_project("penguins")
    signature = Signature(
        "penguins", "rf", project.columns, project.target, exported.classes, exported.binding
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(exported.content, options)
    bulk = BulkModel(exported.content, signature)
    arrays = {name: X[:, i].copy() for i, name in enumerate(NAMES)}
    ways: dict[str, Callable[[], Any]] = {
        "scikit-learn": lambda: estimator.predict(X),
        "ONNX Runtime": lambda: session.run(["label"], {"features": X})[0],
        "timonel": lambda: bulk.predict(arrays)[0],
    }
    try:
        import treelite
    except ImportError:
        return ways
    model = treelite.sklearn.import_model(estimator[-1])
    prepared = estimator[:-1]
    ways["treelite"] = lambda: (
        treelite.gtil.predict(model, prepared.transform(X).astype(np.float32), nthread=cores())
        .reshape(len(X), -1)
        .argmax(axis=1)
    )
    return ways


def compared(name: str, rows: int) -> dict[str, Any]:
    """Rows a second and labels that differ, for each way."""
    estimator, exported = trained(FORESTS[name])
    X, _ = drawn(rows, 2)
    ways = ways_of(estimator, exported, X)
    expected = estimator.predict(X)
    wall: dict[str, list[float]] = {way: [] for way in ways}
    spent: dict[str, list[float]] = {way: [] for way in ways}
    differ = {}
    for _ in range(ROUNDS):
        for way, predict in ways.items():
            started, used = time.perf_counter(), time.process_time()
            labels = predict()
            wall[way].append(time.perf_counter() - started)
            spent[way].append(time.process_time() - used)
            differ[way] = int((np.asarray(labels) != expected).sum())
    first = "scikit-learn"
    return {
        way: {
            "rows_per_second": round(rows / statistics.median(wall[way])),
            "ratio": round(statistics.median(wall[first]) / statistics.median(wall[way]), 2),
            "cpu_seconds": round(statistics.median(spent[way]), 2),
            "cpu_ratio": round(statistics.median(spent[first]) / statistics.median(spent[way]), 2),
            "labels_that_differ": differ[way],
        }
        for way in ways
    }


def scored(rows: int) -> list[dict[str, Any]]:
    """`timonel score` on a CSV file, and on one of four times as many rows."""
    import polars as pl

    from timonel.project import load_project
    from timonel.settings import Settings
    from timonel.signature import Signature
    from timonel.stores.artifacts import save_version
    from timonel.stores.database import Database
    from timonel.stores.objects import ObjectStore
    from timonel.stores.versions import Versions

    _, exported = trained(FORESTS["small"])
    project = load_project("penguins")
    X, _ = drawn(rows, 2)
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = Settings(home=folder / "home")
        made = folder / "made"
        made.mkdir()
        signature = Signature(
            "penguins", "rf", project.columns, project.target, exported.classes, exported.binding
        )
        (made / "model.onnx").write_bytes(exported.content)
        (made / "signature.json").write_bytes(signature.to_json())
        settings.root.mkdir()
        versions = Versions(Database.open(settings.database_url))
        digest = save_version(made, ObjectStore.open(settings.objects_url))
        versions.add("penguins", "rf", 1, digest=digest, who="bench", reason="bench")
        versions.move("penguins", "rf", 1, "challenger", who="bench", reason="bench")
        versions.move("penguins", "rf", 1, "champion", who="bench", reason="bench")
        frame = pl.DataFrame({name: X[:, i] for i, name in enumerate(NAMES)})
        for times in (1, 4):
            path = folder / f"rows{times}.csv"
            pl.concat([frame] * times).write_csv(path)
            command = [sys.executable, "-m", "timonel", "score", "penguins", str(path), "--json"]
            environment = {**os.environ, **settings.environment_variables()}
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, *command],
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
            )
            said, used = map(json.loads, done.stdout.splitlines())
            unit = 1 if sys.platform == "darwin" else 1024
            found.append(
                {
                    "rows": said["rows"],
                    "seconds": round(said["seconds"], 2),
                    "rows_per_second": said["rows_per_second"],
                    "cpu_seconds": round(used["cpu"], 2),
                    "peak_mb": round(used["peak"] * unit / 1e6),
                    "engine": said["engine"],
                }
            )
    return found


def main() -> None:
    """Print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    results: dict[str, Any] = {name: compared(name, rows) for name in FORESTS}
    results["score"] = scored(rows)
    sys.stdout.write(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
