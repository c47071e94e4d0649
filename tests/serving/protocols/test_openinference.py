"""The stock Triton client works with us: health, metadata, tensors as JSON and as bytes, errors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from starlette.testclient import TestClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.homes import digit_rows, penguin_rows
from tests.serving.boats import FEMALE, MALE
from timonel.contract import Answer
from timonel.journal.records import Record, read
from timonel.serving.answer import Answerer
from timonel.settings import Settings

ROW = {"bill_length_mm": 20, "bill_depth_mm": 40, "flipper_length_mm": 200, "body_mass_g": 4000}


@pytest.fixture(scope="module")
def stock(address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address) as client:
        yield client


def tensor(name: str, values: Any, *, binary: bool = True) -> Any:
    array = np.asarray(values)
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def penguins(count: int, kind: type = np.float64, *, binary: bool = True) -> list[Any]:
    arrays, _ = penguin_rows(count)
    return [tensor(name, column.astype(kind), binary=binary) for name, column in arrays.items()]


def native(client: TestClient, path: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [client.post(path, json=row).json()["prediction"] for row in rows]


def posted(client: TestClient, tensors: Sequence[Mapping[str, Any]], **more: Any) -> Any:
    body = json.dumps({"inputs": tensors, **more})
    return client.post("/v2/models/penguins/infer", content=body)


def row_tensors(**changed: Any) -> list[dict[str, Any]]:
    """A penguin as tensors, with changes to the one of its body mass."""
    tensors: list[dict[str, Any]] = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
        for name, value in ROW.items()
    ]
    tensors[-1] |= changed
    return tensors


def test_health_and_the_servers_metadata(stock: Any) -> None:
    assert stock.is_server_live()
    assert stock.is_server_ready()
    assert stock.is_model_ready("penguins")
    assert stock.is_model_ready("penguins", "3")
    assert not stock.is_model_ready("penguins", "2")
    assert not stock.is_model_ready("cats")
    metadata = stock.get_server_metadata()
    assert metadata["name"] == "timonel"
    assert "binary_tensor_data" in metadata["extensions"]


def test_a_models_metadata_follows_from_its_columns_and_its_version(stock: Any) -> None:
    found = stock.get_model_metadata("boat/m2")
    assert (found["name"], found["versions"]) == ("boat/m2", ["1"])
    assert {i["name"]: (i["datatype"], i["shape"]) for i in found["inputs"]} == {
        "age": ("FP64", [-1]),
        "sex": ("BYTES", [-1]),
        "port": ("BYTES", [-1]),
        "deck": ("BYTES", [-1]),
        "siblings": ("FP64", [-1]),  # it may be missing, which only a float can say
        "alone": ("BOOL", [-1]),
    }
    prediction, probabilities = found["outputs"]
    assert (prediction["datatype"], prediction["shape"]) == ("BYTES", [-1])
    assert (probabilities["datatype"], probabilities["shape"]) == ("FP32", [-1, 2])
    assert probabilities["parameters"]["labels"] == ["drowned", "saved"]
    digits = stock.get_model_metadata("digits", "1")
    assert digits["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 784]}]
    assert digits["outputs"][0]["datatype"] == "INT64"


@pytest.mark.parametrize("name", ["digits", "digits/cnn", "digits.cnn", "digits/clf.pickle"])
def test_a_model_has_its_projects_name_or_its_own_behind_a_slash_or_a_dot(
    name: str, stock: Any
) -> None:
    assert stock.is_model_ready(name)
    assert stock.get_model_metadata(name)["name"] == name
    pixels = digit_rows()[0][:2].astype(np.float32)
    result = stock.infer(name, [tensor("pixels", pixels)])
    assert result.get_response()["model_name"] == name


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_several_rows_are_answered_as_the_native_protocol_answers_each(
    kind: type, binary: bool, stock: Any, client: TestClient
) -> None:
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary)
        for name in ("prediction", "probabilities")
    ]
    result = stock.infer(
        "penguins", penguins(50, kind, binary=binary), outputs=outputs, request_id="seven"
    )
    arrays, _ = penguin_rows(50)
    rows = [
        dict(zip(arrays, map(float, row), strict=True))
        for row in zip(*arrays.values(), strict=True)
    ]
    expected = [answer[0] for answer in native(client, "/penguins/predict", rows)]
    labels, scores = result.as_numpy("prediction"), result.as_numpy("probabilities")
    assert labels.tolist() == expected
    assert (labels.dtype, scores.dtype, scores.shape) == (np.int64, np.float32, (50, 3))
    assert scores.argmax(axis=1).tolist() == expected
    response = result.get_response()
    assert (response["id"], response["model_version"]) == ("seven", "3")
    assert "data" in response["outputs"][0] or binary


@pytest.mark.parametrize("shape", [(-1, 784), (-1, 28, 28), (-1, 1, 28, 28)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.int64])
def test_pictures_come_in_any_shape_and_number(
    kind: type, shape: tuple[int, ...], stock: Any, client: TestClient
) -> None:
    pixels = digit_rows()[0][:20]
    expected = native(client, "/digits/predict", [{"pixels": row.tolist()} for row in pixels])
    for binary in (True, False):
        sent = tensor("pixels", pixels.astype(kind).reshape(shape), binary=binary)
        assert stock.infer("digits", [sent]).as_numpy("prediction").tolist() == expected


def test_pictures_of_0_to_1_mean_the_same_as_those_of_0_to_255(stock: Any) -> None:
    pixels = digit_rows()[0][:20].astype(np.float32)
    first, second = (
        stock.infer("digits", [tensor("image", values)]).as_numpy("probabilities")
        for values in (pixels, pixels / 255)
    )
    assert np.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_texts_and_truths_are_taken_and_given(binary: bool, stock: Any) -> None:
    rows = [MALE, FEMALE, MALE]
    inputs = []
    for name in MALE:
        values = [row[name] for row in rows]
        array = np.array(values, dtype=object if isinstance(values[0], str) else None)
        inputs.append(tensor(name, array.reshape(3, 1), binary=binary))
    result = stock.infer("boat", inputs)
    assert result.as_numpy("prediction").tolist() == [b"drowned", b"saved", b"drowned"]


def test_what_is_missing_is_nan_or_an_empty_text(
    stock: Any, client: TestClient, home_of_three: Settings
) -> None:
    age, siblings = np.array([np.nan]), np.array([np.nan], np.float32)
    result = stock.infer(
        "boat/m2",
        [
            tensor("age", age),
            tensor("sex", np.array(["female"], object)),
            tensor("port", np.array([""], object)),
            tensor("siblings", siblings, binary=False),
        ],
        outputs=[triton.InferRequestedOutput("prediction")],
    )
    assert result.as_numpy("prediction").tolist() == [b"saved"]
    asked = client.post("/boat/predict?model=m2", json={"sex": "female"})
    # Both are in the journal, alike but for the way they came.
    records = journal_of(home_of_three, "boat")
    assert records[-1].rows == records[-2].rows == [(None, "female", None, "", None, False)]
    assert (records[-2].via, records[-1].via) == ("v2", "json")
    assert asked.json()["prediction"] == "saved"
    prediction_id = result.get_response()["parameters"]["prediction_id"]
    assert records[-2].id.hex() == prediction_id.replace("-", "")


def journal_of(settings: Settings, project: str) -> list[Record]:
    return [
        item
        for file in settings.journal_folder.iterdir()
        for item in read(file)
        if isinstance(item, Record) and item.project == project
    ]


def test_only_the_outputs_asked_for_come_back_each_as_asked(stock: Any) -> None:
    result = stock.infer(
        "penguins",
        penguins(2),
        outputs=[
            triton.InferRequestedOutput("probabilities", binary_data=True),
            triton.InferRequestedOutput("prediction", binary_data=False),
        ],
    )
    assert [o["name"] for o in result.get_response()["outputs"]] == ["probabilities", "prediction"]
    assert result.as_numpy("probabilities").shape == (2, 3)
    assert result.as_numpy("prediction").shape == (2,)
    alone = stock.infer(
        "penguins", penguins(2), outputs=[triton.InferRequestedOutput("prediction")]
    )
    assert alone.as_numpy("probabilities") is None


def test_a_body_of_json_alone_is_answered_in_json(client: TestClient) -> None:
    reply = posted(client, row_tensors())
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-model-version"] == "penguins/rf@3"
    body = reply.json()
    assert "id" not in body
    assert [(o["name"], o["shape"]) for o in body["outputs"]] == [
        ("prediction", [1]),
        ("probabilities", [1, 3]),
    ]
    assert body["outputs"][0]["data"] == [0]


def test_a_path_may_end_in_a_slash(client: TestClient) -> None:
    for path in ("", "/health/live", "/health/ready", "/models/penguins", "/models/digits/cnn"):
        assert client.get(f"/v2{path}/").json() == client.get(f"/v2{path}").json()
    for path in ("/ready", "/versions/3", "/versions/3/ready"):
        assert client.get(f"/v2/models/penguins{path}/").status_code == 200
    for path in ("/infer", "/versions/3/infer"):
        reply = client.post(f"/v2/models/penguins{path}/", json={"inputs": row_tensors()})
        assert reply.json()["outputs"][0]["data"] == [0]


def test_no_rows_are_answered_with_none(stock: Any) -> None:
    for binary in (True, False):
        result = stock.infer("penguins", penguins(0, binary=binary))
        assert result.as_numpy("prediction").tolist() == []
        assert result.as_numpy("probabilities").shape == (0, 3)
    empty = stock.infer("digits", [tensor("pixels", np.zeros((0, 784), np.float32))])
    assert empty.as_numpy("prediction").tolist() == []


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
def test_requests_may_be_packed(packed: str, stock: Any) -> None:
    result = stock.infer("penguins", penguins(5), request_compression_algorithm=packed)
    assert result.as_numpy("prediction").shape == (5,)


def test_a_version_that_serves_may_be_named_and_another_may_not(stock: Any) -> None:
    assert stock.infer("penguins", penguins(1), model_version="3").as_numpy("prediction").size == 1
    for version in ("2", "4", "latest"):
        with pytest.raises(InferenceServerException) as refused:
            stock.infer("penguins", penguins(1), model_version=version)
        assert refused.value.status() == "404"
        assert refused.value.message() == (
            f"penguins/rf does not serve version '{version}'; version 3 answers."
        )
        with pytest.raises(InferenceServerException):
            stock.get_model_metadata("penguins", version)


def test_an_answer_of_another_version_than_the_named_one_is_not_given(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Answerer.answer

    async def later(self: Answerer, *given: Any, **more: Any) -> Any:
        found, headers = await answer(self, *given, **more)
        kept = {name: getattr(found, name) for name in Answer.__annotations__}
        return Answer(**{**kept, "versions": {"rf": "penguins/rf@4"}}), headers

    monkeypatch.setattr(Answerer, "answer", later)
    body = {"inputs": row_tensors()}
    assert client.post("/v2/models/penguins/infer", json=body).json()["model_version"] == "4"
    reply = client.post("/v2/models/penguins/versions/3/infer", json=body)
    assert reply.status_code == 409
    assert reply.json()["error"].startswith("rf version 3 was replaced by 4 meanwhile.")


@pytest.mark.parametrize(
    ("inputs", "status", "told"),
    [
        (lambda: [tensor("body_mass_g", np.array([-1.0]))], "422", "body_mass_g: Input should be"),
        (lambda: penguins(3)[:3], "422", "row 0, body_mass_g: Field required; row 1"),
        (lambda: penguins(1_001), "413", "Expected at most 1000 rows in a request, got 1001."),
        (
            lambda: [*penguins(2)[:3], tensor("body_mass_g", np.array([1.0]))],
            "400",
            "as many rows, got 2 in 'bill_length_mm' and 1 in 'body_mass_g'.",
        ),
        (
            lambda: [tensor("body_mass_g", np.ones((2, 2)))],
            "400",
            "Input 'body_mass_g': expected shape [n] or [n, 1], got [2, 2]. Send one input a col",
        ),
    ],
    ids=["out of range", "missing", "too many", "uneven", "a matrix"],
)
def test_a_refusal_raises_the_clients_error_with_our_sentence(
    inputs: Any, status: str, told: str, stock: Any
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        stock.infer("penguins", inputs())
    assert refused.value.status() == status
    assert told in refused.value.message()


def test_an_unknown_model_or_path_raises_the_clients_error(stock: Any) -> None:
    for name in ("cats", "digits/svm", "digits/cnn/more", ".", "../v2", "penguins//"):
        with pytest.raises(InferenceServerException) as refused:
            stock.infer(name, penguins(1))
        assert refused.value.status() == "404"
        assert "expected one of: " in refused.value.message()
    with pytest.raises(InferenceServerException, match="There is nothing at /v2/logging"):
        stock.get_log_settings()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown output": (
        {"outputs": [{"name": "embedding"}]},
        "There is no output 'embedding'; expected prediction or probabilities.",
    ),
    "classification": (
        {"outputs": [{"name": "prediction", "parameters": {"classification": 3}}]},
        "neither classification nor shared memory is offered. Ask for the output 'probabilities'",
    ),
    "outputs that are no list": ({"outputs": "prediction"}, "outputs: Input should be a valid"),
    "an id that is no text": ({"id": {}}, "id: Input should be a valid string"),
    "no inputs": ({"inputs": []}, "inputs: List should have at least 1 item"),
    "inputs that are no list": ({"inputs": {}}, "inputs: Input should be a valid"),
    "the same input twice": ({"inputs": row_tensors()[:1] * 2}, "Expected each input once, got"),
}
BAD_TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "fewer values than the shape": ({"shape": [2, 1]}, "as many rows"),
    "more values than the shape": ({"data": [1, 2]}, "'body_mass_g': expected 1 values for shape"),
    "a shape of nothing": ({"shape": []}, "inputs.3.shape: List should have at least 1 item"),
    "a negative shape": ({"shape": [-1]}, "inputs.3.shape.0: Input should be greater"),
    "a broken shape": ({"shape": [1.5]}, "inputs.3.shape.0: Input should be a valid integer"),
    "a huge shape": ({"shape": [2**41]}, "inputs.3.shape.0: Input should be less"),
    "an unknown datatype": ({"datatype": "BF16"}, "inputs.3.datatype: Input should be"),
    "no data": ({"data": None}, "expected 'data' to be a list, or a parameter 'binary_data_size'"),
    "data that is no list": ({"data": 5}, "expected 'data' to be a list"),
    "bytes that are not there": (
        {"parameters": {"binary_data_size": 8}},
        "Expected 8 bytes of tensors after the JSON part",
    ),
    "a negative size": ({"parameters": {"binary_data_size": -8}}, "binary_data_size: Input sho"),
    "a shape of 100 dimensions": ({"shape": [1] * 99 + [2]}, "expected shape [n] or [n, 1]"),
    "shared memory": (
        {"parameters": {"shared_memory_region": "x"}},
        "expected it in the body, not in shared memory.",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_request_that_does_not_hold_together_is_refused(name: str, client: TestClient) -> None:
    more, told = BAD[name]
    reply = client.post("/v2/models/penguins/infer", json={"inputs": row_tensors(), **more})
    assert 400 <= reply.status_code < 500
    assert told in reply.json()["error"]


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_a_tensor_that_does_not_hold_together_is_refused(name: str, client: TestClient) -> None:
    changed, told = BAD_TENSORS[name]
    reply = posted(client, row_tensors(**changed))
    assert 400 <= reply.status_code < 500
    assert told in reply.json()["error"]


@pytest.mark.parametrize("length", ["-1", "many", "99999", "9" * 40, "²", "", "1"])
def test_a_length_of_the_json_part_that_is_none_is_refused(length: str, client: TestClient) -> None:
    reply = client.post(
        "/v2/models/penguins/infer",
        content=json.dumps({"inputs": row_tensors()}),
        headers={b"Inference-Header-Content-Length": length.encode("latin-1")},
    )
    assert reply.status_code in {400, 422}
    assert len(reply.json()["error"].split()) > 3


def test_requests_are_counted_with_all_others(client: TestClient) -> None:
    def counted(status: int) -> float:
        label = f'timonel_requests_total{{project="penguins",status="{status}"}} '
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(label)) for line in lines if line.startswith(label))

    before = counted(200), counted(422)
    assert posted(client, row_tensors()).status_code == 200
    assert posted(client, row_tensors(data=[-1])).status_code == 422
    assert (counted(200), counted(422)) == (before[0] + 1, before[1] + 1)
