"""MLflow's clients work with us: data frames, arrays, records, its deployments client, errors."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.deployments import get_deploy_client
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from starlette.testclient import TestClient

from tests.homes import app_of, digit_rows, penguin_rows
from tests.serving.boats import FEMALE, MALE
from timonel.project import load_project
from timonel.settings import Settings

ROW = {"bill_length_mm": 20.0, "bill_depth_mm": 40.0, "flipper_length_mm": 200, "body_mass_g": 4000}
VALUES = list(ROW.values())


def scoring(address: str, project: str) -> Any:
    host, port = address.split(":")
    return ScoringServerClient(host, f"{port}/{project}")  # type: ignore[no-untyped-call]


def native(client: TestClient, project: str, rows: list[Any]) -> list[Any]:
    replies = [client.post(f"/{project}/predict", json=row).json()["prediction"] for row in rows]
    return [reply[0] if isinstance(reply, list) else reply for reply in replies]


def test_a_data_frame_is_scored_as_the_native_protocol_scores_each_row(
    address: str, client: TestClient
) -> None:
    frame = pd.DataFrame(penguin_rows(40)[0]).astype(float)
    frame.index = frame.index[::-1]
    answered = scoring(address, "penguins").invoke(frame)
    expected = native(client, "penguins", frame.to_dict("records"))
    assert answered.get_predictions()[0].tolist() == expected
    assert answered.get_predictions("ndarray", dtype=np.int64).tolist() == expected


def test_an_array_is_scored_its_columns_in_the_projects_order(
    address: str, client: TestClient
) -> None:
    frame = pd.DataFrame(penguin_rows(10)[0]).astype(float)
    answered = scoring(address, "penguins").invoke(frame.to_numpy())
    assert answered["predictions"] == native(client, "penguins", frame.to_dict("records"))
    pixels = digit_rows()[0][:5]
    expected = native(client, "digits", [{"pixels": row.tolist()} for row in pixels])
    for shaped in (pixels, pixels.reshape(-1, 28, 28), pixels.reshape(-1, 1, 28, 28)):
        assert scoring(address, "digits").invoke(shaped)["predictions"] == expected
    assert scoring(address, "digits").invoke(pd.DataFrame(pixels))["predictions"] == expected


def test_the_deployments_client_predicts(address: str) -> None:
    client = get_deploy_client(f"http://{address}")  # type: ignore[no-untyped-call]
    answered = client.predict(endpoint="penguins", inputs={"dataframe_records": [ROW, ROW]})
    assert answered == {"predictions": [0, 0]}


def test_the_client_finds_the_server_ready_and_its_version(address: str) -> None:
    for project in ("penguins", "digits"):
        scoring(address, project).wait_server_ready(timeout=5)
    host, port = address.split(":")
    assert ScoringServerClient(host, port).get_version()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": list(ROW), "data": [VALUES], "index": [7]}},
        {"dataframe_split": {"columns": list(ROW)[::-1], "data": [VALUES[::-1]]}},
        {"dataframe_split": {"data": [VALUES]}},
        {"dataframe_split": {"columns": [0, 1, 2, 3], "data": [VALUES]}},
        {"dataframe_records": [ROW]},
        {"dataframe_records": [{**ROW, "body_mass_g": 4000.0}]},
        {"instances": [ROW]},
        {"instances": [VALUES]},
        {"inputs": [ROW]},
        {"inputs": [VALUES]},
        {"inputs": {name: [value] for name, value in ROW.items()}},
        {"inputs": ROW},
        {"instances": [ROW], "params": {"temperature": 1}, "signature_name": "x"},
    ],
    ids=str,
)
def test_every_form_of_a_row_is_taken(body: dict[str, Any], client: TestClient) -> None:
    reply = client.post("/penguins/invocations", json=body)
    assert reply.json() == {"predictions": [0]}
    assert reply.headers["x-model-version"] == "penguins/rf@3"
    assert len(reply.headers["x-prediction-id"]) == 36


@pytest.mark.parametrize("project", ["penguins", "digits"])
@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"data": []}},
        {"dataframe_records": []},
        {"instances": []},
        {"inputs": []},
    ],
    ids=str,
)
def test_no_rows_are_answered_with_none(
    body: dict[str, Any], project: str, client: TestClient
) -> None:
    assert client.post(f"/{project}/invocations", json=body).json() == {"predictions": []}


def test_of_several_models_each_answers_and_one_may_be_asked(client: TestClient) -> None:
    body = {"dataframe_records": [MALE, FEMALE]}
    assert client.post("/boat/invocations", json=body).json() == {
        "predictions": [{"m1": "drowned", "m2": "drowned"}, {"m1": "saved", "m2": "saved"}]
    }
    reply = client.post("/boat/invocations?model=m2", json=body)
    assert reply.json() == {"predictions": ["drowned", "saved"]}


def test_nan_is_missing_where_a_value_may_be(address: str, client: TestClient) -> None:
    frame = pd.DataFrame([MALE, FEMALE]).astype({"age": float})
    frame.loc[1, ["age", "siblings", "port"]] = [np.nan, np.nan, None]
    answered = scoring(address, "boat").invoke(frame)["predictions"]
    whole = [MALE, {**FEMALE, "age": None, "siblings": None, "port": None}]
    expected = [client.post("/boat/predict?model=m1", json=row).json() for row in whole]
    assert [row["m1"] for row in answered] == [reply["prediction"] for reply in expected]
    refused = client.post(
        "/boat/invocations", content=json.dumps({"inputs": [{**MALE, "sex": float("nan")}]})
    )
    assert refused.status_code == 422
    assert "row 0, sex: " in refused.json()["message"]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 400, "Expected exactly one of dataframe_split, dataframe_records, instances, inputs"),
        ({"inputs": [ROW], "instances": [ROW]}, 400, "got instances, inputs."),
        ([ROW], 422, "Input should be an object"),
        ({"dataframe_records": ROW}, 422, "dataframe_records: Input should be a valid array"),
        ({"dataframe_split": [ROW]}, 422, "dataframe_split: Input should be an object"),
        ({"dataframe_split": {"columns": ["a"]}}, 422, "dataframe_split.data: Field required"),
        (
            {"dataframe_split": {"columns": list(ROW), "data": [VALUES, [1, 2]]}},
            400,
            "row 1: expected 4 values (bill_length_mm, bill_depth_mm,",
        ),
        ({"instances": [VALUES, [*VALUES, 1]]}, 400, "row 1: expected 4 values"),
        ({"instances": [5]}, 422, "row 0: Input should be a valid dictionary"),
        ({"inputs": {**ROW, "body_mass_g": [1, 2]}}, 400, "'body_mass_g' has 2."),
        ({"inputs": {**{n: [1] for n in ROW}, "body_mass_g": [1, 2]}}, 400, "as many values in"),
        ({"inputs": {}}, 422, "row 0, bill_length_mm: Field required"),
        ({"instances": [ROW, {**ROW, "body_mass_g": -1}]}, 422, "row 1, body_mass_g: Input should"),
        ({"instances": [ROW] * 1_001}, 413, "Expected at most 1000 rows in a request, got 1001."),
        ({"inputs": {n: [1] * 1_001 for n in ROW}}, 413, "Expected at most 1000 rows"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_refusal_has_mlflows_form(body: Any, status: int, told: str, client: TestClient) -> None:
    reply = client.post("/penguins/invocations", json=body)
    assert reply.status_code == status
    assert reply.json()["error_code"] == "BAD_REQUEST"
    assert told in reply.json()["message"]


def test_a_table_may_be_sent_as_csv_or_parquet(client: TestClient) -> None:
    frame = pd.DataFrame(penguin_rows(20)[0]).astype(float)
    expected = native(client, "penguins", frame.to_dict("records"))
    for kind, content in (
        ("text/csv", frame.to_csv(index=False).encode()),
        ("text/csv; charset=utf-8", frame.to_csv(index=False).encode()),
        ("application/vnd.apache.parquet", frame.to_parquet()),
    ):
        reply = client.post(
            "/penguins/invocations", content=content, headers={"Content-Type": kind}
        )
        assert reply.json() == {"predictions": expected}
    for lines, status, told in (
        (["20,40,200,4000", "20,40,200,-1"], 422, "row 1, body_mass_g: Input should be greater"),
        (["20,40,200,4000"] * 1_001, 413, "Send it in parts, or to /penguins/predict, which"),
        (["20,40,200,4000,5"], 400, "Expected a table as csv, got: "),
    ):
        csv = "\n".join([",".join(ROW), *lines, ""]).encode()
        headers = {"Content-Type": "text/csv"}
        reply = client.post("/penguins/invocations", content=csv, headers=headers)
        assert reply.status_code == status
        assert told in reply.json()["message"]


def test_an_unknown_model_is_refused_naming_those_there_are(client: TestClient) -> None:
    reply = client.post("/boat/invocations?model=m9", json={"inputs": [MALE]})
    assert (reply.status_code, reply.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert reply.json()["message"].endswith("expected one of: m1, m2.")


def test_a_project_alone_is_invoked_at_the_root(home_of_three: Settings) -> None:
    with TestClient(app_of([load_project("penguins")], home_of_three, at_root=True)) as client:
        for path in ("/invocations", "/penguins/invocations/", "/endpoints/penguins/invocations"):
            assert client.post(path, json={"inputs": [VALUES]}).json() == {"predictions": [0]}
        assert "/invocations" in client.get("/openapi.json").json()["paths"]


def test_before_there_is_a_version_clients_are_told_to_wait(tmp_path: Any) -> None:
    app = app_of([load_project("penguins")], Settings(home=tmp_path / "home"))
    with TestClient(app) as client:
        replies = [
            client.get("/ping"),
            client.get("/penguins/ping"),
            client.post("/penguins/invocations", json={"inputs": [ROW]}),
            client.get("/v2/models/penguins/ready"),
            client.get("/v2/models/penguins"),
        ]
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").json() == {"ready": False}
    for reply in replies:
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
        body = reply.json()
        assert "penguins/rf has no version yet." in body.get("message", body.get("error"))
    assert replies[0].json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
