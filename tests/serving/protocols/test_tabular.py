"""Tables as bodies of the predict route."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.homes import app_of, deploy, home_at, penguin_rows
from timonel.journal.records import Record, read
from timonel.project import load_project
from timonel.settings import Settings

ROWS = 5_000


def frame_of(rows: int = ROWS) -> pl.DataFrame:
    return pl.DataFrame(penguin_rows(rows, seed=3)[0]).cast(pl.Float64)


def csv_of(frame: pl.DataFrame) -> bytes:
    return frame.write_csv().encode()


def written(frame: pl.DataFrame, method: str) -> bytes:
    file = io.BytesIO()
    getattr(frame, method)(file)
    return file.getvalue()


FORMS: dict[str, tuple[Callable[[pl.DataFrame], bytes], Callable[[bytes], pl.DataFrame]]] = {
    "text/csv": (csv_of, pl.read_csv),
    "application/vnd.apache.arrow.stream": (
        lambda frame: written(frame, "write_ipc_stream"),
        pl.read_ipc_stream,
    ),
    "application/vnd.apache.arrow.file": (
        lambda frame: written(frame, "write_ipc"),
        pl.read_ipc,
    ),
    "application/vnd.apache.parquet": (
        lambda frame: written(frame, "write_parquet"),
        pl.read_parquet,
    ),
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = home_at(tmp_path_factory.mktemp("tables"), max_table_rows=6_000)
    deploy(load_project("penguins"), settings)
    return settings


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(app_of([load_project("penguins")], settings)) as client:
        yield client


def post(client: TestClient, body: bytes, kind: str, **headers: str) -> Any:
    return client.post("/penguins/predict", content=body, headers={"Content-Type": kind, **headers})


@pytest.mark.parametrize("kind", FORMS)
def test_a_table_is_answered_by_one_of_the_same_form_with_each_rows_answer(
    client: TestClient, settings: Settings, kind: str
) -> None:
    write, back = FORMS[kind]
    frame = frame_of()
    reply = post(client, write(frame), kind)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].partition(";")[0] == kind
    answers = back(reply.content)
    assert answers.columns == [
        "prediction", "probability_0", "probability_1", "probability_2", "version", "id",
    ]  # fmt: skip
    alone = [client.post("/penguins/predict", json=row).json() for row in frame[:20].to_dicts()]
    assert answers["prediction"][:20].to_list() == [row["prediction"][0] for row in alone]
    assert answers["version"].unique().to_list() == [reply.headers["x-model-version"]]
    assert answers["id"][0] == f"{reply.headers['x-prediction-id']}.0"
    assert answers["id"].n_unique() == ROWS
    via = {"text/csv": "csv", "application/vnd.apache.parquet": "parquet"}.get(kind, "arrow")
    kept = [
        f"{_uuid(record.id)}.{row}"
        for path in settings.journal_folder.rglob("*")
        if path.is_file()
        for record in read(path)
        if isinstance(record, Record) and record.via.startswith(via)
        for row in range(len(record.rows))
    ]
    assert set(answers["id"]) <= set(kept), "what was answered is in the journal"


def _uuid(content: bytes) -> str:
    import uuid

    return str(uuid.UUID(bytes=content))


def test_accept_chooses_another_form(client: TestClient) -> None:
    reply = post(client, csv_of(frame_of(3)), "text/csv", Accept="application/vnd.apache.parquet")
    assert pl.read_parquet(reply.content).height == 3


def test_rows_that_do_not_fit_are_refused_with_their_number_and_field(client: TestClient) -> None:
    body = b"bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g\n39,18,181,3750\n39,0,181,x"
    reply = post(client, body, "text/csv")
    assert reply.status_code == 422
    assert [(item["loc"], item["type"]) for item in reply.json()["detail"]] == [
        (["body", 1, "bill_depth_mm"], "greater_than"),
        (["body", 1, "body_mass_g"], "float_parsing"),
    ]


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("body", [b"", b"\0\xff" * 40, b"PAR1", b"ARROW1", b"{}", b"a\n" * 9])
def test_what_is_no_table_is_refused(client: TestClient, kind: str, body: bytes) -> None:
    reply = post(client, body, kind)
    assert reply.status_code in {400, 422}
    assert "Expected" in reply.json()["detail"]


@pytest.mark.parametrize("kind", FORMS)
def test_a_table_cut_short_is_refused(client: TestClient, kind: str) -> None:
    whole = FORMS[kind][0](frame_of(500))
    for size in range(0, len(whole), len(whole) // 17):
        reply = post(client, whole[:size], kind)
        # Text has no end of its own, and neither has a stream between two of its messages.
        open_ended = kind in {"text/csv", "application/vnd.apache.arrow.stream"}
        assert reply.status_code in ({200, 400, 422} if open_ended else {400, 422})


@pytest.mark.parametrize("kind", FORMS)
def test_a_table_of_more_rows_than_allowed_is_refused(client: TestClient, kind: str) -> None:
    reply = post(client, FORMS[kind][0](frame_of(6_001)), kind)
    assert reply.status_code == 413
    assert "at most 6,000 rows, got 6,001" in reply.json()["detail"]


@pytest.mark.parametrize("kind", FORMS)
def test_a_table_without_rows_has_answers_without_rows(client: TestClient, kind: str) -> None:
    write, back = FORMS[kind]
    reply = post(client, write(frame_of(1).clear()), kind)
    assert reply.status_code == 200, reply.text
    assert back(reply.content).height == 0


def test_a_table_without_a_column_says_which(client: TestClient) -> None:
    reply = post(client, csv_of(frame_of(2).drop("body_mass_g")), "text/csv; charset=utf-8")
    assert reply.status_code == 422
    assert "body_mass_g is missing" in reply.json()["detail"]


def test_an_unknown_model_is_refused(client: TestClient) -> None:
    reply = client.post(
        "/penguins/predict?model=no", content=b"", headers={"Content-Type": "text/csv"}
    )
    assert reply.status_code == 404


def test_a_worker_that_gets_no_table_never_imports_polars(tmp_path: Path) -> None:
    code = (
        "import sys, timonel.serving.worker, timonel.serving.protocols.tabular;"
        "print('polars' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.strip().lower()) is False
