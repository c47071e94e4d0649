"""Moments as people write them."""

from datetime import UTC, datetime

import pytest

from timonel.cli.moments import moment, utc
from timonel.errors import BadRequest

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-11-20T12:00Z", NOON),
        ("2026-11-20T13:00:00+01:00", NOON),
        ("30s", NOON - 30),
        ("2h", NOON - 7_200),
        ("3d", NOON - 3 * 86_400),
        ("1w", NOON - 7 * 86_400),
    ],
)
def test_a_moment_is_a_time_or_how_long_ago(given: str, expected: float) -> None:
    assert moment("--at", given, NOON) == expected


def test_without_a_zone_it_is_local() -> None:
    local = datetime(2026, 11, 20).astimezone()
    assert moment("--at", "2026-11-20") == local.timestamp()


@pytest.mark.parametrize("given", ["", "yesterday", "2x", "-2h", "2026-13-01", "0001-01-01"])
def test_what_is_neither_is_refused_with_both_forms(given: str) -> None:
    with pytest.raises(BadRequest, match=r"--at: expected an ISO time such as .* 2h or 3d"):
        moment("--at", given, NOON)


def test_a_moment_is_printed_in_utc() -> None:
    assert utc(NOON) == "2026-11-20T12:00:00Z"
