"""Telnyx: message webhooks (SMS, MMS, RCS, WhatsApp). Read on 2026-11-21:

https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks
https://developers.telnyx.com/api-reference/callbacks/delivery-update
https://developers.telnyx.com/docs/messaging/messages/error-codes

What identifies a message: `payload.id`; a group MMS has one for all its recipients, so the recipient is then part of
the reference. What identifies a report across resends: `data.id`. Whose clock: `data.occurred_at`, with a zone. Order
and duplicates: neither is promised; three attempts at each address, an answer must come within two seconds, and
`meta.attempt` only counts.

The outcome is in `to[].status`. The name of the event tells none: message.finalized comes for failures too.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache, partial
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import asking, channels, decoding, instants, public_keys, signature
from ledger.wire.contract import (
    Account,
    Ask,
    Known,
    Malformed,
    Parsed,
    Polling,
    Polls,
    Provider,
    Unreadable,
    Webhook,
    claim_of,
)
from ledger.wire.decoding import ABSENT, member

CLAIMS: Final[Mapping[str, Claim]] = {
    "queued": Claim(Status.QUEUED),
    "sending": Claim(Status.QUEUED),
    "sent": Claim(Status.SENT),
    "delivered": Claim(Status.DELIVERED),
    "read": Claim(Status.READ),  # WhatsApp and RCS
    "sending_failed": Claim(Status.FAILED, FailureKind.FAILED),
    "delivery_failed": Claim(Status.FAILED, FailureKind.UNDELIVERED),
    "expired": Claim(Status.FAILED, FailureKind.UNDELIVERED),
    "delivery_unconfirmed": Claim(Status.SENT, closes=True),  # final: the carrier gave no receipt
}

#: Events about messages; other products of Telnyx send others.
MESSAGE_EVENTS: Final = "message."
#: An event, or a direction, that is not about a message of ours.
INBOUND: Final = frozenset({"message.received", "inbound"})
#: Errors read of one event.
ERRORS_MAX: Final = 100
#: Of the provider's own libraries; attempts are minutes apart.
AGE_MAX: Final = timedelta(minutes=5)


class _Body(msgspec.Struct):
    data: Raw = ABSENT


class _Data(msgspec.Struct):
    id: object = None
    event_type: object = None
    occurred_at: object = None
    payload: Raw = ABSENT


class _Message(msgspec.Struct):
    id: object = None
    direction: object = None
    type: object = None
    to: Raw = ABSENT
    errors: object = None
    messaging_profile_id: object = None
    tags: object = None


class _Recipient(msgspec.Struct):
    phone_number: object = None
    status: object = None


_body: Final = decoding.json_reader(_Body, "body")
_data: Final = decoding.lenient_reader(_Data, "data")
_message: Final = decoding.lenient_reader(_Message, "data.payload")
_recipient: Final = decoding.lenient_reader(_Recipient, "data.payload.to[]")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read the status of every recipient. Raises Malformed for anything but a JSON object."""
    told = _body(webhook.body)
    try:
        data = _data(told.data)
        event = (decoding.word(data.event_type) or MESSAGE_EVENTS).strip().lower()
        if not event.startswith(MESSAGE_EVENTS) or event in INBOUND:
            return Parsed(ignored=1)
        message = _message(data.payload)
        if (decoding.word(message.direction) or "").strip().lower() in INBOUND:
            return Parsed(ignored=1)
        message_id = decoding.required(decoding.identifier(message.id), "data.payload.id")
        return _of_recipients(data, message, message_id, webhook.body)
    except Malformed as problem:
        return Parsed(unreadable=(Unreadable(str(problem), webhook.body),))


def _of_recipients(data: _Data, message: _Message, message_id: str, body: bytes) -> Parsed:
    """Return what is said about each recipient. Raises Malformed for a message without a list of them."""
    recipients = decoding.json_items(bytes(message.to))
    if len(recipients) == 1:
        return decoding.single(
            body, lambda: _observation(data, message, message_id, body, recipients[0], is_group=False)
        )
    batch = decoding.Batch()
    batch.observe(recipients, partial(_observation, data, message, message_id, body, is_group=True))
    return batch.parsed()


def _observation(
    data: _Data, message: _Message, message_id: str, body: bytes, raw: Raw, *, is_group: bool
) -> Observation:
    """Return what an event says about one recipient."""
    recipient = _recipient(raw)
    word = decoding.required(decoding.word(recipient.status), "data.payload.to[].status")
    address = decoding.identifier(recipient.phone_number)
    number = decoding.recipient(address)
    reference, item = message_id, body
    if is_group:
        reference = decoding.shared_reference(reference, decoding.required(number, "data.payload.to[].phone_number"))
        item = decoding.own_evidence(body, raw)
    claim = claim_of(CLAIMS, word)
    channel, transport = channels.place_of(message.type)
    error = _error(message.errors, lambda error: not is_group or _is_about(error, number, claim))
    tags = message.tags
    return Observation(
        reference=reference,
        provider_message_id=message_id,
        provider_status=word,
        claim=claim,
        occurred_at=instants.iso8601(data.occurred_at),
        event_id=decoding.identifier(data.id),
        error_code=decoding.identifier(member(error, "code")),
        error_text=decoding.text(member(error, "detail")) or decoding.text(member(error, "title")),
        channel=channel,
        transport=transport,
        recipient=number,
        recipient_raw=address,
        provider_account=decoding.identifier(message.messaging_profile_id),
        client_reference=decoding.text(tags[0]) if isinstance(tags, list) and tags else None,
        item=item,
    )


def _error(errors: object, is_meant: Callable[[object], bool]) -> object:
    """Return the first error that is meant; None if there is none."""
    return next(filter(is_meant, errors[:ERRORS_MAX]), None) if isinstance(errors, list) else None


def _is_about(error: object, number: str | None, claim: Claim) -> bool:
    """Tell whether an error of a group's event is about this recipient; one that names none is about who failed."""
    named = decoding.identifier(member(member(error, "meta"), "to"))
    return claim.status is Status.FAILED if named is None else decoding.recipient(named) == number


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check the Ed25519 signature over time and body, not older than five minutes, under one of the public keys."""
    text, signed_at = signed_text(webhook, account), webhook.headers.first("telnyx-timestamp")
    if text is None or not signature.is_fresh_at(signed_at, webhook.received_at, AGE_MAX):
        return False
    keys = [key for key in map(_key, signature.usable(account.secrets)) if key]
    given = map(signature.unbase64, webhook.headers.all("telnyx-signature-ed25519"))
    return any(public_keys.ed25519_matches(keys, text, value) for value in given if value)


def signed_text(webhook: Webhook, account: Account) -> bytes | None:
    """Return time and body, joined by a vertical bar."""
    signed_at = webhook.headers.first("telnyx-timestamp")
    return None if signed_at is None else signed_at + b"|" + webhook.body


_key: Final = lru_cache(256)(signature.unbase64)  #: from a configured secret


def check_secret(secret: bytes, account: Account) -> str | None:
    """Say what is wrong with a secret that is no public key."""
    key = _key(secret)
    return None if key and len(key) == 32 else "is no public key: the base64 form of 32 bytes"


# Asking ---------------------------------------------------------------------------------------------------------------


def ask(known: Known, polling: Polling) -> Ask:
    """Ask for one message, which may have several recipients."""
    return Ask(asking.path("v2", "messages", known.provider_message_id), asking.token(polling))


def read(body: bytes, known: Known, account: Account) -> Parsed:
    """Read the status of every recipient of a message. Raises Malformed for an answer without a message."""
    message = _message(_body(body).data)
    message_id = decoding.required(decoding.identifier(message.id), "data.id")
    if (decoding.word(message.direction) or "").strip().lower() in INBOUND:
        return Parsed(ignored=1)
    return _of_recipients(_Data(), message, message_id, body)


POLLS: Final = Polls(base_url="https://api.telnyx.com", ask=ask, read=read)


PROVIDER: Final = Provider(
    name="telnyx",
    channels=frozenset({Channel.SMS, Channel.WHATSAPP}),
    content_types=frozenset({"application/json"}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    check_secret=check_secret,
    signed_text=signed_text,
    polls=POLLS,
)
