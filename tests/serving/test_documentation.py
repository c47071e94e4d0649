"""The OpenAPI document says what the predictions take and answer."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serving.boats import boat
from timonel.contract import Answer
from timonel.project import load_project
from timonel.serving.documentation import Operation, add_keys, example_of
from timonel.serving.door import Rules
from timonel.serving.rows import RowReader


def operation(project: Any) -> Operation:
    return Operation(project, RowReader(project, 10))


def body_of(found: Operation) -> Any:
    return found.extra["requestBody"]["content"]["application/json"]


def test_each_project_shows_its_own_fields_and_example(mounted: TestClient) -> None:
    document = mounted.get("/openapi.json").json()
    shown = [path for path in document["paths"] if path.endswith("predict")]
    assert shown == ["/digits/predict", "/penguins/predict"]
    assert not [path for path in document["paths"] if len(path) > 1 and path.endswith("/")]
    schemas = document["components"]["schemas"]
    post = document["paths"]["/penguins/predict"]["post"]
    content = post["requestBody"]["content"]["application/json"]
    assert content["example"] == {
        "bill_length_mm": 39.1,
        "bill_depth_mm": 18.7,
        "flipper_length_mm": 181,
        "body_mass_g": 3750,
    }
    assert content["schema"]["properties"]["bill_length_mm"]["exclusiveMaximum"] == 100
    reply = post["responses"]["200"]["content"]["application/json"]["schema"]
    assert reply["properties"]["prediction"]["items"] == {"type": "integer"}
    digits = document["paths"]["/digits/predict"]["post"]["requestBody"]["content"]
    form = digits["multipart/form-data"]["schema"]
    assert form["required"] == ["image", "model"]
    assert form["properties"]["model"]["enum"] == ["cnn", "clf", "clf.pickle"]
    assert isinstance(schemas, dict)


def test_every_reference_of_the_document_is_there(mounted: TestClient) -> None:
    document = mounted.get("/openapi.json").json()

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if "$ref" in value else []
            return own + [ref for item in value.values() for ref in references(item)]
        if isinstance(value, list):
            return [ref for item in value for ref in references(item)]
        return []

    for reference in references(document):
        at = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


def test_the_examples_of_the_document_are_answered(mounted: TestClient) -> None:
    document = mounted.get("/openapi.json").json()
    for path in ("/digits/predict", "/penguins/predict"):
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        if "example" in content:
            assert mounted.post(path, json=content["example"]).status_code == 200


@pytest.mark.parametrize(
    ("contract", "kind"),
    [({"rows": "one"}, "object"), ({"rows": "many"}, "array"), ({"rows": "either"}, None)],
)
def test_the_body_is_what_the_contract_takes(contract: Any, kind: str | None) -> None:
    schema = body_of(operation(boat(**contract)))["schema"]
    assert schema.get("type") == kind
    if kind is None:
        assert [option["type"] for option in schema["anyOf"]] == ["object", "array"]


def test_a_row_under_a_key_is_shown_under_it() -> None:
    found = operation(boat(rows="one", under="features"))
    assert list(body_of(found)["schema"]["properties"]) == ["features"]
    assert list(body_of(found)["example"]) == ["features"]


def test_an_example_comes_from_the_contract_or_from_the_fields() -> None:
    row = {"age": 22.0, "sex": "male", "port": "S", "deck": "C85", "siblings": 1, "alone": True}
    assert example_of(boat()) == row
    assert example_of(boat(rows="many")) == [row]
    assert example_of(boat(example={"sex": "male"})) == {"sex": "male"}
    assert example_of(load_project("digits")) is None


def test_a_reply_without_types_is_shown_without_a_schema() -> None:
    def untyped(answer):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return {}

    def odd(answer: Answer) -> "NoSuchType":  # type: ignore[name-defined]  # noqa: F821
        return {}

    for reply in (untyped, odd):
        shown = operation(boat(reply=reply)).extra["responses"]["200"]["content"]
        assert shown["application/json"] == {"schema": {}}


def test_the_models_that_may_be_asked_are_listed(tmp_path: Path) -> None:
    (parameter,) = operation(boat(2, models="all")).extra["parameters"]
    assert parameter["schema"]["enum"] == ["m1", "m2"]
    assert parameter["description"].endswith("all of them.")


def test_predictions_list_tables_and_every_refusal(mounted: TestClient) -> None:
    post = mounted.get("/openapi.json").json()["paths"]["/penguins/predict"]["post"]
    tables = {
        "text/csv",
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.arrow.file",
        "application/vnd.apache.parquet",
    }
    assert tables < set(post["requestBody"]["content"])
    assert tables < set(post["responses"]["200"]["content"])
    assert {"401", "403", "408", "413", "422", "429", "503", "504"} < set(post["responses"])


@pytest.mark.parametrize(
    ("opened", "guarded"),
    [(None, ["/docs", "/boats/predict", "/boats/feedback"]), ("predict", ["/boats/feedback"])],
)
def test_the_document_says_what_asks_for_a_key(opened: str | None, guarded: list[str]) -> None:
    paths = ("/health", "/docs", "/boats/predict", "/boats/feedback")
    document: dict[str, Any] = {"paths": {path: {"post": {}} for path in paths}}
    add_keys(document, Rules(projects=("boats",), at_root=False, locked=True, open=opened))
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert schemes["key"]["name"] == "X-Api-Key"
    found = [path for path in paths if "security" in document["paths"][path]["post"]]
    assert found == guarded
    assert document["paths"]["/boats/feedback"]["post"]["security"] == [{"bearer": []}, {"key": []}]


def test_where_no_keys_are_asked_for_the_document_names_none() -> None:
    document: dict[str, Any] = {"paths": {"/boats/predict": {"post": {}}}}
    add_keys(document, Rules(projects=("boats",), at_root=False))
    assert document == {"paths": {"/boats/predict": {"post": {}}}}
