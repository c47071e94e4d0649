"""Runs that are asked for: one reply each, when their outcome serves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.homes import deploy, home_at
from timonel.errors import Busy
from timonel.project import load_project
from timonel.serving.channel import AskRun, RunReply
from timonel.serving.launcher import Ran
from timonel.serving.operator import PipelineOperator
from timonel.settings import Settings

PENGUINS = load_project("penguins")


class Stand:
    """In the place of a launcher: what its run does is given."""

    def __init__(self, outcome: Ran | Exception, run: str | None = "run-1") -> None:
        self.outcome = outcome
        self.run_id = run

    def run(self, project: Any, *, fresh: bool, named: Callable[[str | None], None]) -> Ran:
        assert fresh
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if self.run_id:
            named(self.run_id)
        return self.outcome


GOOD = Ran(0, "run-1", "succeeded", "penguins/rf@1 is champion.")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = home_at(tmp_path)
    deploy(PENGUINS, settings)
    return settings


def replies(
    settings: Settings,
    stand: Stand,
    *,
    wait: bool = True,
    project: str = "penguins",
    serves: Callable[[frozenset[str]], bool] = lambda labels: True,
) -> list[RunReply]:
    found: list[RunReply] = []
    operator = PipelineOperator(settings, [PENGUINS], stand, serves)  # type: ignore[arg-type]
    operator.carry_out(AskRun(7, project, wait), found.append)
    return found


def test_a_good_run_is_answered_when_every_worker_serves_its_version(settings: Settings) -> None:
    asked: list[frozenset[str]] = []

    def serves(labels: frozenset[str]) -> bool:
        asked.append(labels)
        return len(asked) == 3

    (reply,) = replies(settings, Stand(GOOD), serves=serves)
    assert (reply.ticket, reply.status, reply.run) == (7, 200, "run-1")
    assert asked == [frozenset({"penguins/rf@1"})] * 3


def test_a_run_that_not_every_worker_follows_is_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timonel.serving.operator._FOLLOW_SECONDS", 0.2)
    (reply,) = replies(settings, Stand(GOOD), serves=lambda labels: False)
    assert reply.status == 503
    assert "Not every worker serves it yet" in reply.sentence


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (Ran(4, "run-1", "refused", "It is worse."), 409, "It is worse."),
        (Ran(3, "run-1", "failed", "No rows."), 500, "run-1 of penguins failed: No rows."),
        (Busy("Expected no active run of penguins, got run run-9."), 409, "run-9"),
        (Ran(6, None, "failed", "Got run run-9."), 409, "Got run run-9."),
        (OSError("no processes left"), 503, "no processes left"),
        (RuntimeError("a bug"), 500, "the log says why"),
    ],
)
def test_a_run_that_came_to_nothing_is_answered_with_why(
    settings: Settings, outcome: Ran | Exception, status: int, said: str
) -> None:
    (reply,) = replies(settings, Stand(outcome))
    assert reply.status == status
    assert said in reply.sentence


def test_who_does_not_wait_is_answered_when_the_run_began(settings: Settings) -> None:
    (reply,) = replies(settings, Stand(GOOD), wait=False)
    assert (reply.status, reply.run) == (202, "run-1")


def test_who_does_not_wait_is_told_of_a_run_that_could_not_begin(settings: Settings) -> None:
    (reply,) = replies(
        settings, Stand(Ran(2, None, "failed", "No packages."), run=None), wait=False
    )
    assert reply.status == 500
    assert "No packages." in reply.sentence


def test_an_unknown_project_is_said(settings: Settings) -> None:
    (reply,) = replies(settings, Stand(GOOD), project="unicorns")
    assert reply.status == 404
