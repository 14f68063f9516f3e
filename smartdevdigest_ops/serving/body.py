"""From a request's body to documents: bounded in bytes, documents and time, each document checked by itself."""

import asyncio
import io
from contextlib import suppress
from typing import TYPE_CHECKING

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.drops.json_stream import JsonArrayError, array_elements
from smartdevdigest_ops.drops.records import Reject, parse_record
from smartdevdigest_ops.serving.errors import RequestError
from smartdevdigest_ops.settings import ServingSettings

if TYPE_CHECKING:
    from starlette.requests import Request

# The rest of the body is not read: the connection is of no more use.
_CLOSE = {"Connection": "close"}
_DISCARD_SECONDS = 1.0


async def read_body(request: "Request", settings: ServingSettings) -> bytes:
    """The whole body.

    Raises:
        RequestError: no JSON, longer than `max_body_bytes`, or not there within `body_timeout_seconds`.
        ClientDisconnect: the client left.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" or request.headers.get("content-encoding", "identity") != "identity":
        await discard_body(request, settings)
        raise RequestError(
            415,
            "wrong_content_type",
            f"The body's type is {media_type[:80]!r}; needed is Content-Type: application/json, not compressed.",
            _CLOSE,
        )
    too_large = RequestError(
        413, "body_too_large", f"The body is longer than {settings.max_body_bytes} bytes. Send fewer documents.", _CLOSE
    )
    if int(request.headers.get("content-length", 0)) > settings.max_body_bytes:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout_seconds):
            async for piece in request.stream():
                data += piece
                if len(data) > settings.max_body_bytes:
                    raise too_large
    except TimeoutError:
        raise RequestError(
            408,
            "body_timeout",
            f"The body was not complete {settings.body_timeout_seconds:g} s after its headers.",
            _CLOSE,
        ) from None
    return bytes(data)


async def discard_body(request: "Request", settings: ServingSettings) -> None:
    """Read a body that is refused unread, as far as it is of a size and speed that would have been taken.

    A connection that is closed with bytes unread is reset, and its client may never see why it was refused.
    """
    num_bytes = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            async for piece in request.stream():
                num_bytes += len(piece)
                if num_bytes > settings.max_body_bytes:
                    break


def parse_documents(data: bytes, max_documents: int) -> tuple[list[CrawlRecord | Reject], bool]:
    """The documents of a body, and whether it is an array of them; in an array a bad one is rejected alone.

    Raises:
        RequestError: an array without an end, without a document, or with too many.
    """
    if data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")[:1] != b"[":
        return [parse_record(data)], False
    documents: list[CrawlRecord | Reject] = []
    try:
        for number, element, _ in array_elements(io.BytesIO(data), len(data)):
            if number > max_documents:
                raise RequestError(
                    413, "too_many_documents", f"The body holds more than {max_documents} documents. Send it in parts."
                )
            documents.append(parse_record(element))
    except JsonArrayError as error:
        raise RequestError(422, "invalid_body", f"The body is no JSON array of documents: {error}.") from None
    if not documents:
        raise RequestError(422, "invalid_body", "The body is an empty array; needed is at least one document.")
    return documents, True
