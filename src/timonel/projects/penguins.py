"""Species of a penguin from four measurements, after the Palmer Station's records."""

from pydantic import BaseModel, Field

from timonel import Contract, Csv, File, FirstOf, Gate, Grid, Model, Project, Python, Tables, labels


class Measurements(BaseModel):
    bill_length_mm: float = Field(gt=0, lt=100, examples=[39.1], description="bill length, mm")
    bill_depth_mm: float = Field(gt=0, lt=100, examples=[18.7], description="bill depth, mm")
    flipper_length_mm: float = Field(gt=0, lt=500, examples=[181], description="flipper, mm")
    body_mass_g: float = Field(gt=0, lt=50_000, examples=[3750], description="body mass, g")


def forest(
    n_estimators: int = 30, max_features: int = 1, max_depth: int = 9, seed: int = 0
) -> object:
    from sklearn.ensemble import RandomForestClassifier as Forest

    return Forest(n_estimators, max_depth=max_depth, max_features=max_features, random_state=seed)


SPECIES = {"Adelie": 0, "Chinstrap": 1, "Gentoo": 2}
USED = ["species", *Measurements.model_fields]
CSV = Csv(File("penguins/penguins.csv"), nulls=("NA",))
GRID = Grid(max_features=[1, 2], max_depth=[4, 6, 9], n_estimators=[15, 25, 35, 50])
project = Project(
    name="penguins",
    description="Species of a penguin: 0 Adelie, 1 Chinstrap, 2 Gentoo.",
    source=FirstOf(CSV, Python("palmerpenguins:load_penguins")),
    prepare=lambda raw: raw.with_columns(raw["species"].replace_strict(SPECIES))[USED].drop_nulls(),
    tables=Tables(raw="penguins_raw", processed="penguins_processed"),
    features=Measurements,
    target="species",
    classes={code: name for name, code in SPECIES.items()},
    models=[Model("rf", forest, GRID, repeats=5, log_models="all", registered="penguins_rf")],
    gate=Gate(floor=0.9, margin=0.1),
    contract=Contract(reply=labels("prediction"), rows="one", unknown="ignore"),
    experiment="penguins_experiment",
)
