"""Parameters as the OpenAPI document describes them: what is taken, so far as JSON Schema can say it."""

from typing import Any, Final

import msgspec

from ledger.domain.identity import MESSAGE_ID_MAX
from ledger.domain.status import Channel, Conflict, Status
from ledger.http import queries, render
from ledger.outbound.deliveries import State
from projections.current_status import CLOCKS
from projections.scope import GROUPS

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string", "maxLength": queries.TEXT_CHARACTERS_MAX, "pattern": r"^[^\u0000]*$"}
_INSTANT: Final[Schema] = {"type": "string", "format": "date-time"}


class Parameter(msgspec.Struct, frozen=True):
    name: str
    place: str  #: query, header or path
    description: str
    schema: Schema = msgspec.field(default_factory=lambda: {"type": "string"})
    is_list: bool = False  #: several values, joined by commas


def words(*allowed: str) -> Schema:
    return {"type": "string", "enum": list(allowed)}


def matching(pattern: str) -> Schema:
    return {"type": "string", "pattern": f"^{pattern}$"}


def _several(name: str, description: str, allowed: list[str]) -> Parameter:
    schema = {"type": "array", "items": words(*allowed), "uniqueItems": True}
    return Parameter(name, "query", description, schema, is_list=True)


def query(name: str, description: str = "", schema: Schema = _TEXT) -> Parameter:
    return Parameter(name, "query", description, schema)


# Paths
MESSAGE_ID: Final = Parameter(
    "message_id",
    "path",
    "The id given at registration, or shown in a listing.",
    {"type": "integer", "minimum": 0, "maximum": MESSAGE_ID_MAX},
)
ENDPOINT_ID: Final = Parameter(
    "endpoint_id", "path", "The id given when the endpoint was made.", matching("wh_[0-9a-f]{16}")
)
DELIVERY_ID: Final = Parameter(
    "delivery_id", "path", "The id shown in the list of deliveries.", matching("[0-9]{1,3}-[0-9]{1,16}")
)
CHANNEL: Final = Parameter("channel", "path", "", words(*Channel))
PARTITION: Final = Parameter(
    "partition", "path", "0 unless the log is divided.", {"type": "integer", "minimum": 0, "maximum": 255}
)

# Pages
LIMIT: Final = query("limit", "Items a page.", {"type": "integer", "minimum": 1, "maximum": queries.LIMIT_MAX})
_NEXT: Final = "next_cursor of the previous page."
#: A time and an id, packed: what begins otherwise lies thousands of years ahead.
CURSOR: Final = query("cursor", _NEXT, matching("A[A-P][A-Za-z0-9_-]{20}"))
PLACE: Final = query("cursor", _NEXT, matching("[0-9]{1,9}"))
NUMBER: Final = query("cursor", _NEXT, matching("[0-9]{1,16}"))

# What is wanted of messages
STATUS: Final = _several("status", "Only messages in one of these.", list(Status))
_PROVIDER: Final = query("provider", "Only this provider.")
_REFERENCE: Final = query("client_reference", "Your own name of the message.")
_RECIPIENT: Final = query("recipient", "The recipient, as registered or as the provider has it.")
FILTERS: Final = (
    STATUS,
    _PROVIDER,
    query("provider_message_id", "The provider's name of the message."),
    _REFERENCE,
    _RECIPIENT,
    query("failure_category", "Only messages that failed for a reason of this kind."),
    query("conflict", "Only messages whose reports contradict one another, or do not.", words(*Conflict)),
    query("clock", "Which time since and until mean.", words(*CLOCKS)),
    query("since", "Begin of the range, RFC 3339.", _INSTANT),
    query("until", "End of the range, RFC 3339.", _INSTANT),
)
STREAM_FILTERS: Final = (
    STATUS,
    _PROVIDER,
    _REFERENCE,
    _RECIPIENT,
    query("changes", "Everything that is recorded, or what changed a status.", words("all", "status")),
)
STYLE: Final = query("status_style", "Overrides the key's vocabulary.", words("unified", "channel"))
AS_OF: Final = query("as_of", "Rewind to this time (RFC 3339).", _INSTANT)
CLOCK: Final = query(
    "clock",
    "What as_of means: what was on record then (recorded), or what had happened by then (occurred).",
    words(*render.CLOCKS),
)
IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key", "header", "Makes a retry of this request safe for 24 hours.", matching("[!-~]{1,255}")
)

# Reports
SINCE: Final = query(
    "since", "Begin of the range, RFC 3339; the hour it lies in counts whole. Default: 7 days.", _INSTANT
)
UNTIL: Final = query("until", "End of the range; the hour it lies in counts whole. Default: now.", _INSTANT)
PROVIDER: Final = _PROVIDER
COUNTRY: Final = query(
    "country", "Only recipients of this country, ISO 3166; empty: of none that is known.", matching("([A-Za-z]{2})?")
)
GROUP_BY: Final = _several("group_by", f"Comma-separated: {', '.join(GROUPS)}.", list(GROUPS))
TIME_ZONE: Final = query(
    "time_zone",
    "Whose hours and days are meant, such as Europe/Paris. Default: UTC.",
    matching("[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}"),
)

# Webhooks
STATE: Final = _several("state", "Only deliveries in these states.", list(State))
