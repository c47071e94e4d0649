"""True labels over HTTP: checked, in the journal before the reply, and taken once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.homes import app_of, deploy, home_at
from tests.serving.boats import FEMALE, boat, launch
from timonel.errors import JournalFull, NotReady
from timonel.ids import Ids
from timonel.journal.append import Journal
from timonel.journal.files import OPEN
from timonel.journal.records import Feedback, read
from timonel.project import Project, load_project
from timonel.serving.feedback import classes_of
from timonel.serving.routing import Routes
from timonel.settings import Settings

ROW = {
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "flipper_length_mm": 181,
    "body_mass_g": 3750,
}
ID = str(Ids()())


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = home_at(tmp_path_factory.mktemp("feedback"), max_rows=5, max_table_rows=8)
    deploy(load_project("penguins"), settings)
    return settings


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(app_of([load_project("penguins")], settings, at_root=True)) as client:
        yield client


def kept(settings: Settings) -> list[Feedback]:
    """What stands in the file that is being written."""
    (path,) = settings.journal_folder.glob(f"*{OPEN}")
    reading = read(path)
    list(reading)
    return reading.feedback


def sent(client: TestClient, body: Any, path: str = "/feedback") -> tuple[int, Any]:
    reply = client.post(path, json=body)
    return reply.status_code, reply.json()


@pytest.mark.parametrize(
    "path", ["/feedback", "/feedback/", "/penguins/feedback", "/penguins/feedback/"]
)
def test_a_label_is_in_the_journal_when_the_reply_comes(
    client: TestClient, settings: Settings, path: str
) -> None:
    prediction = client.post("/predict", json=ROW).headers["x-prediction-id"]
    status, said = sent(client, {"id": prediction, "label": 1}, path)
    assert (status, said["received"], said["recorded"]) == (202, 1, 1)
    assert "timonel accuracy penguins" in said["detail"]
    (found,) = kept(settings)
    assert (found.id.hex(), found.row, found.label) == (prediction.replace("-", ""), 0, "1")
    assert found.project == "penguins"
    counted = client.get("/metrics").text
    assert 'timonel_feedback_total{project="penguins"} 1.0' in counted


def test_rows_are_named_in_the_id_or_beside_it_and_said_twice_count_once(
    client: TestClient, settings: Settings
) -> None:
    body = [
        {"id": ID, "label": "0"},
        {"id": f"{ID}.0", "label": 0},
        {"id": f"{ID.upper()}.3", "label": 2.0},
        {"id": ID, "row": 4, "label": "2"},
    ]
    status, said = sent(client, body)
    assert (status, said["received"], said["recorded"]) == (202, 4, 3)
    assert [(one.row, one.label) for one in kept(settings)] == [(0, "0"), (3, "2"), (4, "2")]


def test_tables_are_taken_as_a_body_and_as_an_upload(
    client: TestClient, settings: Settings
) -> None:
    table = f"\ufeffwhen,label, id ,row\r\nnow,1,{ID},\r\n\r\nthen,2.0,{ID},7\r\n".encode()
    reply = client.post("/feedback", content=table, headers={"Content-Type": "text/csv"})
    assert (reply.status_code, reply.json()["recorded"]) == (202, 2)
    reply = client.post("/feedback", files={"file": ("truth.csv", table)})
    assert (reply.status_code, reply.json()["recorded"]) == (202, 2)
    assert [(one.row, one.label) for one in kept(settings)] == [(0, "1"), (7, "2")] * 2


@pytest.mark.parametrize(
    ("body", "place", "sentence"),
    [
        ({"id": ID, "label": "Adelie"}, ["label"], "Expected one of 0, 1, 2, got 'Adelie'."),
        ({"id": ID, "label": True}, ["label"], "Expected one of 0, 1, 2, got True."),
        ({"id": ID}, ["label"], "Expected one of 0, 1, 2, got nothing."),
        ({"id": "me", "label": 1}, ["id"], "Expected a prediction id, or ID.n for its row n"),
        ({"label": 1}, ["id"], "got nothing."),
        ({"id": ID, "row": -1, "label": 1}, ["row"], "Expected a number from 0, got -1."),
        ({"id": f"{ID}.2", "row": 1, "label": 1}, ["row"], "Expected 2 as in the id, got 1."),
        ({"id": ID, "label": 1, "rows": 2}, [], "Expected id, label, row, got 'rows'."),
        (7, [], "Expected an id and a label, got 7."),
        ([{"id": ID, "label": 1}, {"id": ID, "label": []}], [1, "label"], "got a list."),
        (
            [{"id": ID, "label": 1}, {"id": f"{ID}.0", "label": 2}],
            [1, "label"],
            "Expected one label, got '1' before.",
        ),
    ],
)
def test_what_does_not_fit_is_refused_whole_with_its_place(
    client: TestClient, settings: Settings, body: Any, place: list[Any], sentence: str
) -> None:
    status, said = sent(client, body)
    (complaint,) = said["detail"]
    assert (status, complaint["loc"]) == (422, ["body", *place])
    assert sentence in complaint["msg"]
    assert list(settings.journal_folder.glob(f"*{OPEN}")) == []


@pytest.mark.parametrize(
    ("content", "kind", "status", "sentence"),
    [
        ("{", "application/json", 400, "Expected feedback as JSON, got: "),
        ("[" * 5_000, "application/json", 400, "Expected feedback as JSON, got: "),
        ("", "text/csv", 400, "got no heading: id and label are missing."),
        ("id,truth\n", "text/csv", 400, "got id, truth: label is missing."),
        (b"id,label\n\xff,1\n", "text/csv", 400, "Expected feedback as CSV in UTF-8"),
        ("x", "application/vnd.apache.parquet", 415, "Expected feedback as JSON or CSV"),
        ("x", "multipart/form-data", 400, "Expected a multipart form"),
        ("[" + "1," * 5 + "1]", "application/json", 413, "at most 5 rows in a request, got 6."),
        ("id,label\n" + "x\n" * 9, "text/csv", 413, "at most 8 rows in a request, got 9."),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_with_a_sentence(
    client: TestClient, content: str | bytes, kind: str, status: int, sentence: str
) -> None:
    reply = client.post("/feedback", content=content, headers={"Content-Type": kind})
    assert reply.status_code == status
    assert sentence in reply.json()["detail"]


def test_a_form_without_a_file_is_refused(client: TestClient) -> None:
    for form in ({"files": {"other": b"x"}}, {"files": {"x": b""}, "data": {"file": "text"}}):
        reply = client.post("/feedback", **form)
        assert reply.status_code == 422
        assert "Expected form field 'file' with a CSV file" in reply.json()["detail"]


def test_a_label_that_cannot_be_recorded_is_not_taken(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Journal, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "_put", full)
    status, said = sent(client, {"id": ID, "label": 1})
    assert (status, "No space left" in said["detail"]) == (JournalFull.status, True)


def test_the_classes_are_those_declared_or_those_that_champions_answer(tmp_path: Path) -> None:
    settings, declared = home_at(tmp_path), boat()
    undeclared = Project(
        name=declared.name,
        source=declared.source,
        features=declared.features,
        target=declared.target,
        models=list(declared.models),
    )
    routes = Routes([declared], settings.serving_folder)
    assert classes_of(declared, routes) == ("drowned", "saved")
    with pytest.raises(NotReady):
        classes_of(undeclared, routes)
    launch(undeclared, settings)
    with TestClient(app_of([undeclared], settings, at_root=True)) as client:
        prediction = client.post("/predict", json=FEMALE).json()["id"]
        assert sent(client, {"id": prediction, "label": "saved"})[0] == 202
        status, said = sent(client, {"id": prediction, "label": "lost"})
    told = "Expected one of drowned, saved, got 'lost'."
    assert (status, said["detail"][0]["msg"]) == (422, told)
