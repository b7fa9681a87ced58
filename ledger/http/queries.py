"""Query parameters and cursors: parsed strictly, refused by name."""

import base64
import binascii
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from starlette.requests import Request

from ledger.domain.identity import MESSAGE_ID_MAX
from ledger.domain.status import Conflict, Status
from ledger.http.problems import Problem, invalid_parameter
from projections.current_status import CLOCKS, Filters

LIMIT_MAX: Final = 200
LIMIT_DEFAULT: Final = 50
TEXT_CHARACTERS_MAX: Final = 512
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR: Final = struct.Struct("!qq")
#: A blank before what ends a text as an offset does.
_LOST_PLUS: Final = re.compile(r" (?=[0-9]{2}:?[0-9]{2}\Z)")
FILTERS: Final = (
    "status", "provider", "provider_message_id", "client_reference", "recipient", "failure_category", "conflict",
    "clock", "since", "until",
)  # fmt: skip


def parameters(request: Request, allowed: Iterable[str]) -> dict[str, str]:
    """Return the query's parameters. Raises Problem for one that is unknown, repeated or unreadable."""
    told: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in allowed:
            raise invalid_parameter(name[:64], "is not a parameter of this request")
        if name in told and name != "status":
            raise invalid_parameter(name, "is given more than once")
        if len(value) > TEXT_CHARACTERS_MAX or "\x00" in value:
            raise invalid_parameter(name, f"must be text of at most {TEXT_CHARACTERS_MAX} characters")
        told[name] = f"{told[name]},{value}" if name in told else value
    return told


def message_id(text: str) -> int:
    """Return a public message id. Raises Problem `not_found`: what is no id names nothing."""
    if not re.fullmatch(r"[0-9]{1,16}", text) or int(text) > MESSAGE_ID_MAX:
        raise Problem("not_found", "No message of this id is visible to this key.")
    return int(text)


def limit(told: Mapping[str, str]) -> int:
    text = told.get("limit", str(LIMIT_DEFAULT))
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= LIMIT_MAX:
        raise invalid_parameter("limit", f"must be a whole number from 1 to {LIMIT_MAX}")
    return int(text)


def choice(told: Mapping[str, str], name: str, allowed: Sequence[str]) -> str:
    """Return one of several words; the first unless told."""
    word = told.get(name, allowed[0])
    if word not in allowed:
        raise invalid_parameter(name, f"must be one of {', '.join(allowed)}")
    return word


def instant(told: Mapping[str, str], name: str) -> datetime | None:
    """Return an instant given as RFC 3339. Raises Problem that names the parameter."""
    text = told.get(name)
    try:
        return None if text is None else rfc3339(text)
    except ValueError as problem:
        raise invalid_parameter(name, str(problem)) from None


def rfc3339(text: str) -> datetime:
    """Return a time with an offset. A "+" that a URL turned into a blank is understood. Raises ValueError."""
    try:
        at = datetime.fromisoformat(_LOST_PLUS.sub("+", text.strip().upper()))
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):  # the first and the last day of all reach beyond them in UTC
        pass
    raise ValueError("must be an RFC 3339 time with an offset, such as 2026-11-21T12:00:00Z")


def filters(told: Mapping[str, str], account: str, channel: str) -> Filters:
    statuses = tuple(word.strip().upper() for word in told.get("status", "").split(",") if word.strip())
    if any(status not in Status.__members__ for status in statuses):
        raise invalid_parameter("status", f"must be among {', '.join(Status)}")
    clock = CLOCKS.get(told.get("clock", "opened_at"))
    if clock is None:
        raise invalid_parameter("clock", f"must be one of {', '.join(CLOCKS)}")
    conflict = told.get("conflict")
    if conflict is not None and conflict not in [word.value for word in Conflict]:
        raise invalid_parameter("conflict", f"must be one of {', '.join(Conflict)}")
    recipient = told.get("recipient")
    return Filters(
        account=account,
        channel=channel,
        status=statuses,
        provider=told.get("provider"),
        provider_message_id=told.get("provider_message_id"),
        client_reference=told.get("client_reference"),
        recipient=address(recipient) if recipient else None,
        failure_category=told.get("failure_category"),
        conflict=Conflict(conflict) if conflict else None,
        clock=clock,
        since=instant(told, "since"),
        until=instant(told, "until"),
    )


def address(text: str) -> str:
    """Return a recipient as it is stored: "+digits" for what looks like a phone number, else as given."""
    stripped = text.strip()
    if re.fullmatch(r"\+?[0-9][0-9 ().-]{5,24}", stripped):
        return "+" + re.sub(r"[^0-9]", "", stripped)
    return stripped


def encode_cursor(opened_at: datetime, id_: int) -> str:
    micros = (opened_at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(_CURSOR.pack(micros, id_)).decode().rstrip("=")


def decode_cursor(told: Mapping[str, str]) -> tuple[datetime, int] | None:
    text = told.get("cursor")
    if text is None:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        micros, id_ = _CURSOR.unpack(raw)
        return _EPOCH + timedelta(microseconds=micros), id_
    except (binascii.Error, ValueError, struct.error, OverflowError):
        raise invalid_parameter("cursor", "must be a next_cursor of an earlier answer") from None
