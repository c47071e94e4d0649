"""Errors: each knows its HTTP status, its exit code and what to do next."""

import inspect

import pytest

from timonel import errors
from timonel.errors import MissingExtra, TimonelError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_the_one_root_a_status_and_an_exit_code(kind: type[TimonelError]) -> None:
    assert issubclass(kind, TimonelError)
    assert 400 <= kind.status < 600
    assert 0 < kind.exit_code < 256


def test_a_message_reads_with_its_remedy() -> None:
    assert str(TimonelError("Expected a, got b.", remedy="Give a.")) == "Expected a, got b. Give a."
    assert str(TimonelError("Expected a, got b.")) == "Expected a, got b."


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    assert "pip install 'timonel[train]'" in str(MissingExtra("timonel run", "train"))
