"""What commands print is for a person on a terminal, and plain for everything else."""

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from timonel.cli.output import emit, fail, settings, table
from timonel.errors import NotFound, StoreError, TimonelError

ROWS: list[list[object]] = [["penguins/rf@3", 0.9851], ["digits/cnn@0", "–"]]


class Terminal(io.StringIO):
    """A terminal as Rich sees one."""

    def isatty(self) -> bool:
        return True


def test_a_table_is_tab_separated_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    table("versions", ["version", "accuracy"], ROWS)
    assert capsys.readouterr().out == (
        "version\taccuracy\npenguins/rf@3\t0.9851\ndigits/cnn@0\t–\n"
    )


def test_a_table_has_a_title_and_all_cells_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    table("versions", ["version", "accuracy"], ROWS)
    shown = terminal.getvalue()
    for text in ("versions", "version", "penguins/rf@3", "0.9851", "digits/cnn@0"):
        assert text in shown


@hypothesis(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_a_document_is_one_line_that_reads_back(
    capsys: pytest.CaptureFixture[str], value: object
) -> None:
    capsys.readouterr()
    emit({"value": value})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"value": value}


def test_what_json_does_not_know_is_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"path": Path("a/b")})
    assert json.loads(capsys.readouterr().out) == {"path": "a/b"}


@pytest.mark.parametrize("error", [NotFound("No such.", remedy="Make it."), StoreError("Full.")])
def test_a_failure_says_what_and_what_to_do_and_ends_with_its_code(
    capsys: pytest.CaptureFixture[str], error: TimonelError
) -> None:
    with pytest.raises(SystemExit) as ended:
        fail(error)
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (error.exit_code, "")
    assert printed.err == f"Error: {error.message}\n" + (f"{error.remedy}\n" * bool(error.remedy))

    with pytest.raises(SystemExit):
        fail(error, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "error": error.message, "remedy": error.remedy, "kind": type(error).__name__
    }  # fmt: skip


def test_options_override_the_environment_and_what_was_not_given_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIMONEL_PORT", "9001")
    monkeypatch.setenv("TIMONEL_WORKERS", "3")
    given = settings(port=9002, workers=None)
    assert (given.port, given.workers) == (9002, 3)


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "70000"), ("WORKERS", "two"), ("ENVIRONMENT", "test")]
)
def test_a_setting_that_is_not_allowed_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TIMONEL_{name}", value)
    with pytest.raises(TimonelError) as caught:
        settings()
    assert f"TIMONEL_{name}: " in caught.value.message
    assert repr(value) in caught.value.message
    assert caught.value.remedy
