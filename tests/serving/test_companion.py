"""A companion is kept running, without haste when it cannot start."""

import os
import signal
import time
from pathlib import Path

import pytest

from timonel.serving.companion import Companion

SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("here", flush=True)
time.sleep(30)
"""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def companion(folder: Path, clock: Clock, code: str, said: list[str]) -> Companion:
    (folder / "beside.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(folder)}
    log = folder / "logs" / "beside.log"
    return Companion("beside", ["x"], environment, log, say=said.append, clock=clock)


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_is_started_once_and_ends_when_told(tmp_path: Path, clock: Clock) -> None:
    said: list[str] = []
    kept = companion(tmp_path, clock, SLEEPER, said)
    kept.tend()
    pid = kept.pid
    log = tmp_path / "logs" / "beside.log"
    wait_for(lambda: log.read_text() == "here\n")
    kept.tend()
    assert kept.pid == pid
    kept.stop()
    assert kept.pid is None
    assert said == []
    kept.stop()


def test_one_that_ends_is_started_again_after_a_pause_that_doubles(
    tmp_path: Path, clock: Clock
) -> None:
    said: list[str] = []
    kept = companion(tmp_path, clock, "raise SystemExit(3)", said)
    for pause in (1, 2, 4):
        kept.tend()
        wait_for(lambda: kept.pid is None)
        kept.tend()
        assert f"ended (3); it starts again in {pause} s" in said[-1]
        clock.now += pause - 0.5
        kept.tend()
        assert len(said) == pause.bit_length()
        clock.now += 0.5
    kept.stop()


def test_one_that_ran_for_long_is_started_again_soon(tmp_path: Path, clock: Clock) -> None:
    said: list[str] = []
    kept = companion(tmp_path, clock, SLEEPER, said)
    for _ in range(3):
        kept.tend()
        assert kept.pid is not None
        clock.now += 120
        os.kill(kept.pid, signal.SIGKILL)
        wait_for(lambda: kept.pid is None)
        kept.tend()
        assert "starts again in 1 s" in said[-1]
        clock.now += 1
    kept.stop()
