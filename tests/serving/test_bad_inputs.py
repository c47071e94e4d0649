"""Bad input through every way in: a 4xx with a sentence, never a traceback."""

import io
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serving.bad_inputs import BODIES, FORMS, PENGUINS, REQUESTS, BadBody, BadForm, values
from timonel.cli.main import main
from timonel.errors import TimonelError
from timonel.serving.local import LocalModel, load
from timonel.settings import Settings

ROW = {"bill_length_mm": 20, "bill_depth_mm": 40, "flipper_length_mm": 200, "body_mass_g": 4000}


def named(bad: Any) -> str:
    return str(getattr(bad, "name", bad))


def is_refusal(reply: Any) -> bool:
    """Whether the reply's body says in words what is wrong."""
    body = reply.json()
    said = body.get("error") or body["detail"]
    sentence = said if isinstance(said, str) else said[0]["msg"]
    return len(sentence.split()) >= 2


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Any:
    """No refusal is an error of the server's."""
    with caplog.at_level(logging.WARNING):
        yield
    assert not caplog.records


@pytest.mark.parametrize("bad", BODIES, ids=named)
def test_a_bad_body_is_refused_at_the_root_and_mounted(
    bad: BadBody, rooted: dict[str, TestClient], mounted: TestClient
) -> None:
    for client, path in ((rooted["digits"], "/predict"), (mounted, "/digits/predict/")):
        reply = client.post(path, content=bad.body, headers={"Content-Type": bad.kind})
        assert reply.status_code in bad.statuses, reply.text[:500]
        assert is_refusal(reply)
        assert len(reply.content) < 10_000


@pytest.mark.parametrize("bad", PENGUINS, ids=named)
def test_a_bad_row_is_refused_at_the_root_and_mounted(
    bad: BadBody, rooted: dict[str, TestClient], mounted: TestClient
) -> None:
    for client, path in ((rooted["penguins"], "/predict/"), (mounted, "/penguins/predict")):
        reply = client.post(path, content=bad.body, headers={"Content-Type": bad.kind})
        assert reply.status_code in bad.statuses, reply.text[:500]
        assert is_refusal(reply)
        assert client.post(path, json=ROW).json() == {"prediction": [0]}


@pytest.mark.parametrize("bad", FORMS, ids=named)
def test_a_bad_form_is_refused_at_the_root_and_mounted(
    bad: BadForm, rooted: dict[str, TestClient], mounted: TestClient
) -> None:
    body, kind = bad.encoded()
    for client, path in ((rooted["digits"], "/predict/"), (mounted, "/digits/predict")):
        reply = client.post(path, content=body, headers={"Content-Type": kind})
        assert reply.status_code in bad.statuses, reply.text[:500]
        assert is_refusal(reply)
        content = reply.json()
        assert "prediction" not in content
        assert content["status_code"] == reply.status_code
        assert len(content["query_id"]) == 36
        assert content["execution_time"].endswith(" seg")


@pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
def test_a_bad_request_is_refused(method: str, path: str, status: int, mounted: TestClient) -> None:
    reply = mounted.request(method, path, follow_redirects=False)
    assert reply.status_code == status
    if method != "HEAD":
        assert is_refusal(reply)
    if status == 405:
        assert reply.headers["allow"]


@pytest.mark.parametrize("model", ["svm", "../cnn", "", "%00", "%ED%A0%80", "m" * 5_000])
def test_a_model_that_there_is_not_is_refused_naming_those_there_are(
    model: str, mounted: TestClient
) -> None:
    reply = mounted.post(f"/penguins/predict?model={model}", json=ROW)
    assert reply.status_code == 404
    assert reply.json()["detail"].endswith("expected one of: rf.")


def test_a_body_in_chunks_is_given_up_at_the_limit(mounted: TestClient) -> None:
    sent = 0

    def chunks() -> Any:
        nonlocal sent
        for _ in range(400):
            sent += 50_000
            yield b" " * 50_000

    reply = mounted.post("/penguins/predict", content=chunks())
    assert reply.status_code == 413
    assert reply.json()["detail"].startswith("Expected a body of at most 8,000,000 bytes, got")


def test_of_a_key_that_comes_twice_the_last_one_counts(mounted: TestClient) -> None:
    body = b'{"body_mass_g": "x", "bill_length_mm": 20, "bill_depth_mm": 40,'
    body += b' "flipper_length_mm": 200, "body_mass_g": 4000}'
    assert mounted.post("/penguins/predict", content=body).json() == {"prediction": [0]}


def test_a_picture_for_a_project_without_pictures_is_refused(mounted: TestClient) -> None:
    reply = mounted.post("/penguins/predict", files={"image": b"x"})
    assert reply.status_code == 415
    assert reply.json()["detail"].endswith("expected a JSON body.")


def test_the_form_of_a_content_type_does_not_depend_on_its_case(mounted: TestClient) -> None:
    body, kind = FORMS[0].encoded()
    reply = mounted.post(
        "/digits/predict",
        content=body,
        headers={"Content-Type": kind.replace("multipart/form-data", "Multipart/Form-Data")},
    )
    assert reply.status_code == 422
    assert "picture" in reply.json()["error"]


# Of penguins the command line takes lists.
@pytest.mark.parametrize(
    "bad", [*BODIES, *(bad for bad in PENGUINS if "list of rows" not in bad.name)], ids=named
)
def test_a_bad_row_on_the_command_line_is_a_sentence_and_an_exit_code(
    bad: BadBody, home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    project = "penguins" if bad in PENGUINS else "digits"
    monkeypatch.setenv("TIMONEL_HOME", str(home.root))
    monkeypatch.setattr(sys, "argv", ["timonel", "predict", project, "-"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bad.body), encoding="utf-8"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in {2, 3}
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert len(said.split()) >= 4
    assert "Traceback" not in said


@pytest.mark.parametrize("bad", FORMS[:15], ids=named)
def test_a_bad_picture_on_the_command_line_is_a_sentence_and_an_exit_code(
    bad: BadForm, home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(bad.parts["image"][1])
    monkeypatch.setenv("TIMONEL_HOME", str(home.root))
    monkeypatch.setattr(sys, "argv", ["timonel", "predict", "digits", "--image", str(file)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("Error: Expected ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["digits"],
        ["digits", "--image", "/nowhere.png"],
        ["digits", "--image", "/"],
        ["digits/svm", "[]"],
        ["digits@9", "[]"],
        ["digits@9999999999999999999999999", "[]"],
        ["digits@two", "[]"],
        ["digits@²", "[]"],
        ["cats", "[]"],
        ["../digits", "[]"],
        ["../../etc/passwd", "[]"],
        ["digits/../cnn", "[]"],
        ["digits", "[]", "--image", "x.png"],
    ],
    ids=" ".join,
)
def test_bad_arguments_are_a_sentence_and_an_exit_code(
    arguments: list[str], home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("TIMONEL_HOME", str(home.root))
    monkeypatch.setattr(sys, "argv", ["timonel", "predict", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in {2, 7}
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.fixture(scope="module")
def digits(home: Settings) -> LocalModel:
    return load("digits", home)


@pytest.mark.parametrize(("name", "value"), values(), ids=[name for name, _ in values()])
def test_a_bad_value_from_python_is_a_refusal(name: str, value: Any, digits: LocalModel) -> None:
    with pytest.raises(TimonelError) as refused:
        digits.predict(value)
    assert 400 <= refused.value.status < 500
    assert len(str(refused.value).split()) >= 3
