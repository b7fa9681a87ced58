"""Bodies of forms, read within bounds."""

from urllib.parse import parse_qsl

from starlette.requests import Request

from ledger.http.inputs import BODY_BYTES_MAX, whole_body
from ledger.http.problems import Problem

_FIELDS_MAX = 64


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form. Raises Problem for one that is none, or that names a field twice."""
    media_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise Problem("content_type_unsupported", "Send application/x-www-form-urlencoded.")
    body = await whole_body(request, BODY_BYTES_MAX)
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_FIELDS_MAX
        )
    except ValueError:
        raise Problem("malformed_request", "The form cannot be read.") from None
    told = dict(pairs)
    if len(told) != len(pairs):
        raise Problem("malformed_request", "The form names a field twice.")
    return told
