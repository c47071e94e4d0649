"""A run's life: its steps' cache, its record, and what is told of it."""

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import Home
from timonel.errors import Busy, DataRefused, RunFailed
from timonel.pipeline.runner import Event, Report, Runner, code_of


def runner(home: Home, **options: Any) -> Runner:
    given: dict[str, Any] = {"run_id": "run-1", "tell": home.told.append, **options}
    return Runner("flowers", home.runs, home.objects, who="test", parameters={}, **given)


def test_a_step_with_the_same_inputs_is_taken_from_an_earlier_run(home: Home) -> None:
    with runner(home) as first:
        made = first.step("split", lambda report: {"rows": 3}, depends={"data": "a"})
    with runner(home, run_id="run-2") as second:
        again = second.step("split", lambda report: {"rows": 4}, depends={"data": "a"})
    assert made == again == {"rows": 3}
    assert home.statuses() == {"split": "cached"}


def test_a_step_with_other_inputs_is_done_again(home: Home) -> None:
    with runner(home) as first:
        first.step("split", lambda report: {"rows": 3}, depends={"data": "a"})
        made = first.step("split", lambda report: {"rows": 4}, depends={"data": "b"})
    assert made == {"rows": 4}


def test_a_fresh_run_takes_nothing_from_earlier_ones(home: Home) -> None:
    with runner(home) as first:
        first.step("split", lambda report: {"rows": 3}, depends={"data": "a"})
    with runner(home, run_id="run-2", fresh=True) as second:
        assert second.step("split", lambda report: {"rows": 4}, depends={"data": "a"}) == {
            "rows": 4
        }


def test_an_output_whose_object_is_gone_is_made_again(home: Home) -> None:
    key = home.objects.put(b"rows")
    with runner(home) as first:
        first.step("split", lambda report: {"key": key}, depends={"data": "a"})
    home.objects.delete(key)
    with runner(home, run_id="run-2") as second:
        made = second.step("split", lambda report: {"key": home.objects.put(b"rows")}, depends={})
    assert home.objects.exists(made["key"])


def test_a_failed_step_fails_the_run_and_says_why_in_its_record(home: Home) -> None:
    def act(report: Report) -> dict[str, Any]:
        raise DataRefused("Expected rows, got none.")

    with pytest.raises(DataRefused), runner(home) as run:
        run.step("validate", act)
    record = home.runs.get("run-1")
    assert (record.status, record.reason) == ("failed", "Expected rows, got none.")
    (step,) = home.runs.steps("run-1")
    assert (step.status, step.note) == ("failed", "Expected rows, got none.")


def test_a_fault_in_the_users_code_names_the_file_and_line(home: Home) -> None:
    def act(report: Report) -> dict[str, Any]:
        return {"share": 1 / 0}

    said = r"ZeroDivisionError.*test_runner\.py, line \d+"
    with pytest.raises(RunFailed, match=said), runner(home) as run:
        run.step("train", act)


def test_a_run_that_is_interrupted_ends_as_stopped(home: Home) -> None:
    with pytest.raises(KeyboardInterrupt), runner(home):
        raise KeyboardInterrupt
    assert home.runs.get("run-1").status == "stopped"


def test_a_second_run_of_a_project_is_refused_with_the_first_ones_id(home: Home) -> None:
    with runner(home), pytest.raises(Busy, match="run-1"):
        runner(home, run_id="run-2")


def test_progress_is_told_and_recorded(home: Home) -> None:
    def act(report: Report) -> dict[str, Any]:
        report("half way", 0.5)
        (step,) = home.runs.steps("run-1")
        assert (step.note, step.share) == ("half way", 0.5)
        return {"note": "all done"}

    with runner(home) as run:
        run.step("train", act)
    told = [(event.status, event.note, event.share) for event in home.told if event.kind == "step"]
    assert told == [
        ("running", "", None),
        ("running", "half way", 0.5),
        ("succeeded", "all done", 1.0),
    ]


def test_an_event_is_one_line_of_json() -> None:
    event = Event("run-1", "flowers", "step", "train", "running", "línea\nnueva", 0.5)
    assert "\n" not in event.to_json()
    assert '"share": 0.5' in event.to_json()


def test_the_code_of_a_function_changes_with_its_file(tmp_path: Path) -> None:
    codes = []
    for body in ("return 1", "return 2"):
        path = tmp_path / "recipe.py"
        path.write_text(f"def recipe():\n    {body}\n")
        scope: dict[str, Any] = {}
        exec(compile(path.read_text(), str(path), "exec"), scope)
        codes.append(code_of(scope["recipe"]))
    assert codes[0] != codes[1]


def test_a_run_beats_on_a_thread_of_its_own_and_the_thread_ends_with_it(home: Home) -> None:
    with runner(home):
        assert "timonel-beat" in {thread.name for thread in threading.enumerate()}
    assert "timonel-beat" not in {thread.name for thread in threading.enumerate()}
