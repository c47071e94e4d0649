"""A refusal's status, sentence and body: one sentence, in the form that the path's clients read."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from timonel.errors import TimonelError
from timonel.serving.protocols.tabular import RefusedRows
from timonel.serving.rows import refusal_of

__all__ = ["headers_of", "refusal_content", "sentence_of"]

_CODES = {  # MLflow's
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


def refusal_content(path: str, status: int, sentence: str) -> dict[str, Any]:
    """The body of a refusal at this path.

    `{"error"}` under /v2, MLflow's `{"error_code", "message"}` where its clients ask, and
    `{"detail"}` elsewhere.
    """
    if path == "/v2" or path.startswith("/v2/"):
        return {"error": sentence}
    if path.rstrip("/").rpartition("/")[2] in ("invocations", "ping"):
        return {"error_code": _CODES.get(status, "BAD_REQUEST"), "message": sentence}
    return {"detail": sentence}


def sentence_of(error: ValidationError | TimonelError) -> tuple[int, str]:
    """The HTTP status of an error, and one sentence with every complaint and its place."""
    if isinstance(error, RefusedRows):
        return error.status, _listed(error.detail)
    if isinstance(error, TimonelError):
        return error.status, str(error)
    status, refusal = refusal_of(error)
    detail = refusal.detail
    return status, detail if isinstance(detail, str) else _listed(detail)


def headers_of(error: Exception) -> dict[str, str]:
    """When to ask again, where that helps."""
    seconds = getattr(error, "retry_after", None)
    return {} if seconds is None else {"Retry-After": str(seconds)}


def _listed(complaints: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(_said(item["loc"][1:], item["msg"]) for item in complaints)


def _said(place: list[Any], message: str) -> str:
    words = [f"row {place[0]}"] if place and isinstance(place[0], int) else []
    named = ".".join(str(part) for part in place[len(words) :])
    where = ", ".join(filter(None, [*words, named]))
    return f"{where}: {message}" if where else message
