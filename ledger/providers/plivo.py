"""Plivo: message status callbacks (SMS, MMS, WhatsApp). Read on 2026-11-21:

https://www.plivo.com/docs/messaging/concepts/message-status-callbacks
https://www.plivo.com/docs/messaging/concepts/signature-validation
https://www.plivo.com/docs/voice/concepts/signature-validation
https://www.plivo.com/docs/messaging/troubleshooting/error-codes

What identifies a message: `MessageUUID`; the parts of a long message have one each, and `ParentMessageUUID`, which the
send call returned, joins them. What identifies a report across resends: nothing; `Sequence` tells in which order
reports were made. Whose clock: one field a status (`QueuedTime`, `SentTime`, `DeliveryReportTime`), without a zone,
taken for UTC. Order and duplicates: neither is promised.

Two signatures are in use. Version 3 covers the URL and every parameter. Version 2, the only one that the pages about
messages describe, covers the URL without its query and a nonce: it tells who calls, not what is said. Where a request
carries version 3, nothing else counts.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import asking, channels, decoding, forms, instants, signature
from ledger.wire.contract import (
    Account,
    Ask,
    Known,
    Malformed,
    Parsed,
    Polling,
    Polls,
    Provider,
    Webhook,
    claim_of,
)
from ledger.wire.decoding import ABSENT, loose

CLAIMS: Final[Mapping[str, Claim]] = {
    "queued": Claim(Status.QUEUED),
    "sent": Claim(Status.SENT),
    "delivered": Claim(Status.DELIVERED),
    "read": Claim(Status.READ),  # WhatsApp
    "failed": Claim(Status.FAILED, FailureKind.FAILED),  # never left Plivo
    "rejected": Claim(Status.FAILED, FailureKind.FAILED),  # older pages
    "undelivered": Claim(Status.FAILED, FailureKind.UNDELIVERED),  # the carrier says no
}

#: When a status came about. A failure before sending has no time.
TIMES: Final[Mapping[str, str]] = {
    "queued": "QueuedTime",
    "sent": "SentTime",
    "delivered": "DeliveryReportTime",
    "read": "DeliveryReportTime",
    "undelivered": "DeliveryReportTime",
    "failed": "DeliveryReportTime",
    "rejected": "DeliveryReportTime",
}
#: Words about messages to us.
INBOUND: Final = frozenset({"received"})
#: The second header of each pair is signed by the main account, for messages of a subaccount.
HEADERS_V3: Final = ("x-plivo-signature-v3", "x-plivo-signature-ma-v3")
HEADERS_V2: Final = ("x-plivo-signature-v2", "x-plivo-signature-ma-v2")
NONCE_V3, NONCE_V2 = "x-plivo-signature-v3-nonce", "x-plivo-signature-v2-nonce"

_PART: Final = re.compile(r" *([0-9]{1,4}) +of +([0-9]{1,4}) *", re.ASCII)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    require_v3: bool = False  #: refuse requests that carry version 2 only


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read the one report of a callback. Raises Malformed beyond any form's limits."""
    told = forms.texts(forms.fields(webhook.content))
    if told.get("Status", "").strip().lower() in INBOUND:
        return Parsed(ignored=1)
    return decoding.single(webhook.content, lambda: _observation(told, webhook.content))


def _observation(told: Mapping[str, str], item: bytes) -> Observation:
    own, parent = decoding.word(told.get("MessageUUID")), decoding.word(told.get("ParentMessageUUID"))
    message_id = decoding.required(parent or own, "MessageUUID")
    word = decoding.required(decoding.word(told.get("Status")), "Status")
    part, parts = _part(told.get("PartInfo", ""))
    channel, transport = channels.place_of(told.get("Type"))
    to, code = decoding.word(told.get("To")), decoding.word(told.get("ErrorCode"))
    return Observation(
        reference=message_id,
        provider_message_id=message_id,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=instants.iso8601_utc(told.get(TIMES.get(word.strip().lower(), ""))),
        error_code=code if code and code.strip("0 ") else None,  # 000 is success
        channel=channel,
        transport=transport,
        recipient=decoding.recipient(to),
        recipient_raw=to,
        part=part,
        parts=parts,
        item=item,
    )


def _part(text: str) -> tuple[int | None, int | None]:
    """Return which part of how many a report is about; nothing where the message is whole."""
    told = _PART.fullmatch(text)
    part, parts = (int(told[1]), int(told[2])) if told else (1, 1)
    return (part, parts) if 1 <= part <= parts and parts > 1 else (None, None)


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check version 3 if the request carries it, else version 2, unless the account's options refuse that."""
    given = _given(webhook, HEADERS_V3)
    text = _signed_text(webhook, is_v3=bool(given))
    if not given and not (isinstance(account.options, Options) and account.options.require_v3):
        given = _given(webhook, HEADERS_V2)
    if text is None:
        return False
    expected = (signature.hmac_base64(secret, text) for secret in signature.usable(account.secrets))
    return signature.matches_any(expected, given)


def signed_text(webhook: Webhook, account: Account) -> bytes | None:
    """Return URL, parameters and nonce as version 3 signs them, or URL and nonce of version 2; None without a nonce."""
    return _signed_text(webhook, is_v3=bool(_given(webhook, HEADERS_V3)))


def _signed_text(webhook: Webhook, *, is_v3: bool) -> bytes | None:
    nonce = webhook.headers.first(NONCE_V3 if is_v3 else NONCE_V2)
    if nonce is None:
        return None
    url, _, query = webhook.url.partition("#")[0].partition("?")
    address = url.encode("utf-8", "replace")
    if not is_v3:
        return address + nonce
    try:
        asked = forms.fields(query.encode("latin-1", "replace")) if query else ()
        told = forms.fields(webhook.body) if webhook.method != "GET" else ()
    except Malformed:
        return None
    parameters = "?" if asked or told else ""
    parameters += "&".join([f"{name}={value}" for name, value in sorted(asked)])
    parameters += "." if asked and told else ""
    parameters += "".join([name + value for name, value in sorted(told)])
    return b"%s%s.%s" % (address, forms.to_bytes(parameters), nonce)


def _given(webhook: Webhook, headers: tuple[str, str]) -> list[bytes]:
    """Return the signatures in these headers; none if the request has neither of them."""
    return [each.strip() for header in headers for value in webhook.headers.all(header) for each in value.split(b",")]


# Asking ---------------------------------------------------------------------------------------------------------------


class _Record(msgspec.Struct):
    message_uuid: Raw = ABSENT
    message_state: Raw = ABSENT
    message_direction: Raw = ABSENT
    message_type: Raw = ABSENT
    to_number: Raw = ABSENT
    error_code: Raw = ABSENT


_record: Final = decoding.json_reader(_Record, "answer")


def ask(known: Known, polling: Polling) -> Ask:
    """Ask for the record of one message."""
    path = asking.path("v1", "Account", polling.account or "", "Message", known.provider_message_id)
    return Ask(f"{path}/", asking.basic(polling, polling.account))


def read(body: bytes, known: Known, account: Account) -> Parsed:
    """Read the record of a message. Its one time is that of sending, so the status has none."""
    told = _record(body)
    word = decoding.required(decoding.word(loose(told.message_state)), "message_state")
    if decoding.word(loose(told.message_direction)) == "inbound" or word.strip().lower() in INBOUND:
        return Parsed(ignored=1)
    message_id = decoding.required(decoding.identifier(loose(told.message_uuid)), "message_uuid")
    channel, transport = channels.place_of(loose(told.message_type))
    to, code = decoding.identifier(loose(told.to_number)), decoding.identifier(loose(told.error_code))
    observation = Observation(
        reference=message_id,
        provider_message_id=message_id,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        error_code=code if code and code.strip("0 ") else None,
        channel=channel,
        transport=transport,
        recipient=decoding.recipient(to),
        recipient_raw=to,
        item=body,
    )
    return Parsed(observations=(observation,))


POLLS: Final = Polls(base_url="https://api.plivo.com", ask=ask, read=read, needs=frozenset({"account"}))


PROVIDER: Final = Provider(
    name="plivo",
    channels=frozenset({Channel.SMS, Channel.WHATSAPP}),
    content_types=frozenset({"application/x-www-form-urlencoded"}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    methods=frozenset({"POST", "GET"}),
    options=Options,
    signed_text=signed_text,
    polls=POLLS,
)
