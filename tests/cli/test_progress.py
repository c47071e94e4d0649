"""How a run shows itself."""

import io
import json
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from timonel.cli.progress import Bars, Lines, showing
from timonel.pipeline.runner import Event


def event(**changes: Any) -> Event:
    given: dict[str, Any] = {
        "run": "run-1",
        "project": "penguins",
        "kind": "step",
        "name": "train/rf",
        "status": "running",
    }
    return Event(**(given | changes))


EVENTS = [
    event(kind="run", name="run"),
    event(),
    event(note="trial 1 of 9", share=0.1),
    event(kind="note", note="MNIST could not be [reached]."),
    event(status="succeeded", note="best [0.97]", share=1.0),
    event(name="register/rf", status="failed", note="MLflow is away"),
    event(kind="run", name="run", status="failed", note="MLflow is away"),
]


def test_lines_tell_beginnings_and_endings_and_skip_the_quick_steps_between() -> None:
    said: list[str] = []
    lines = Lines("penguins: ", said.append, timer=lambda: 10.0)
    for item in EVENTS:
        lines(item)
    assert said == [
        "penguins: run run-1 of penguins",
        "penguins: train/rf: …",
        "penguins: MNIST could not be [reached].",
        "penguins: train/rf: succeeded (best [0.97])",
        "penguins: register/rf: failed (MLflow is away)",
        "penguins: run: failed (MLflow is away)",
    ]


def test_lines_tell_how_far_a_long_step_is_now_and_then() -> None:
    said: list[str] = []
    clock = iter([10.0, 11.0, 20.0])
    lines = Lines("", said.append, timer=lambda: next(clock))
    for item in (event(), event(note="early", share=0.1), event(note="later", share=0.5)):
        lines(item)
    assert said == ["train/rf: …", "train/rf: 50% later"]


def test_bars_show_every_step_and_print_notes_as_they_are() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=False, width=200)
    columns = (TextColumn("{task.description}"), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console) as progress:
        bars = Bars(progress, "")
        for item in EVENTS:
            bars(item)
    text = output.getvalue()
    assert "MNIST could not be [reached]." in text
    assert "best [0.97]" in text
    assert "run run-1: failed. MLflow is away" in text


def test_json_is_one_event_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with showing(as_json=True) as tell:
        for item in EVENTS:
            tell(item)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["status"] for line in lines] == [item.status for item in EVENTS]


def test_what_is_not_a_terminal_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with showing(as_json=False) as tell:
        tell(EVENTS[0])
    assert capsys.readouterr().out == "run run-1 of penguins\n"
