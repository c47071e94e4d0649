"""The bench of servers: what becomes of its figures, from results that are made up."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bench.serving import report
from bench.serving.load import parse
from bench.serving.processes import Tree
from bench.serving.servers import SERVERS


def load(rate: float, p50: float, p99: float) -> dict[str, float]:
    return {
        "requests": rate * 8,
        "failed": 0,
        "req_s": rate,
        "p50_ms": p50,
        "p99_ms": p99,
        "cpu_us": 60.0,
        "cores": 1.0,
    }


def run(number: int, project: str, server: str, rate: float, p99: float = 3.0) -> dict[str, Any]:
    return {
        "round": number,
        "project": project,
        "server": server,
        "error": None,
        "start_s": 0.5 + number,
        "pss_mib": 120.0,
        "processes": 3,
        "largest_child_mib": 60.0,
        "load": {"1": load(rate / 4, 0.2, 0.4), "32": load(rate, 1.2, p99)},
    }


@pytest.fixture
def results() -> dict[str, Any]:
    runs = [run(n, "penguins", "timonel", rate) for n, rate in enumerate((17_000, 90_000, 18_000))]
    runs += [run(n, "penguins", "handtuned", 20_000, p99=1.5) for n in range(3)]
    runs += [run(n, "penguins", "noop", 36_000) for n in range(3)]
    runs += [run(n, "penguins", "fastapi", 100) for n in range(3)]
    runs += [run(n, "penguins", "fastapi-async", 200) for n in range(3)]
    runs += [run(0, "digits", "timonel", 6_000)]
    names = ("timonel", "noop", "handtuned", "fastapi", "fastapi-async")
    return {
        "date": "2026-01-02",
        "machine": {
            "cores": 2,
            "cpu": "a processor",
            "memory_gib": 8,
            "system": "Linux 6",
            "python": "3.11.7",
            "wrk": "wrk 4.1.0",
            "busy": 0.1,
            "grouping": "off",
        },
        "settings": {"seconds": 8.0, "rounds": 3, "connections": [1, 32], "payloads": 100},
        "servers": {
            name: {
                "title": SERVERS[name].title,
                "setup": SERVERS[name].setup,
                "versions": {"uvicorn": "0.1"},
            }
            for name in names
        },
        "first": {
            "first_answer_s": 1.5,
            "worker_mib": 66.0,
            "import_s": 0.02,
            "help_s": 0.2,
            "rounds": 5,
        },
        "runs": runs,
    }


def figures(results: dict[str, Any]) -> dict[tuple[str, tuple[str, ...], str], Any]:
    rows = report.ratios(results)
    return {(goal.kind, goal.peers, project): (figure, met) for goal, project, figure, met in rows}


def test_the_middle_of_the_rounds_counts(results: dict[str, Any]) -> None:
    middle = report.medians(results)["penguins"]["timonel"]
    assert middle["load"]["32"]["req_s"] == 18_000
    assert middle["start_s"] == 1.5
    assert middle["rounds"] == 3


def test_failed_replies_are_summed_over_the_rounds(results: dict[str, Any]) -> None:
    results["runs"][0]["load"]["32"]["failed"] = 2
    results["runs"][1]["load"]["32"]["failed"] = 5
    assert report.medians(results)["penguins"]["timonel"]["load"]["32"]["failed"] == 7
    assert "**Timonel** 7" in report.page(results)


def test_a_ratio_is_ours_divided_by_the_better_of_the_peers_ways(results: dict[str, Any]) -> None:
    found = figures(results)
    assert found["ratio", ("handtuned",), "penguins"] == (0.9, True)
    assert found["ratio", ("fastapi", "fastapi-async"), "penguins"] == (90, True)
    assert found["latency", ("handtuned",), "penguins"] == (1, True)
    assert found["p99", ("handtuned",), "penguins"] == (2, False)


def test_the_no_op_of_short_rows_is_the_floor_of_all_projects(results: dict[str, Any]) -> None:
    figure, met = figures(results)["ratio", ("noop",), "digits"]
    assert figure == pytest.approx(1 / 6)
    assert not met


def test_what_was_not_measured_is_neither_met_nor_below(results: dict[str, Any]) -> None:
    assert figures(results)["ratio", ("mlflow",), "penguins"] == (None, False)
    assert "Not measured in this run: hand-tuned (digits)," in report.page(results)
    assert "mlflow (penguins), mlflow (digits)" in report.page(results)


def test_the_page_says_what_is_below_its_goal_and_by_how_much(results: dict[str, Any]) -> None:
    page = report.page(results)
    row = "| hand-tuned | 99th percentile | penguins | 2.00 × | ≤ 1.5 × | **missed** |"
    assert row in page
    assert "- penguins, 99th percentile against hand-tuned: 2.00 ×, 33% above the goal" in page
    assert "| from process start to the first right answer | 1.50 s | ≤ 1.20 s | **missed**" in page
    assert "on 2026-01-02" in page
    assert "uvicorn 0.1" in page


def test_a_run_that_failed_is_left_out_and_named(results: dict[str, Any]) -> None:
    failed = {"round": 1, "project": "penguins", "server": "noop", "error": "it ended"}
    results["runs"] = [
        failed if (r["server"], r["round"]) == ("noop", 1) else r for r in results["runs"]
    ]
    assert report.medians(results)["penguins"]["noop"]["rounds"] == 2
    assert "no-op route failed in a round of penguins" in report.page(results)
    assert "it ended" in report.line(failed)


def test_wrk_is_read_from_the_line_of_json_that_our_script_prints() -> None:
    output = (
        "Running 1s test\n"
        '{"requests":1000,"microseconds":2000000,"connect":0,"read":1,"write":0,"status":4,'
        '"timeout":2,"p50":150.0,"p99":1234.0}\n'
    )
    found = parse(output)
    assert found["failed"] == 7
    assert found["req_s"] == 498
    assert (found["p50_ms"], found["p99_ms"]) == (0.15, 1.234)
    with pytest.raises(ValueError, match=r"rotate\.lua"):
        parse("unable to connect")


@pytest.mark.parametrize("name", SERVERS)
def test_a_payload_is_one_line_and_a_right_reply_is_understood(name: str) -> None:
    row = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7}
    assert b"39.1" in SERVERS[name].payload("penguins", row)
    assert b"\n" not in SERVERS[name].payload("digits", [0] * 784)
    replies: dict[str, Any] = {
        "mlflow": {"predictions": [2]},
        "bentoml": [2],
        "mlserver": {"outputs": [{"data": [2]}]},
        "vetiver": {"predict": [2]},
    }
    assert SERVERS[name].label("penguins", replies.get(name, {"prediction": [2]})) == 2


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux has /proc")
def test_a_server_is_stopped_with_what_it_detached(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], "
        "start_new_session=True); print(p.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    tree = Tree([sys.executable, "-c", code], os.environ, log, tmp_path)
    try:
        deadline = time.monotonic() + 30
        while not log.read_text().strip() and time.monotonic() < deadline:
            time.sleep(0.01)
        detached = int(log.read_text())
        assert detached in tree.members()
        assert tree.memory()
        assert tree.cpu() >= 0
    finally:
        tree.stop(patience=5)
    assert not tree.running
    assert tree.members() == []
    alive = subprocess.run(["kill", "-0", str(detached)], capture_output=True, check=False)
    assert alive.returncode or _zombie(detached)


def _zombie(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
