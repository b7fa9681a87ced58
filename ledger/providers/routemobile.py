"""Route Mobile: delivery reports of Viber Business Messages. Read on 2026-11-21:

https://github.com/api-evangelist/route-mobile/tree/main/openapi
https://developers.routemobile.com/

What identifies a message: `request_id`. What identifies a report across resends: nothing. Whose clock: `message_time`,
Unix milliseconds in some of the published examples and seconds in others, so its size tells. Order and duplicates:
neither is stated, nor whether anything is repeated.

The same product writes its words with and without a capital. Nothing is signed: a secret in the address tells who
calls.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import credentials, decoding, instants
from ledger.wire.contract import Account, Parsed, Provider, Webhook, claim_of
from ledger.wire.credentials import Auth, Credentials
from ledger.wire.decoding import ABSENT, loose

CLAIMS: Final[Mapping[str, Claim]] = {
    "queued": Claim(Status.QUEUED),
    "sent": Claim(Status.SENT),
    "delivered": Claim(Status.DELIVERED),
    "seen": Claim(Status.READ),
    "read": Claim(Status.READ),
    "rejected": Claim(Status.FAILED, FailureKind.FAILED),
    "expired": Claim(Status.FAILED, FailureKind.UNDELIVERED),  # not delivered within its time to live
    "undelivered": Claim(Status.FAILED, FailureKind.UNDELIVERED),
    "failed": Claim(Status.FAILED, FailureKind.UNDELIVERED),
}

#: What a callback is about: reports, and other things.
REPORT: Final = "dlr"


class Options(Credentials, frozen=True, kw_only=True, forbid_unknown_fields=True):
    auth: Auth = "query"


class _Callback(msgspec.Struct):
    request_id: Raw = ABSENT
    message_status: Raw = ABSENT
    message_time: Raw = ABSENT
    phone_number: Raw = ABSENT
    service_type: Raw = ABSENT
    error_code: Raw = ABSENT  #: not documented


_callback: Final = decoding.json_reader(_Callback, "body")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read the one report of a callback. Raises Malformed for anything but a JSON object."""
    told = _callback(webhook.body)
    kind = decoding.word(loose(told.service_type))
    if kind is not None and kind.strip().lower() != REPORT and not decoding.is_present(told.message_status):
        return Parsed(ignored=1)  # an inbound message
    return decoding.single(webhook.body, lambda: _observation(told, webhook.body))


def _observation(told: _Callback, body: bytes) -> Observation:
    request_id = decoding.required(decoding.identifier(loose(told.request_id)), "request_id")
    word = decoding.required(decoding.word(loose(told.message_status)), "message_status")
    to = decoding.identifier(loose(told.phone_number))
    return Observation(
        reference=request_id,
        provider_message_id=request_id,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=instants.unix(loose(told.message_time)),
        error_code=decoding.identifier(loose(told.error_code)),
        recipient=decoding.recipient(to),
        recipient_raw=to,
        item=body,
    )


_authenticate, _signed_text = credentials.scheme(Options)

PROVIDER: Final = Provider(
    name="routemobile",
    channels=frozenset({Channel.VIBER}),
    content_types=frozenset({"application/json"}),
    claims=CLAIMS,
    authenticate=_authenticate,
    parse=parse,
    options=Options,
    check_secret=credentials.check_secret,
    signed_text=_signed_text,
)
