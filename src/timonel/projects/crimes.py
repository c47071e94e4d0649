"""FBI code of a Chicago crime, from the city's open data: two models, each with its champion."""

from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

import timonel as t

FBI = "01A,01B,02,03,04A,04B,05,06,07,08A,08B,09,10,11,12,13,14,15,16,17,18,19,20,22,24,26"
TEXTS = ["iucr", "primary_type", "description", "location_description"]
CALENDAR = ("mes", "dia_mes", "dia_semana", "hora")
IGNORED = ("id", "date", "updated_on")
UNUSED = ("case_number", "block", "x_coordinate", "y_coordinate", "year", "location")
PLACES = ("STREET", "APARTMENT", "RESIDENCE", "SIDEWALK", "ALLEY", "RESTAURANT", "GAS STATION")


class Crime(BaseModel):
    iucr: str = Field(min_length=4, max_length=4, examples=["0930"])
    primary_type: str = Field(min_length=1, examples=["MOTOR VEHICLE THEFT"])
    description: str = Field(min_length=1, examples=["THEFT / RECOVERY - AUTOMOBILE"])
    location_description: str = Field(min_length=1, examples=["STREET"])
    arrest: bool = Field(examples=[False])
    domestic: bool = Field(examples=[False])
    beat: int = Field(ge=1, le=9999, examples=[412])
    district: int = Field(ge=1, le=999, examples=[4])
    ward: int = Field(ge=1, le=99, examples=[7])
    community_area: int = Field(ge=1, le=99, examples=[46])
    latitude: float = Field(ge=-90, le=90, examples=[41.743747398])
    longitude: float = Field(ge=-180, le=180, examples=[-87.566115082])
    mes: int = Field(ge=1, le=12, examples=[6], description="month")
    dia_mes: int = Field(ge=1, le=31, examples=[4], description="day of the month")
    dia_semana: int = Field(ge=0, le=6, examples=[1], description="day of the week, Monday 0")
    hora: int = Field(ge=0, le=23, examples=[5], description="hour")


class Reply(TypedDict):
    dtc_fbi_code_output: str
    lda_fbi_code_output: str


def reply(answer: t.Answer) -> Reply:
    dtc, lda = (str(answer.labels[model][0]) for model in ("dtc", "lda"))
    return {"dtc_fbi_code_output": dtc, "lda_fbi_code_output": lda}


def prepare(frame: Any) -> t.Cleaning:
    return (
        t.Cleaning(frame)
        .padded("iucr", 4)
        .padded("fbi_code", 2, letter=True)
        .dated("date", since=datetime(2001, 1, 1))  # noqa: DTZ001 (the city's own time)
        .dated("updated_on")
        .latest(ignoring=IGNORED, by=("date", "updated_on"), dropping=UNUSED)
        .calendar("date", month="mes", day="dia_mes", weekday="dia_semana", hour="hora")
        .complete([*Crime.model_fields, "fbi_code"])
    )


def generated(rows: int = 12_000, seed: int = 0) -> dict[str, Any]:
    """Made-up records that keep the facts of the city's code table, and nothing else."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    codes = pl.read_csv(Path(__file__).parent / "chicago_codes.csv", infer_schema=False)
    weights = np.sqrt(codes["weight"].cast(pl.Int64).to_numpy())
    drawn = codes[rng.choice(codes.height, rows, p=weights / weights.sum())]
    district = rng.integers(1, 26, rows)
    date = np.datetime64("2024-01-01", "us") + rng.integers(0, 366 * 1440, rows) * 60_000_000
    return {
        **{name: drawn[name] for name in (*TEXTS[:3], "fbi_code")},
        "id": np.arange(rows),
        "date": date,
        "updated_on": date,
        "location_description": rng.choice(PLACES, rows).tolist(),
        "arrest": rng.random(rows) < 0.15,
        "domestic": drawn["description"].str.contains("DOMESTIC"),
        "beat": district * 100 + rng.integers(11, 35, rows),
        "district": district,
        "ward": rng.integers(1, 51, rows),
        "community_area": rng.integers(1, 78, rows),
        "latitude": rng.uniform(41.65, 42.02, rows),
        "longitude": rng.uniform(-87.85, -87.53, rows),
    }


def encoded() -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OrdinalEncoder

    codes = (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), TEXTS)
    return make_column_transformer(codes, remainder="passthrough", verbose_feature_names_out=False)


def tree(depth: int = 30, leaf: int = 1, criterion: str = "gini", seed: int = 0) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.tree import DecisionTreeClassifier

    chosen = {"max_depth": depth, "min_samples_leaf": leaf, "criterion": criterion}
    return make_pipeline(encoded(), DecisionTreeClassifier(**chosen, random_state=seed))


def discriminant(shrinkage: float = 0.01) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    # The code and its type say all that the description says. In float32, and from covariances
    # instead of a decomposition of all rows, a year takes less than a gigabyte.
    ones = (OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype="float32"), TEXTS[:2])
    columns = make_column_transformer(ones, ("drop", TEXTS[2:]), remainder=StandardScaler())
    return make_pipeline(columns, LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage))


SEARCH = t.Optuna(
    space={
        "depth": t.Integer(8, 40),
        "leaf": t.Integer(1, 30, log=True),
        "criterion": t.Choice("gini", "entropy"),
    }
)

project = t.Project(
    name="crimes",
    description="FBI code of a crime reported in Chicago, by a decision tree and by an LDA.",
    source=t.FirstOf(
        t.Portal("chicago_crimes/[Cc]rimes*2024*", "chicago_crimes/[Cc]rimes*"),
        t.Socrata("data.cityofchicago.org", "dqcy-ctma", order="id", changed="updated_on"),
        t.Embedded(
            t.Python(generated),
            "The city's records could not be reached: these rows are generated from facts of its "
            "public table of codes, and no crime happened as they say.",
        ),
    ),
    prepare=prepare,
    features=Crime,
    target="fbi_code",
    classes=FBI.split(","),
    models=[
        t.Model("dtc", tree, SEARCH, "f1_weighted", 3, registered="dtc_model_prod"),
        t.Model("lda", discriminant, None, "f1_weighted", 0, registered="lda_model_prod"),
    ],
    split=t.Split(test=0.3, validation=0.1, key=("id",)),
    quality=t.Quality(duplicates="keep"),
    gate=t.Gate(floor=0.9, retries=1),
    # `prepare` leaves the records in order of their dates. Held-out rows lie between training rows,
    # and of later ones the models are less sure: that alone is no reason to alarm.
    drift=t.Drift(ordered=True, exclude=(*CALENDAR, "output.confidence")),
    contract=t.Contract(reply=reply, under="features", rows="one", unknown="ignore", models="all"),
    experiment="Chicago Crimes 2024",
    layout=t.Layout(
        folder="chicago/crimes/2024",
        info="chicago/crimes/data_info",
        name="chicago_crimes_2024",
        transformation=encoded,
        codes=("beat", "district", "ward", "community_area"),
    ),
)
