"""A request's body: read up to a limit, and unpacked where the client packed it."""

import zlib
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request

from timonel.errors import BadRequest, BodyTooLarge

__all__ = ["BadForm", "UnsupportedBody", "read_body", "read_form"]

_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class UnsupportedBody(BadRequest):
    """A content type or encoding that is not taken."""

    status = 415


class BadForm(BadRequest):
    """A multipart form without what it must have."""

    status = 422


async def read_body(request: Request, limit: int) -> bytes:
    """The body's bytes, unpacked if its `Content-Encoding` is gzip or deflate.

    Raises:
        BodyTooLarge: before more than `limit` bytes were kept, packed or unpacked.
        UnsupportedBody: it is packed in another way.
        BadRequest: it cannot be unpacked.
    """
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdecimal() else 0
    chunks: list[bytes] = []
    if size <= limit:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                break
            chunks.append(chunk)
    if size > limit:
        raise _too_large(size, limit)
    body = b"".join(chunks)
    packed = request.headers.get("content-encoding", "identity").strip().lower()
    return body if packed in ("identity", "") else _unpacked(body, packed, limit)


async def read_form(request: Request, limit: int) -> FormData:
    """The fields of a multipart form of at most `limit` bytes; close it after use.

    Raises:
        BadRequest: it cannot be read as a form.
    """
    body = await read_body(request, limit)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        return await Request(request.scope, receive).form(
            max_files=4, max_fields=16, max_part_size=limit
        )
    except HTTPException as error:
        raise BadRequest(f"Expected a multipart form, got: {error.detail}") from None
    except (ValueError, KeyError, LookupError) as error:
        raise BadRequest(f"Expected a multipart form, got: {error}") from None


def _unpacked(body: bytes, packed: str, limit: int) -> bytes:
    if packed not in _WINDOWS:
        raise UnsupportedBody(
            f"Expected a Content-Encoding of {' or '.join(_WINDOWS)} or none, got {packed[:40]!r}."
        )
    unpacking = zlib.decompressobj(_WINDOWS[packed])
    try:
        content = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"Expected a body packed with {packed}, got: {error}.") from None
    if len(content) > limit:
        raise _too_large(len(content), limit)
    if not unpacking.eof:
        raise BadRequest(f"Expected a body packed with {packed}, got one cut short.")
    return content


def _too_large(size: int, limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"Expected a body of at most {limit:,} bytes, got {size:,} or more.",
        remedy="Send less at a time, or raise TIMONEL_MAX_BODY.",
    )
