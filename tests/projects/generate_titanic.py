"""The passengers that titanic ships with: made from published counts, with drawn ages.

`python tests/projects/generate_titanic.py` writes them anew.
"""

import csv
import io
from pathlib import Path

import numpy as np

from timonel.projects import titanic

__all__ = ["COUNTS", "generated", "path"]

# Of the 891 passengers of the well-known training list: how many, and how many of them survived,
# by sex, port and whether they were children (under 15), adults, or of unknown age.
COUNTS = {
    ("female", "C"): {"child": (11, 9), "adult": (50, 46), "unknown": (12, 9)},
    ("female", "Q"): {"child": (0, 0), "adult": (12, 7), "unknown": (24, 20)},
    ("female", "S"): {"child": (28, 15), "adult": (158, 118), "unknown": (17, 7)},
    ("female", ""): {"child": (0, 0), "adult": (2, 2), "unknown": (0, 0)},
    ("male", "C"): {"child": (4, 3), "adult": (65, 21), "unknown": (26, 5)},
    ("male", "Q"): {"child": (4, 0), "adult": (12, 1), "unknown": (25, 2)},
    ("male", "S"): {"child": (31, 18), "adult": (337, 50), "unknown": (73, 9)},
}


def path() -> Path:
    """Where the file ships."""
    return Path(titanic.__file__).with_name("titanic_generated.csv")


def generated(seed: int = 0) -> str:
    """The file's content."""
    rng = np.random.default_rng(seed)
    rows = []
    for (sex, port), groups in COUNTS.items():
        for group, (count, survived) in groups.items():
            for place in range(count):
                age = {
                    "child": f"{rng.uniform(0.5, 14.5):.0f}",
                    "adult": f"{np.clip(rng.normal(32.6, 12.5), 15, 80):.0f}",
                    "unknown": "",
                }[group]
                rows.append([int(place < survived), sex, age, port])
    rng.shuffle(rows)
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["PassengerId", "Survived", "Sex", "Age", "Embarked"])
    writer.writerows([number, *row] for number, row in enumerate(rows, 1))
    return target.getvalue()


if __name__ == "__main__":
    path().write_text(generated())
