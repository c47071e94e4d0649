"""What `timonel new` writes: a small project that runs unchanged, to be turned into one's own."""

import csv
import io
from math import exp
from random import Random

__all__ = ["EXAMPLE", "definition", "readme", "rows"]

EXAMPLE = '{"distance_km": 12.5, "parcels": 3, "express": false, "weather": "rain"}'
"""A body that the project of `definition` answers."""

_DEFINITION = '''\
"""Whether a delivery will be late. Turn it into your own: rows, features, target and recipe."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from timonel import Contract, Csv, File, Gate, Grid, Model, Project, Quality, Split


class Delivery(BaseModel):
    """One row to predict; the API, its documentation and every check follow from it."""

    distance_km: float = Field(gt=0, le=500, examples=[12.5], description="way to go, km")
    parcels: int = Field(ge=1, le=100, examples=[3], description="parcels on board")
    express: bool = Field(examples=[False], description="paid for priority")
    weather: Literal["dry", "rain", "snow"] = Field(examples=["rain"], description="forecast")


def logistic(C: float = 1.0, seed: int = 0) -> Any:
    """An unfitted scikit-learn estimator. Heavy imports stay in here: serving loads this file."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    encoder = make_column_transformer(
        (StandardScaler(), ["distance_km", "parcels", "express"]),
        (OneHotEncoder(handle_unknown="ignore"), ["weather"]),
    )
    return make_pipeline(encoder, LogisticRegression(C=C, max_iter=1000, random_state=seed))


project = Project(
    name="NAME",
    description="Whether a delivery will be late.",
    source=Csv(File(str(Path(__file__).with_name("rows.csv")))),  # generated rows: use your own
    features=Delivery,
    target="outcome",
    classes=["on time", "late"],
    models=[Model("logistic", logistic, search=Grid(C=[0.1, 1.0, 10.0]), metric="accuracy")],
    # What can be set, with its default:
    # prepare=lambda frame: frame,  # the source's rows -> rows with the features and the target
    # split=Split(test=0.2, validation=0.1, key=(), given=None),
    # quality=Quality(max_refused=0.05, min_rows=20, duplicates="drop", key=()),
    # gate=Gate(floor=None, margin=0.02, class_margin=0.05, superiority=False, retries=0),
    # contract=Contract(rows="either", under=None, unknown="refuse", models="default"),
    # default="logistic",  # the model that answers when a request names none
    # experiment="NAME",  # in MLflow
    # text_log=False,  # a line a prediction in reportes/predicciones_<environment>.txt
    gate=Gate(floor=0.75),
)
'''

_README = """\
# NAME

Whether a delivery will be late, by a model in production: `NAME.py` defines it, and `rows.csv` has
ROWS generated rows to start with (they describe no real delivery).

    timonel check PATH        # is the definition right, and what follows from it
    timonel run PATH          # ingest, validate, split, train, evaluate, register
    timonel serve PATH        # http://127.0.0.1:8000/docs
    curl 127.0.0.1:8000/predict -d 'EXAMPLE'
"""


def definition(name: str) -> str:
    """The definition of a project called `name`, as Python."""
    return _DEFINITION.replace("NAME", name)


def readme(name: str, path: str, count: int) -> str:
    """What the folder is, with `path` to its definition in the commands."""
    texts = {"NAME": name, "PATH": path, "ROWS": str(count), "EXAMPLE": EXAMPLE}
    text = _README
    for word, replacement in texts.items():
        text = text.replace(word, replacement)
    return text


def rows(count: int = 600, seed: int = 0) -> str:
    """Generated deliveries as CSV, from which lateness can be learned; the same for a seed."""
    random = Random(seed)  # noqa: S311 -- nothing secret is made of it
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["distance_km", "parcels", "express", "weather", "outcome"])
    for _ in range(count):
        distance = round(random.uniform(0.5, 60), 1)
        parcels = random.randint(1, 40)
        express = random.random() < 0.3
        weather = random.choices(["dry", "rain", "snow"], [6, 3, 1])[0]
        score = _score(distance, parcels, express, weather)
        late = random.random() < 1 / (1 + exp(-score))
        writer.writerow(
            [distance, parcels, str(express).lower(), weather, "late" if late else "on time"]
        )
    return file.getvalue()


def _score(distance: float, parcels: int, express: bool, weather: str) -> float:
    delay = {"dry": 0.0, "rain": 2.0, "snow": 5.0}[weather]
    return 0.2 * (distance - 30) + 0.15 * (parcels - 20) + delay - 4.0 * express
