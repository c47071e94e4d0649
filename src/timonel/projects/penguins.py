"""Species of a penguin from four measurements, after the Palmer Station's records."""

from typing import Any

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from timonel import Answer, Contract, Csv, File, FirstOf, Gate, Grid, Model, Project, Python


class Measurements(BaseModel):
    bill_length_mm: float = Field(gt=0, lt=100, examples=[39.1], description="bill length, mm")
    bill_depth_mm: float = Field(gt=0, lt=100, examples=[18.7], description="bill depth, mm")
    flipper_length_mm: float = Field(gt=0, lt=500, examples=[181], description="flipper, mm")
    body_mass_g: float = Field(gt=0, lt=50_000, examples=[3750], description="body mass, g")


SPECIES = {0: "Adelie", 1: "Chinstrap", 2: "Gentoo"}


class Reply(TypedDict):
    prediction: list[int]


def forest(n_estimators: int = 30, max_features: int = 1, max_depth: int = 9, seed: int = 0) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        n_estimators, max_features=max_features, max_depth=max_depth, random_state=seed, n_jobs=1
    )


def prepare(frame: Any) -> Any:
    codes = {name: code for code, name in SPECIES.items()}
    complete = frame.drop_nulls(["species", *Measurements.model_fields])
    return complete.with_columns(complete["species"].replace_strict(codes))


def reply(answer: Answer) -> Reply:
    return {"prediction": [int(label) for label in answer.predictions]}


project = Project(
    name="penguins",
    description="Species of a penguin: 0 Adelie, 1 Chinstrap, 2 Gentoo.",
    source=FirstOf(
        Csv(File("penguins/penguins.csv"), nulls=("NA",)), Python("palmerpenguins:load_penguins")
    ),
    prepare=prepare,
    features=Measurements,
    target="species",
    classes=SPECIES,
    models=[
        Model(
            "rf",
            forest,
            search=Grid(max_features=[1, 2], max_depth=[4, 6, 9], n_estimators=[15, 25, 35, 50]),
            repeats=5,
            log_models="all",
            registered="penguins_rf",
        )
    ],
    gate=Gate(floor=0.9),
    contract=Contract(reply=reply, rows="one", unknown="ignore"),
    experiment="penguins_experiment",
)
