"""True labels from a file, to this home or to a server, and labelled rows as a file."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.cli.conftest import Timonel
from tests.control.live import Live
from timonel.ids import Ids
from timonel.stores.labels import Label

Asked = list[tuple[str, dict[str, str], bytes]]


@pytest.fixture
def live(home: Path) -> Live:
    """A home with 50 answers of the penguins, a third of them labelled."""
    made = Live(home.parent)
    made.traffic(50, labelled=0.3)
    assert made.settings.root == home
    return made


def kept(live: Live) -> list[Label]:
    return list(live.labels.between("penguins", "0", "g"))


def ids_of(live: Live) -> list[str]:
    (segment,) = live.segments.list("penguins")
    file = Path(live.settings.objects_url.removeprefix("file://"), segment.object_key)
    return pl.read_parquet(file)["id"].to_list()


def test_a_table_of_labels_is_kept_once(timonel: Timonel, live: Live) -> None:
    before, ids = len(kept(live)), ids_of(live)
    labelled = {label.prediction for label in kept(live)}
    new = [name for name in ids if name not in labelled][:3]
    Path("truth.csv").write_text("id,label\n" + "".join(f"{name},1\n" for name in [*new, new[0]]))
    for changed in (3, 0):
        ended = timonel("feedback", "penguins", "truth.csv")
        told = f"3 labels of 4 rows are recorded, {changed} of them new or another than before."
        assert (ended.code, ended.out.strip()) == (0, told)
    assert len(kept(live)) == before + 3
    Path("truth.json").write_text(json.dumps([{"id": new[0], "label": 2}]))
    ended = timonel("feedback", "add", "penguins", "truth.json", "--json")
    assert ended.json() == {"received": 1, "recorded": 1, "changed": 1}
    assert {one.prediction: one.label for one in kept(live)}[new[0]] == "2"


def test_one_prediction_is_named_on_the_command_line(timonel: Timonel, live: Live) -> None:
    name = str(Ids()())
    ended = timonel("feedback", "penguins", "--id", f"{name}.4", "--label", 2, "--json")
    assert ended.json() == {"received": 1, "recorded": 1, "changed": 1}
    (found,) = [label for label in kept(live) if label.prediction == name]
    assert (found.row, found.label, found.project) == (4, "2", "penguins")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--id", "x", "--label", "1"], "id: Expected a prediction id, or ID.n"),
        (["--id", str(Ids()()), "--label", "9"], "label: Expected one of 0, 1, 2, got '9'."),
        (["--id", "x"], "Expected a file, or one prediction with its label."),
        (["x.csv", "--id", "x", "--label", "1"], "Expected a file, or one prediction"),
        ([], "Expected a file, or one prediction"),
        (["absent.csv"], "absent.csv: expected a file of labels, got: No such file"),
        (["wrong.csv"], "row 1, label: Expected one of 0, 1, 2, got nothing."),
        (["wrong.csv", "--url", "localhost"], "Expected --url to begin with http://"),
        (["wrong.csv", "--url", "http://127.0.0.1:9"], "expected a server to answer, got: "),
    ],
)
@pytest.mark.usefixtures("live")
def test_what_does_not_fit_is_a_sentence(timonel: Timonel, arguments: list[str], told: str) -> None:
    Path("wrong.csv").write_text(f"id,label\n{Ids()()},1\n{Ids()()},\n")
    ended = timonel("feedback", "penguins", *arguments)
    assert ended.code in (2, 5)
    assert told in ended.err
    assert "Traceback" not in ended.err


def test_without_predictions_there_is_nothing_to_label(timonel: Timonel, home: Path) -> None:
    ended = timonel("feedback", "penguins", "--id", Ids()(), "--label", 1)
    assert (ended.code, "There are no predictions in" in ended.err) == (2, True)
    assert not home.exists()


@contextmanager
def answering(status: int, reply: Any) -> Iterator[tuple[str, Asked]]:
    """A server that answers everything so, and what it was asked."""
    asked: Asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, dict(self.headers), body))
            content = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


def test_a_server_is_told_in_parts_with_the_key(
    timonel: Timonel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{Ids()()},1" for _ in range(10_001)]
    Path("truth.csv").write_text("\n".join(["id,label", *rows]))
    monkeypatch.setitem(os.environ, "TIMONEL_KEY", "tml_secret")
    with answering(202, {"received": 7, "recorded": 5}) as (url, asked):
        ended = timonel("feedback", "penguins", "truth.csv", "--url", f"{url}/")
    assert ended.out.strip() == "10 labels of 14 rows are recorded."
    assert [body.count(b"\n") for _, _, body in asked] == [10_001, 2]
    for path, headers, body in asked:
        assert (path, headers["Content-Type"]) == ("/penguins/feedback", "text/csv")
        assert headers["Authorization"] == "Bearer tml_secret"
        assert body.startswith(b"id,label\r\n")


@pytest.mark.parametrize(
    ("status", "reply", "code", "told"),
    [
        (
            422,
            {"detail": [{"loc": ["body", 3, "id"], "msg": "Expected an id."}]},
            2,
            "answered 422: 3, id: Expected an id.",
        ),
        (401, {"detail": "Expected a valid key, got none."}, 2, "answered 401: Expected a valid"),
        (503, {"detail": "The journal cannot be written."}, 5, "answered 503: The journal"),
        (500, "no", 5, 'answered 500: "no"'),
        (200, "no", 5, "expected a server of Timonel"),
    ],
)
def test_a_servers_refusal_is_told(
    timonel: Timonel, status: int, reply: Any, code: int, told: str
) -> None:
    with answering(status, reply) as (url, asked):
        ended = timonel("feedback", "penguins", "--id", "x", "--label", 1, "--url", url)
    assert (ended.code, told in ended.err) == (code, True), ended.err
    ((_, headers, body),) = asked
    assert (headers["Content-Type"], json.loads(body)) == (
        "application/json",
        {"id": "x", "label": "1"},
    )


def test_labelled_rows_are_written_to_a_file(timonel: Timonel, live: Live) -> None:
    ended = timonel("feedback", "collect", "penguins", "--out", "rows.csv", "--json")
    found = ended.json()
    assert (ended.code, found["rows"], found["unknown"]) == (0, len(kept(live)), 0)
    assert live.objects.exists(found["dataset"])
    frame = pl.read_csv("rows.csv")
    assert frame.height == found["rows"]
    assert frame.schema["species"] == pl.Int64
    assert frame.columns[:2] == ["bill_length_mm", "bill_depth_mm"]
    name = str(Ids(clock_ns=lambda: int(live.clock.now * 1e9))())
    live.labels.put([Label("penguins", name, 0, "1", live.clock.now)])
    ended = timonel(
        "feedback", "collect", "penguins", "--out", "rows.parquet", "--refused", "bad.csv"
    )  # fmt: skip
    assert f"{found['rows']} rows to rows.parquet (dataset {found['dataset']})" in ended.out
    assert "1 labels name no prediction of the journal." in ended.err
    assert pl.read_parquet("rows.parquet").equals(
        frame.cast(pl.read_parquet("rows.parquet").schema)
    )
    assert pl.read_csv("bad.csv").height == 0


def test_only_files_that_can_be_written_are_taken(timonel: Timonel, live: Live) -> None:
    for out, told in (("rows.txt", "….parquet or ….csv"), ("no/rows.csv", "a place to write to")):
        ended = timonel("feedback", "collect", "penguins", "--out", out)
        assert ended.code != 0
        assert told in ended.err
