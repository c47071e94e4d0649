"""`timonel simulate` says what it lacks, and shows what happens as lines or as JSON."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Timonel
from tests.homes import deploy, home_at
from tests.serving.processes import Server, serving
from timonel.cli.simulate import _line, _progress
from timonel.project import load_project
from timonel.simulate.timeline import Moment
from timonel.simulate.traffic import Counts


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = home_at(tmp_path_factory.mktemp("served"), controller=False)
    deploy(load_project("penguins"), settings)
    with serving(["penguins"], settings, workers=1) as server:
        yield server


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Expected a server on the home"),
        (("--bad-challenger",), "Expected --yes"),
        (("--bad-challenger", "--home", "x", "--serve"), "Expected --yes"),
        (("--bad-challenger", "--slow-challenger"), "got bad and slow"),
        (("--url", "http://example.org"), "on this machine"),
        (("--url", "http://127.0.0.1:1", "--serve"), "got both"),
        (("--drift", "--kind", "rotation", "--url", "http://127.0.0.1:1"), "got rotation"),
        (("--model", "tree", "--url", "http://127.0.0.1:1"), "no model 'tree'"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    timonel: Timonel, options: tuple[str, ...], said: str
) -> None:
    ended = timonel("simulate", "penguins", *options)
    assert ended.code > 0
    assert said in ended.err


def test_a_simulation_of_a_running_server_as_json(timonel: Timonel, server: Server) -> None:
    ended = timonel(
        *("simulate", "penguins", "--home", server.settings.home, "--requests", 60),
        *("--rate", 200, "--drift", "--after", 0.5, "--labels", 1, "--json"),
    )
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 0
    assert [line["stage"] for line in lines if line["kind"] == "moment"] == ["drift"]
    assert (lines[-1]["kind"], lines[-1]["requests"], lines[-1]["labels"]) == ("summary", 60, 60)
    assert lines[-1]["versions"] == {"penguins/rf@1": 60}
    assert list(lines[-1]["stages"]) == ["drift"]


def test_failed_requests_are_an_exit_code(timonel: Timonel, tmp_path: Path) -> None:
    ended = timonel("simulate", "penguins", "--url", "http://127.0.0.1:9", "--requests", 3)
    assert ended.code == 1
    assert "3 ×  ConnectionRefusedError" in ended.err
    assert "failed\t3" in ended.out


def test_lines_for_those_who_watch() -> None:
    moment = Moment(12.34, "alarm", "penguins/rf", "It drifts.")
    assert _line(moment) == "   12.3 s  alarm: penguins/rf. It drifts."
    counts = Counts(1_200, 1_199, 7, 10.0, {"a@1": 900, "a@2": 299}, {"503": 1})
    assert _progress(counts) == (
        "   10.0 s  1,200 requests (120/s), 1 failed, 7 labels; a@2 299, a@1 900"
    )
    assert _progress(Counts()).endswith("no answer yet")
