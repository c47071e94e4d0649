"""Moments as people write them to a command, and as it prints them."""

import re
import time
from datetime import UTC, datetime

from timonel.errors import BadRequest

__all__ = ["MOMENT", "moment", "utc"]

MOMENT = "2026-11-20, 2026-11-20T13:00Z, or 2h or 3d ago"
"""How a moment may be written, for the help of an option."""

_AGO = re.compile(r"(\d{1,9})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def moment(option: str, given: str, now: float | None = None) -> float:
    """Seconds since 1970: of an ISO date or time, local without a zone, or of `2h` before `now`.

    Raises:
        BadRequest: it is neither, naming the option.
    """
    if ago := _AGO.fullmatch(given.strip()):
        return (time.time() if now is None else now) - int(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(given).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise BadRequest(
            f"{option}: expected an ISO time such as 2026-11-20T13:00:00Z, or how long ago such as "
            f"2h or 3d, got {given!r}."
        ) from None


def utc(seconds: float) -> str:
    """A moment as `2026-11-20T13:04:05Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
