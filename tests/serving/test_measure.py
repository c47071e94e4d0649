"""What a model takes decides where it runs."""

from collections.abc import Callable

import pytest

from timonel.serving.measure import INLINE_SECONDS, Measured, measure


def model(
    alone: float, more: float
) -> tuple[Callable[[int], None], Callable[[], float], list[int]]:
    """A model on a clock of its own: `alone` seconds for a row, `more` for each further one."""
    now, seen = [0.0], []

    def run(rows: int) -> None:
        seen.append(rows)
        now[0] += alone + more * (rows - 1)

    return run, lambda: now[0], seen


def measured(alone: float, more: float, *, batch: bool = True) -> Measured:
    run, timer, _ = model(alone, more)
    return measure(run, batch=batch, timer=timer)


def test_a_row_is_measured_and_tells_how_many_may_run_on_the_loop() -> None:
    found = measured(INLINE_SECONDS / 10, 0.0)
    assert found.row_seconds == pytest.approx(INLINE_SECONDS / 10)
    assert found.is_quick(9)
    assert not found.is_quick(11)


def test_the_first_run_warms_and_the_quickest_of_the_others_counts() -> None:
    took = iter([9.0, 0.5, 0.2, 0.4])
    now = [0.0]

    def run(rows: int) -> None:
        now[0] += next(took)

    assert measure(run, batch=False, timer=lambda: now[0]).row_seconds == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("alone", "more"),
    [
        (0.000_01, 0.000_001),  # a forest: a thread costs more than all of it
        (0.000_033, 0.000_024),  # the digits' network
        (0.010, 0.009_5),  # large, but its rows are not cheaper together
        (0.000_25, 0.000_2),
    ],
)
def test_batches_that_do_not_pay_are_not_made(alone: float, more: float) -> None:
    assert not measured(alone, more).batches


def test_rows_that_are_much_cheaper_together_are_batched_in_the_best_size() -> None:
    found = measured(0.005, 0.000_2)
    assert found.batches
    assert found.batch_rows == 32
    assert found.batch_seconds == pytest.approx(0.005 + 31 * 0.000_2)


def test_a_model_that_takes_one_row_at_a_time_is_never_asked_for_more() -> None:
    run, timer, seen = model(0.005, 0.0)
    assert not measure(run, batch=False, timer=timer).batches
    assert set(seen) == {1}


def test_a_model_too_slow_to_measure_a_batch_of_is_not_batched() -> None:
    run, timer, seen = model(0.5, 0.0)
    assert not measure(run, batch=True, timer=timer).batches
    assert max(seen) == 1
