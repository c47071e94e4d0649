"""crimes: two models behind one request, from files of the portal or what can be made up."""

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.homes import app_of
from tests.pipeline.conftest import Home
from timonel.data import quality, split
from timonel.data.portal import read_file
from timonel.errors import DataRefused
from timonel.pipeline.run import Outcome
from timonel.project import Read, load_project
from timonel.projects.crimes import FBI, TEXTS, generated
from timonel.runtime import OnnxModel
from timonel.signature import Signature
from timonel.stores.artifacts import fetch_version
from timonel.tensors import arrays_of_frame
from timonel.training.design import design_matrix
from timonel.training.evaluate import Evaluation, evaluate, score_of

Train = Callable[..., Outcome]

PROJECT = load_project("crimes")
EMBEDDED = replace(PROJECT, source=PROJECT.source.sources[-1])  # type: ignore[attr-defined]
KNOWN = {
    "arrest": False,
    "beat": 412,
    "community_area": 46,
    "description": "THEFT / RECOVERY - AUTOMOBILE",
    "dia_mes": 4,
    "dia_semana": 1,
    "district": 4,
    "domestic": False,
    "hora": 5,
    "iucr": "0930",
    "latitude": 41.743747398,
    "location_description": "STREET",
    "longitude": -87.566115082,
    "mes": 6,
    "primary_type": "MOTOR VEHICLE THEFT",
    "ward": 7,
}
BOTH = {"dtc_fbi_code_output": "07", "lda_fbi_code_output": "07"}
TITLES = [
    "ID", "Case Number", "Date", "Block", "IUCR", "Primary Type", "Description",
    "Location Description", "Arrest", "Domestic", "Beat", "District", "Ward", "Community Area",
    "FBI Code", "X Coordinate", "Y Coordinate", "Year", "Updated On", "Latitude", "Longitude",
    "Location",
]  # fmt: skip


def quick() -> Any:
    """The project with few trials."""
    tree, lda = EMBEDDED.models
    return replace(EMBEDDED, models=[replace(tree, search=None, folds=2), lda])


def asked(client: TestClient, **changes: Any) -> Any:
    return client.post("/predict", json={"features": {**KNOWN, **changes}})


def made(rows: int = 200) -> pl.DataFrame:
    """Made-up records as the portal's exported table has them."""
    frame = pl.DataFrame(generated(rows))
    texts = frame.select(
        id=pl.col("id").cast(pl.String),
        case_number=pl.format("JH{}", pl.col("id") + 100_000),
        date=pl.col("date").dt.strftime("%m/%d/%Y %I:%M:%S %p"),
        block=pl.lit("001XX N STATE ST"),
        iucr="iucr",
        primary_type="primary_type",
        description="description",
        location_description="location_description",
        arrest=pl.col("arrest").cast(pl.String),
        domestic=pl.col("domestic").cast(pl.String),
        beat=pl.col("beat").cast(pl.String).str.zfill(4),
        district=pl.col("district").cast(pl.String).str.zfill(3),
        ward=pl.col("ward").cast(pl.String),
        community_area=pl.col("community_area").cast(pl.String),
        fbi_code="fbi_code",
        x_coordinate=pl.lit("1175476"),
        y_coordinate=pl.lit("1873816"),
        year=pl.lit("2024"),
        updated_on=pl.lit("05/17/2025 03:40:52 PM"),
        latitude=pl.col("latitude").cast(pl.String),
        longitude=pl.col("longitude").cast(pl.String),
        location=pl.lit("(41.8, -87.6)"),
    )
    return texts.rename(dict(zip(texts.columns, TITLES, strict=True)))


def prepared(folder: Path, content: bytes, name: str = "crimes_2024.csv") -> Any:
    """What the project makes of one file in its data folder, and all that is said of it."""
    (folder / "chicago_crimes").mkdir(exist_ok=True)
    for old in (folder / "chicago_crimes").iterdir():
        old.unlink()
    (folder / "chicago_crimes" / name).write_bytes(content)
    rows = PROJECT.source.read(Read(folder, folder / "cache", "sqlite://"))
    frame, notes = PROJECT.prepared(rows.frame)
    checked = quality.check(frame, PROJECT)
    return checked.frame.sort("id"), [*rows.notes, *notes]


def csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv().encode()


def test_it_trains_on_what_ships_says_so_and_answers_the_known_request(
    home: Home, trained: Train
) -> None:
    outcome = trained(quick())
    assert [version.state for version in outcome.versions] == ["champion", "champion"]
    assert any("these rows are generated" in event.note for event in home.told)
    for version in outcome.versions:
        folder = fetch_version(version.digest, home.objects, home.settings.serving_folder)
        assert "these rows are generated" in (folder / "card.md").read_text()
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["embedded"] is True
        assert "generated" in metrics["origin"]
    with TestClient(app_of([EMBEDDED], home.settings, at_root=True)) as client:
        for route in ("/predict", "/predict/", "/crimes/predict"):
            reply = client.post(route, json={"features": KNOWN})
            assert (reply.status_code, reply.json()) == (200, BOTH)
        unseen = {
            "iucr": "9ZZ9",
            "primary_type": "NEW",
            "description": "NEVER SEEN",
            "location_description": "ON THE MOON",
        }
        assert asked(client, **unseen).status_code == 200
        assert asked(client, something="else").json() == BOTH
        for wrong in ({"iucr": "930"}, {"hora": 24}, {"ward": 0}, {"primary_type": ""}):
            assert asked(client, **wrong).status_code == 422
        assert client.post("/predict", json=KNOWN).status_code == 422
    import mlflow

    tracking = mlflow.MlflowClient(tracking_uri=home.settings.registry_url)
    (experiment,) = tracking.search_experiments(filter_string="name = 'Chicago Crimes 2024'")
    for name in ("dtc_model_prod", "lda_model_prod"):
        registered = tracking.get_model_version_by_alias(name, "champion")
        run_id = str(registered.run_id)
        run = tracking.get_run(run_id)
        assert run.info.experiment_id == experiment.experiment_id
        figures = {file.path for file in tracking.list_artifacts(run_id, "figures")}
        assert figures == {"figures/confusion.png", "figures/report.png"}
        assert run.data.tags["timonel.embedded"] == "true"


def test_the_layout_is_the_one_its_authors_read(home: Home, trained: Train) -> None:
    trained(EMBEDDED, until="split")
    assert home.objects.list("data") == [
        "data/chicago/crimes/2024/chicago_crimes_2024.csv",
        "data/chicago/crimes/2024/chicago_crimes_2024_preprocessed.csv",
        "data/chicago/crimes/2024/final/X_test.csv",
        "data/chicago/crimes/2024/final/X_train.csv",
        "data/chicago/crimes/2024/final/y_test.csv",
        "data/chicago/crimes/2024/final/y_train.csv",
        "data/chicago/crimes/data_info/data.json",
        "data/chicago/crimes/data_info/pipeline.skops",
    ]
    info = json.loads(home.objects.get("data/chicago/crimes/data_info/data.json"))
    assert len(info["columns"]) == 16
    assert info["categories_values_per_categorical"]["fbi_code"] == list(PROJECT.labels or ())


def test_exported_tables_and_api_answers_give_the_same_rows(tmp_path: Path) -> None:
    table = made()
    expected, notes = prepared(tmp_path, csv(table))
    assert notes == []
    names = {name: name.lower().replace(" ", "_") for name in TITLES}
    when = pl.col("date", "updated_on").str.to_datetime("%m/%d/%Y %I:%M:%S %p")
    api = table.rename(names).with_columns(
        when.dt.strftime("%Y-%m-%dT%H:%M:%S.000"), pl.col("district").str.strip_chars_start("0")
    )
    records = [{k: v for k, v in row.items() if v is not None} for row in api.iter_rows(named=True)]
    for record in records:
        record["arrest"], record["domestic"] = (
            record[name] == "true" for name in ("arrest", "domestic")
        )
        record["location"] = {"type": "Point", "coordinates": [-87.6, 41.8]}
    shapes = {
        "crimes_2024.csv": csv(api),
        "Crimes_-_2024.csv.gz": gzip.compress(csv(table)),
        "crimes_2024.json": json.dumps(records).encode(),
    }
    for name, content in shapes.items():
        frame, notes = prepared(tmp_path, content, name)
        assert frame.equals(expected), name
        assert notes == []


def test_the_portals_own_file_is_read_and_what_is_left_out_is_told(test_data: Path) -> None:
    frame, _ = read_file(test_data / "chicago_crimes" / "crimes_2024_sample_10k.csv.gz")
    found, notes = PROJECT.prepared(frame)
    first = found.row(0, named=True)
    assert (first["date"].month, first["date"].weekday()) == (first["mes"], first["dia_semana"])
    repeated, incomplete = notes
    assert repeated.startswith("18 of 10,000 rows repeat another")
    assert re.match(r"303 of 9,982 rows \(3\.0%\) were left out", incomplete)
    checked = quality.check(found, PROJECT)
    assert checked.report.refused == 0
    assert set(checked.frame["district"].unique()) <= set(range(1, 32))


ZEROS = "had lost leading zeros"
REPAIRED: dict[str, tuple[Callable[[pl.DataFrame], bytes], str]] = {
    "zeros lost": (
        lambda t: csv(t.with_columns(pl.col("IUCR", "FBI Code").str.strip_chars_start("0"))),
        ZEROS,
    ),
    "byte order mark": (lambda t: b"\xef\xbb\xbf" + csv(t), "byte order mark"),
    "header twice": (lambda t: csv(t[:9]) + csv(t[9:]), "header is repeated"),
    "latin-1": (lambda t: csv(t.with_columns(Block=pl.lit("CAFÉ"))).decode().encode("latin-1"),
                "Latin-1"),
    "duplicates": (lambda t: csv(pl.concat([t, t.with_columns(ID=pl.lit("x"))[:5]])),
                   "5 of 205 rows repeat"),
}  # fmt: skip


@pytest.mark.parametrize("how", REPAIRED)
def test_a_spoiled_file_is_repaired_with_a_sentence(tmp_path: Path, how: str) -> None:
    spoil, sentence = REPAIRED[how]
    expected, _ = prepared(tmp_path, csv(made()))
    frame, notes = prepared(tmp_path, spoil(made()))
    features = [column.name for column in PROJECT.columns] + ["fbi_code"]
    assert frame.select(features).sort(features).equals(expected.select(features).sort(features))
    assert any(sentence in note for note in notes)


def dates(frame: pl.DataFrame, form: str) -> pl.DataFrame:
    when = pl.col("Date").str.to_datetime("%m/%d/%Y %I:%M:%S %p")
    return frame.with_columns(when.dt.strftime(form))


REFUSED: dict[str, tuple[Callable[[pl.DataFrame], bytes], str]] = {
    "day first": (lambda t: csv(dates(t, "%d/%m/%Y %I:%M:%S %p")), "day first"),
    "serial dates": (lambda t: csv(t.with_columns(Date=pl.lit("45322.99"))), "45322.99"),
    "the epoch": (lambda t: csv(dates(t, "01/01/1970 %I:%M:%S %p")), "not before 2001"),
    "a page": (lambda t: b"<!DOCTYPE html><html>Too many requests</html>", "web page"),
    "cut gzip": (lambda t: gzip.compress(csv(t))[:-200], "cut short"),
    "another table": (lambda t: b"a,b\n1,2\n", "iucr is missing"),
    "codes of nothing": (lambda t: csv(t.with_columns(pl.lit("99").alias("FBI Code"))), "refused"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_file_spoiled_beyond_repair_stops_the_run_and_is_not_passed_over(
    tmp_path: Path, how: str
) -> None:
    spoil, sentence = REFUSED[how]
    with pytest.raises(DataRefused, match=sentence):
        prepared(tmp_path, spoil(made()))


def test_the_split_is_stratified_within_chance() -> None:
    frame = quality.check(PROJECT.prepared(pl.DataFrame(generated(40_000)))[0], PROJECT).frame
    sides = split.assign(frame, PROJECT.split, PROJECT.columns, PROJECT.target)
    shares = sides.group_by("fbi_code").agg(n=pl.len(), share=(pl.col("split") == "test").mean())
    sigma = (0.3 * 0.7 / shares["n"].to_numpy()) ** 0.5
    assert np.abs((shares["share"].to_numpy() - 0.3) / sigma).max() < 4
    updated = sides.with_columns(latitude=pl.col("latitude") + 1)
    again = split.assign(updated.drop("split"), PROJECT.split, PROJECT.columns, PROJECT.target)
    assert again["split"].equals(sides["split"])


@pytest.mark.soak
def test_two_years_predict_the_next_half_year(
    home: Home, trained: Train, test_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "chicago_crimes"
    folder.mkdir(parents=True)
    for year in (2016, 2017):
        name = f"crimes_{year}.parquet"
        (folder / name).symlink_to(test_data / "chicago_crimes" / name)
    home.settings = home.settings.model_copy(update={"data": folder.parent, "jobs": 2})
    trained(PROJECT)
    frame, _ = read_file(test_data / "chicago_crimes" / "crimes_2018_jan_jun.parquet")
    later = quality.check(PROJECT.prepared(frame)[0], PROJECT).frame
    assert result(home, "dtc", later).value >= 0.995
    assert result(home, "lda", later).value >= 0.99
    with TestClient(app_of([PROJECT], home.settings, at_root=True)) as client:
        assert asked(client).json() == BOTH


@pytest.mark.soak
@pytest.mark.parametrize(
    ("left_out", "least", "most"),
    [([], 0.999, 1.0), (["iucr"], 0.995, 1.0), (["iucr", "description"], 0.9, 0.96)],
    ids=["all", "without IUCR", "without IUCR and description"],
)
def test_the_code_all_but_contains_the_label_and_so_does_the_description(
    test_data: Path, left_out: list[str], least: float, most: float
) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder
    from sklearn.tree import DecisionTreeClassifier

    def year(name: str) -> pl.DataFrame:
        frame, _ = read_file(test_data / "chicago_crimes" / name)
        return quality.check(PROJECT.prepared(frame)[0], PROJECT).frame

    before, later = year("crimes_2017.parquet"), year("crimes_2018_jan_jun.parquet")
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer(
        ("drop", left_out),
        (codes, [name for name in TEXTS if name not in left_out]),
        remainder="passthrough",
    )
    model = make_pipeline(columns, DecisionTreeClassifier(min_samples_leaf=10, random_state=0))
    X, X_later = (
        design_matrix(PROJECT.columns, arrays_of_frame(PROJECT.columns, frame))
        for frame in (before, later)
    )
    model.fit(X, before["fbi_code"].to_list())
    found = score_of("f1_weighted", later["fbi_code"], model.predict(X_later), FBI.split(","))
    assert least <= found <= most


def result(home: Home, model: str, frame: pl.DataFrame) -> Evaluation:
    """How a champion answers rows that it never saw."""
    champion = home.versions.champion("crimes", model)
    assert champion is not None
    folder = fetch_version(champion.digest, home.objects, home.settings.serving_folder)
    signature = Signature.from_json((folder / "signature.json").read_bytes())
    graph = OnnxModel((folder / "model.onnx").read_bytes(), signature, threads=0)
    labels = list(PROJECT.labels or ())
    place = np.array([labels.index(label) for label in signature.classes])
    truth = np.array([labels.index(label) for label in frame["fbi_code"].to_list()])
    answers, _ = graph.predict(arrays_of_frame(PROJECT.columns, frame))
    return evaluate(truth, place[answers], None, labels, "f1_weighted")
