"""What is answered when something is wrong: RFC 9457 problem details, from one table.

A problem names the field and the rule. It never quotes a body, a secret, a number or an exception's text.
"""

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
from starlette.responses import Response

#: Problem code -> HTTP status, title. `type` is "/problems/<code>".
PROBLEMS: Final[Mapping[str, tuple[int, str]]] = {
    "malformed_request": (400, "The request cannot be read"),
    "invalid_parameter": (400, "A parameter is not valid"),
    "key_missing": (401, "An API key is required"),
    "key_unknown": (401, "The API key is not known"),
    "key_deprecated": (401, "The API key has been rotated or revoked"),
    "not_authentic": (401, "The request is not signed by this account"),
    "forbidden": (403, "Your role does not allow this"),
    "forgery": (403, "This did not come from one of our pages"),
    "handshake_refused": (403, "The handshake's token does not match"),
    "not_found": (404, "There is no such thing here"),
    "account_unknown": (404, "There is no such account"),
    "method_not_allowed": (405, "The method is not used here"),
    "not_acceptable": (406, "The answer is not available in the wanted form"),
    "endpoint_disabled": (409, "The endpoint is disabled"),
    "too_many_endpoints": (409, "There are as many endpoints as there may be"),
    "already_handed_off": (409, "The message was handed off under another provider message id"),
    "channel_mismatch": (409, "The message belongs to another channel"),
    "not_in_conflict": (409, "Only an open conflict can be corrected"),
    "archived": (410, "The history of the message is in an archive"),
    "body_too_large": (413, "The body is too large"),
    "content_type_unsupported": (415, "The content type is not accepted here"),
    "invalid_field": (422, "A field is not valid"),
    "idempotency_key_reused": (422, "The Idempotency-Key came with a different request before"),
    "rate_limited": (429, "Too many requests with this key"),
    "internal": (500, "Something went wrong on our side"),
    "unavailable": (503, "Nothing was recorded; try again shortly"),
}

CONTENT_TYPE: Final = "application/problem+json"
#: How much of an unknown field's name is repeated.
_NAME_CHARACTERS_MAX: Final = 64


class FieldError(msgspec.Struct, frozen=True):
    field: str
    message: str


class Problem(Exception):  # the term of RFC 9457
    """Raised anywhere in a handler; answered by `response`."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        headers: Mapping[str, str] | None = None,
        retry_at: datetime | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.retry_at = retry_at

    @property
    def status(self) -> int:
        return PROBLEMS[self.code][0]


class ProblemBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    code: str
    errors: tuple[FieldError, ...] = ()
    retry_at: str | None = None


def invalid_field(field: str, message: str) -> Problem:
    return Problem("invalid_field", f"{field}: {message}", errors=(FieldError(field, message),))


def invalid_parameter(name: str, message: str) -> Problem:
    return Problem("invalid_parameter", f"{name}: {message}", errors=(FieldError(name, message),))


def unavailable(detail: str = "The ledger cannot write right now.") -> Problem:
    """A jittered Retry-After keeps everybody from coming back at once."""
    seconds = random.randint(1, 5)  # noqa: S311  # spreads retries, protects nothing
    return Problem("unavailable", detail, headers={"retry-after": str(seconds)})


def invalid_body(error: msgspec.ValidationError) -> Problem:
    """Name the field and the rule that a request body breaks, without the value it came with."""
    text = str(error)
    unknown = re.match(r"Object contains unknown field `(.*?)`(?: - at `\$\.?([^`]*)`)?$", text, re.DOTALL)
    if unknown:
        name, place = unknown[1][:_NAME_CHARACTERS_MAX], unknown[2]
        return invalid_field(f"{place}.{name}" if place else name, "is not a field of this request")
    told = re.match(r"(.*?)(?: - at (?:`key` in )?`\$\.?([^`]*)`)?$", text, re.DOTALL)
    message, place = (told[1], told[2] or "") if told else ("is not valid", "")
    missing = re.search(r"missing required field `([^`]{1,64})`", message)
    if missing:
        return invalid_field(f"{place}.{missing[1]}".lstrip("."), "is required")
    if message.startswith("Invalid enum value"):  # the one text of msgspec's that goes on to quote a value
        message = "is not one of the values this field may have"
    return invalid_field(place or "body", message)


def body_of(problem: Problem, request_id: str) -> bytes:
    status, title = PROBLEMS[problem.code]
    return msgspec.json.encode(
        ProblemBody(
            type=f"/problems/{problem.code.replace('_', '-')}",
            title=title,
            status=status,
            detail=problem.detail,
            request_id=request_id,
            code=problem.code,
            errors=problem.errors,
            retry_at=timestamp(problem.retry_at) if problem.retry_at else None,
        )
    )


def response(problem: Problem, request_id: str) -> Response:
    return Response(body_of(problem, request_id), problem.status, media_type=CONTENT_TYPE, headers=problem.headers)


def timestamp(at: datetime) -> str:
    """Write an instant as RFC 3339 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
