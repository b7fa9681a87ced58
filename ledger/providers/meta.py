"""Meta WhatsApp Cloud API: status webhooks. Read on 2026-11-21:

https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status
https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/create-webhook-endpoint
https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids

What identifies a message: `id` (a "wamid", which contains the recipient's number). A group message has one wamid and
one status a participant, so the participant is part of the reference. What identifies a report across resends: nothing
of Meta's; resends are byte-equal in id, status and timestamp. Whose clock: `timestamp`, Unix seconds as text, when the
webhook was triggered. Order and duplicates: neither is promised; `read` may come without `delivered`, several statuses
share a second, retries go to every subscribed app for days, and anything but HTTP 200 is retried.

One request nests entries, changes and statuses, mixed with inbound messages; every level is read item by item.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import decoding, instants, signature
from ledger.wire.contract import Account, Parsed, Provider, Webhook, claim_of
from ledger.wire.decoding import ABSENT, loose, member

CLAIMS: Final[Mapping[str, Claim]] = {
    "accepted": Claim(Status.QUEUED),  # send response and Message History: before "sent"
    "sent": Claim(Status.SENT),  # left Meta's servers
    "delivered": Claim(Status.DELIVERED),  # on the recipient's device
    "read": Claim(Status.READ),
    "played": Claim(Status.READ),  # a voice message was played for the first time; comes after "read"
    "deleted": Claim(Status.DELETED),  # by the recipient; older pages and Message History
    "failed": Claim(Status.FAILED, FailureKind.FAILED),
    "error": Claim(Status.FAILED, FailureKind.FAILED),  # Message History's word for "failed"
    "warning": Claim(Status.UNKNOWN),  # a catalogue item is missing; the message may still be delivered
}

#: Statuses that share the array and are not about a message: a payment "failed" must not fail the message.
OTHER_SUBJECTS: Final = frozenset({"payment", "call"})
#: Errors read of one status, and of one value.
ERRORS_MAX: Final = 100
#: Joins wamid and participant. A wamid is base64, so it cannot contain one.
PARTICIPANT_SEPARATOR: Final = "|"
#: What Meta may ask us to echo. Narrow, because the answer is sent back to whoever asks.
_CHALLENGE: Final = re.compile(r"[0-9A-Za-z_-]{1,100}", re.ASCII)


class _Envelope(msgspec.Struct):
    entry: list[Raw]


class _Entry(msgspec.Struct):
    changes: list[Raw] | None = None


class _Change(msgspec.Struct):
    field: str | None = None
    value: Raw = ABSENT


class _Value(msgspec.Struct):
    metadata: Raw = ABSENT
    statuses: list[Raw] | None = None
    messages: Raw = ABSENT
    errors: Raw = ABSENT


class _Status(msgspec.Struct):
    id: Raw = ABSENT
    status: Raw = ABSENT
    type: Raw = ABSENT
    timestamp: Raw = ABSENT
    recipient_id: Raw = ABSENT  #: digits without plus, a group's id, or absent for a user known by name only
    recipient_type: Raw = ABSENT
    recipient_user_id: Raw = ABSENT
    recipient_participant_id: Raw = ABSENT  #: absent where the group was written to by user ids
    recipient_participant_user_id: Raw = ABSENT
    biz_opaque_callback_data: Raw = ABSENT
    errors: Raw = ABSENT


_envelope: Final = decoding.json_reader(_Envelope, "body")
_entry: Final = decoding.json_reader(_Entry, "entry[]")
_change: Final = decoding.json_reader(_Change, "changes[]")
_value: Final = decoding.json_reader(_Value, "changes[].value")
_status: Final = decoding.json_reader(_Status, "statuses[]")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read every status of every change of every entry. Raises Malformed for a body without entries."""
    batch = decoding.Batch()
    for entry in batch.each(_envelope(webhook.body).entry, _entry):
        batch.ignored += entry.changes is None
        for value in batch.each(entry.changes or (), _messages_value):
            if value is None:
                batch.ignored += 1
                continue
            number = decoding.identifier(member(loose(value.metadata), "phone_number_id"))
            batch.observe(value.statuses or (), partial(_observation, number=number))
            batch.alerts += [code for code, _ in _errors(value.errors) if code]
            batch.ignored += decoding.count(value.messages)
    return batch.parsed()


def _messages_value(raw: Raw) -> _Value | None:
    """Return the value of a change about messages; None for any other field (calls have `statuses` of their own)."""
    change = _change(raw)
    if change.field and change.field != "messages":
        return None
    return _value(change.value)


def _observation(raw: Raw, number: str | None) -> Observation | None:
    told = _status(raw)
    if decoding.word(loose(told.type)) in OTHER_SUBJECTS:
        return None
    wamid = decoding.required(decoding.identifier(loose(told.id)), "statuses[].id")
    word = decoding.required(decoding.word(loose(told.status)), "statuses[].status")
    recipient = decoding.identifier(loose(told.recipient_id))
    by_phone = _participant(told.recipient_participant_id)
    by_user_id = _participant(told.recipient_participant_user_id)
    participant = by_phone or by_user_id
    code, text = next(iter(_errors(told.errors)), (None, None))
    return Observation(
        reference=f"{wamid}{PARTICIPANT_SEPARATOR}{participant}" if participant else wamid,
        provider_message_id=wamid,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=instants.unix_seconds(loose(told.timestamp)),
        error_code=code,
        error_text=text,
        recipient=recipient if loose(told.recipient_type) == "group" else _plus(recipient),
        recipient_raw=recipient,
        recipient_user_id=decoding.identifier(loose(told.recipient_user_id)) or by_user_id,
        participant=participant,
        provider_account=number,
        client_reference=decoding.text(loose(told.biz_opaque_callback_data)),
        item=bytes(raw),
    )


def _participant(raw: Raw) -> str | None:
    """Return a member of a group. Raises Malformed for an unusable one: without it the status is another's."""
    value = loose(raw)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return decoding.required(decoding.identifier(value), "statuses[] participant")


def _plus(recipient: str | None) -> str | None:
    return recipient and (decoding.phone_number(recipient) or recipient)


def _errors(raw: Raw) -> list[tuple[str | None, str | None]]:
    """Return code and most detailed text of every error that has either. Titles change over time; codes do not."""
    errors = loose(raw)
    found: list[tuple[str | None, str | None]] = []
    for error in errors[:ERRORS_MAX] if isinstance(errors, list) else ():
        details = member(member(error, "error_data"), "details")
        texts = (decoding.text(value) for value in (details, member(error, "message"), member(error, "title")))
        code, text = decoding.identifier(member(error, "code")), next(filter(None, texts), None)
        if code or text:
            found.append((code, text))
    return found


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check HMAC-SHA256 of the raw body under an app secret. The older SHA-1 header proves nothing."""
    expected = (b"sha256=" + signature.hmac_hex(secret, webhook.body) for secret in signature.usable(account.secrets))
    return signature.matches_any(expected, webhook.headers.all("x-hub-signature-256"))


def handshake(webhook: Webhook, account: Account) -> str | None:
    """Return the challenge of a subscription that knows our verify token."""
    token, challenge = webhook.parameter("hub.verify_token"), webhook.parameter("hub.challenge")
    if account.verify_token is None or token is None or challenge is None:
        return None
    known = signature.is_equal(account.verify_token.reveal(), token.encode("utf-8", "replace"))
    asked = webhook.parameter("hub.mode") == "subscribe" and _CHALLENGE.fullmatch(challenge)
    return challenge if known and asked else None


PROVIDER: Final = Provider(
    name="meta",
    channels=frozenset({Channel.WHATSAPP}),
    content_types=frozenset({"application/json"}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    handshake=handshake,
)
