"""Who survived the Titanic, from age, sex and port (Cherbourg, Queenstown, Southampton)."""

from pydantic import BaseModel, Field

from timonel import Contract, Csv, Embedded, File, FirstOf, Gate, Model, Project, Split, labels


class Passenger(BaseModel):
    Age: float | None = Field(None, ge=0, le=150, examples=[22.0], description="age in years")
    Sex: str | None = Field(None, examples=["male"], description="male or female")
    Embarked: str | None = Field(None, examples=["S"], description="port: C, Q or S")


def regression() -> object:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    median, one_hot = SimpleImputer(strategy="median"), OneHotEncoder(handle_unknown="ignore")
    inputs = make_column_transformer((median, ["Age"]), (one_hot, ["Sex", "Embarked"]))
    return make_pipeline(inputs, LogisticRegression(max_iter=1000))


URL = "https://raw.githubusercontent.com/datasciencedojo/datasets/master/titanic.csv"
SAMPLE = Embedded(Csv(File(f"{__file__[:-3]}_generated.csv")), "The passengers are generated ones.")
project = Project(
    name="titanic",
    description="Who survives the Titanic: 0 does not, 1 does.",
    source=FirstOf(Csv(File("titanic/train.csv", (URL,))), SAMPLE),
    prepare=lambda raw: raw if "PassengerId" in raw.columns else raw.with_row_index("PassengerId"),
    features=Passenger,
    target="Survived",
    classes={0: "died", 1: "survived"},
    models=[Model("lr", regression)],
    split=Split(key=("PassengerId",)),
    gate=Gate(floor=0.7, margin=0.05),
    contract=Contract(reply=labels("predictions"), rows="many", unknown="ignore"),
)
