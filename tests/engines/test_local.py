"""Methods of one object, here or in processes."""

import os
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from timonel.engines.local import Local, cores
from timonel.errors import RunFailed


class Work:
    """Something to do with an array."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def add(self, number: float) -> float:
        return float(self.values.sum() + number)

    def writable(self) -> bool:
        return bool(self.values.flags.writeable)

    def threads(self) -> str | None:
        return os.environ.get("OMP_NUM_THREADS")

    def fail(self) -> None:
        raise ValueError("a wrong value")

    def end(self) -> None:
        os._exit(3)


def results(engine: Local, count: int) -> list[Any]:
    return [engine.next_done().result() for _ in range(count)]


def test_one_job_runs_here_and_in_order_as_answers_are_asked_for() -> None:
    with Local(Work(np.ones(3)), jobs=1) as engine:
        calls: list[Future[Any]] = [engine.submit("add", n) for n in range(3)]
        assert not any(call.done() for call in calls)
        assert results(engine, 3) == [3.0, 4.0, 5.0]


def test_processes_share_arrays_and_get_one_thread_each() -> None:
    # A model without augmentation names none.
    with Local(Work(np.ones(100_000)), jobs=2, code=(Work, None)) as engine:
        for number in range(5):
            engine.submit("add", number)
        assert sorted(results(engine, 5)) == [100_000.0 + n for n in range(5)]
        engine.submit("writable")
        engine.submit("threads")
        assert set(results(engine, 2)) == {False, "1"}
        engine.submit("fail")
        assert isinstance(engine.next_done().exception(), ValueError)


def test_an_error_here_is_in_the_future_as_it_is_in_processes() -> None:
    with Local(Work(np.ones(1)), jobs=1) as engine:
        engine.submit("fail")
        assert isinstance(engine.next_done().exception(), ValueError)


def test_a_process_that_dies_fails_the_run_with_a_remedy() -> None:
    with Local(Work(np.empty(0)), jobs=2, code=(Work,)) as engine:
        engine.submit("end")
        with pytest.raises(RunFailed, match="TIMONEL_JOBS=1"):
            engine.next_done()


def test_code_of_a_file_that_no_process_can_import_travels_along(tmp_path: Path) -> None:
    path = tmp_path / "somebody.py"
    path.write_text("class Theirs:\n    def answer(self):\n        return helper()\n"
                    "def helper():\n    return 42\n")  # fmt: skip
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location("timonel_project_somebody", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        with Local(module.Theirs(), jobs=2, code=(module.Theirs,)) as engine:
            engine.submit("answer")
            assert engine.next_done().result() == 42
    finally:
        del sys.modules[spec.name]


def test_there_is_at_least_one_core() -> None:
    assert cores() >= 1


def test_code_that_python_itself_brings_is_not_carried_along() -> None:
    with Local(Work(np.arange(3.0)), jobs=2, code=(len, None, max)) as engine:
        engine.submit("add", 1.0)
        assert engine.next_done().result() is not None
