"""Bodies of requests, read within bounds and into their shapes."""

from typing import Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from ledger.http.problems import Problem, invalid_body

T = TypeVar("T")

BODY_BYTES_MAX: Final = 64 * 1024


async def read_body(request: Request) -> bytes:
    """Return the body. It is read into its shape only once the key has been admitted. Raises Problem."""
    media_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type != "application/json":
        raise Problem("content_type_unsupported", "Send application/json.")
    return await whole_body(request, BODY_BYTES_MAX)


async def whole_body(request: Request, bytes_max: int) -> bytes:
    """Return the body, of whatever type. Raises Problem for one that is too large, compressed or incomplete."""
    if request.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise Problem("content_type_unsupported", "Compressed bodies are not accepted.")
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > bytes_max:
                raise Problem("body_too_large", f"The limit is {bytes_max} bytes.")
    except ClientDisconnect:
        raise Problem("malformed_request", "The body is incomplete.") from None
    return body


def decoded(body: bytes, type_: type[T]) -> T:
    """Raise Problem naming the field that is wrong."""
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        raise invalid_body(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem("malformed_request", "The body is not JSON.") from None
