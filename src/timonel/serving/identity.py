"""Which request this is, and who sent it: what a rollout chooses its version by."""

import uuid

from starlette.requests import Request

from timonel.serving.answer import Answerer

__all__ = ["caller_of", "identifier_of"]


def identifier_of(request: Request, answerer: Answerer) -> uuid.UUID:
    """The prediction id: a new one, unless the lean path has given the request one already."""
    known: uuid.UUID | None = request.scope.get("timonel.id")
    return known or answerer.new_id()


def caller_of(request: Request, answerer: Answerer) -> bytes | None:
    """What a rollout recognises the caller by; None where it does not."""
    name = answerer.sticky
    value = request.headers.get(name) if name else None
    return value.encode() if value else None
