"""MessageBird and Bird: status reports of the SMS API, and subscriptions of the Channels API. Read on 2026-11-21:

https://developers.messagebird.com/api/sms-messaging/#status-reports
https://developers.messagebird.com/api/#verifying-http-requests
https://docs.bird.com/api/channels-api/message-status-and-interactions
https://docs.bird.com/api/notifications-api/api-reference/webhooks/verifying-a-webhook

What identifies a message: `id`; in the SMS API all recipients of a message share it, so the recipient is part of the
reference. What identifies a report across resends: nothing. Whose clock: `statusDatetime` and `lastStatusAt`, with a
zone. Order and duplicates: neither is promised; Channels repeats for eight hours or more.

Three signatures are in use. SMS reports come by GET with a token, good for a minute, that names the digest of the whole
URL. Channels signs time, URL and body, and repeats a request with the time of the first attempt, so a narrow window
would lose reports. The older scheme has the same headers and signs the sorted query in place of the URL.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from hashlib import sha256
from operator import itemgetter
from typing import Final
from urllib.parse import urlencode

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import asking, channels, decoding, forms, instants, jwt, signature
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
from ledger.wire.decoding import ABSENT, loose, member

CLAIMS: Final[Mapping[str, Claim]] = {
    "scheduled": Claim(Status.QUEUED),
    "accepted": Claim(Status.QUEUED),
    "processing": Claim(Status.QUEUED),
    "sent": Claim(Status.SENT),
    "buffered": Claim(Status.SENT),  # the handset is off; delivery is tried again
    "delivered": Claim(Status.DELIVERED),
    "read": Claim(Status.READ),  # an interaction, not a status of its own
    "opened": Claim(Status.READ),
    "expired": Claim(Status.FAILED, FailureKind.UNDELIVERED),
    "delivery_failed": Claim(Status.FAILED, FailureKind.UNDELIVERED),
    "sending_failed": Claim(Status.FAILED, FailureKind.FAILED),
    "skipped": Claim(Status.FAILED, FailureKind.FAILED),
    "deleted": Claim(Status.UNKNOWN),  # by the sender, from Bird's own records
}

#: Kinds of events about messages from us, after the channel's name.
OUTBOUND, INTERACTION = "outbound", "interaction"
ISSUER: Final = "MessageBird"
ALGORITHMS: Final = ("HS256", "HS384", "HS512")
#: Of the provider's own libraries.
LEEWAY: Final = timedelta(seconds=1)
#: Repeats keep the time of the first attempt; some came after a day.
AGE_MAX: Final = timedelta(hours=48)


class _Body(msgspec.Struct):
    event: object = None
    payload: Raw = ABSENT


class _Message(msgspec.Struct, rename="camel"):
    id: object = None
    message_id: object = None  #: of an interaction
    status: object = None
    type: object = None  #: of an interaction
    reason: object = None
    reference: object = None
    receiver: object = None
    last_status_at: object = None
    created_at: object = None
    channel_id: object = None
    error: object = None
    failure: object = None


_body: Final = decoding.lenient_reader(_Body, "body")
_message: Final = decoding.lenient_reader(_Message, "payload")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read an SMS report or an event of Channels. Raises Malformed for a body that is neither."""
    told = _body(webhook.body) if decoding.is_object(webhook) else None
    return decoding.single(webhook.content, lambda: _event(told, webhook.body) if told else _report(webhook))


def _report(webhook: Webhook) -> Observation:
    told = forms.texts(forms.fields(webhook.content))
    message_id = decoding.required(decoding.word(told.get("id")), "id")
    word = decoding.required(decoding.word(told.get("status")), "status")
    to = decoding.required(decoding.word(told.get("recipient")), "recipient")
    number, code = decoding.phone_number(to) or to, decoding.word(told.get("statusErrorCode"))
    claim = claim_of(CLAIMS, word)
    failed = claim.status is Status.FAILED
    return Observation(
        reference=decoding.shared_reference(message_id, to),
        provider_message_id=message_id,
        provider_status=word,
        claim=claim,
        occurred_at=instants.iso8601(told.get("statusDatetime")),
        error_code=code if code and code.strip("0 ") else None,
        error_text=decoding.text(told.get("statusReason")) if failed else None,  # "successfully delivered" is no error
        channel=Channel.SMS,
        recipient=number,
        recipient_raw=to,
        client_reference=decoding.text(told.get("reference")),
        item=webhook.content,
    )


def _event(body: _Body, item: bytes) -> Observation | None:
    kind, _, subject = (decoding.word(body.event) or f".{OUTBOUND}").strip().lower().rpartition(".")
    if subject not in (OUTBOUND, INTERACTION):
        return None
    told = _message(body.payload)
    is_interaction = subject == INTERACTION
    word = decoding.word(told.type if is_interaction else told.status)
    if is_interaction and (word or "").strip().lower() not in CLAIMS:
        return None  # a click, for instance
    word = decoding.required(word, "payload.status")
    named = told.message_id if is_interaction else told.id
    message_id = decoding.required(decoding.identifier(named), "payload.id")
    channel, transport = channels.place_of(kind)
    contacts = member(told.receiver, "contacts")
    contact = contacts[0] if isinstance(contacts, list) and contacts else None
    address = decoding.identifier(member(contact, "identifierValue"))
    claim = claim_of(CLAIMS, word)
    code, text = _error(told, claim)
    return Observation(
        reference=message_id,
        provider_message_id=message_id,
        provider_status=word,
        claim=claim,
        occurred_at=instants.iso8601(told.created_at if is_interaction else told.last_status_at),
        error_code=code,
        error_text=text,
        channel=channel,
        transport=transport,
        recipient=decoding.recipient(address),
        recipient_raw=address,
        provider_account=decoding.identifier(told.channel_id),
        client_reference=decoding.text(told.reference),
        item=item,
    )


def _error(told: _Message, claim: Claim) -> tuple[str | None, str | None]:
    """Return code and text, from wherever they are: `error` has several codes, older events have `failure`."""
    error, failure = told.error, told.failure
    reason = told.reason if claim.status is Status.FAILED else None
    if error is None and failure is None:
        return None, decoding.text(reason)
    code = (
        decoding.identifier(member(error, "code"))
        or decoding.identifier(member(error, "meta_error_code"))
        or decoding.identifier(member(error, "carrier_error_code"))
        or decoding.identifier(member(member(failure, "source"), "code"))
        or decoding.identifier(member(failure, "code"))
    )
    text = decoding.text(member(error, "description")) or decoding.text(member(failure, "description"))
    return code, text or decoding.text(reason)


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check the token if the request carries one, else the signature over time, URL or query, and body."""
    secrets = signature.usable(account.secrets)
    tokens = webhook.headers.all("messagebird-signature-jwt")
    if tokens:
        return any(_is_token_good(token, webhook, secrets) for token in tokens)
    signed_at = webhook.headers.first("messagebird-request-timestamp") or b""
    if not signature.is_fresh_at(signed_at, webhook.received_at, AGE_MAX):
        return False
    expected = (signature.hmac_base64(secret, text) for text in _signed_texts(webhook, signed_at) for secret in secrets)
    return signature.matches_any(expected, webhook.headers.all("messagebird-signature"))


def _is_token_good(token: bytes, webhook: Webhook, secrets: list[bytes]) -> bool:
    claims = jwt.claims_of(token, secrets, ALGORITHMS)
    if claims is None or claims.get("iss") != ISSUER or not {jwt.NOT_BEFORE, jwt.EXPIRES} <= claims.keys():
        return False
    covers_body = (
        jwt.names_digest(claims, "payload_hash", webhook.body) if webhook.body else not claims.get("payload_hash")
    )
    covers_url = jwt.names_digest(claims, "url_hash", webhook.url.encode("utf-8", "replace"))
    return covers_url and covers_body and jwt.is_current(claims, webhook.received_at, LEEWAY)


def _signed_texts(webhook: Webhook, signed_at: bytes) -> Iterator[bytes]:
    """Return what Channels signs, then what the older scheme does: digests are raw bytes, not hexadecimal."""
    digest = sha256(webhook.body).digest()
    yield b"\n".join((signed_at, webhook.url.encode("utf-8", "replace"), digest))
    with suppress(Malformed):
        fields = sorted(forms.fields(webhook.query), key=itemgetter(0))
        yield b"\n".join((signed_at, urlencode(fields, encoding="latin-1").encode(), digest))


def signed_text(webhook: Webhook, account: Account) -> bytes | None:
    """Return the signed part of the token and the digest it must name; or time, URL and the body's raw digest."""
    token = webhook.headers.first("messagebird-signature-jwt")
    if token is not None:
        digest = signature.sha256_hex(webhook.url.encode("utf-8", "replace"))
        return token.rpartition(b".")[0] + b"\nurl_hash " + digest
    signed_at = webhook.headers.first("messagebird-request-timestamp")
    return None if signed_at is None else next(_signed_texts(webhook, signed_at))


def reference_of(account: Account, channel: Channel, message_id: str, recipient: str | None) -> str:
    """Name a message by id and recipient if the id is one of the SMS API; those of Channels have dashes."""
    if recipient is None or channel is not Channel.SMS or "-" in message_id:
        return message_id
    return decoding.shared_reference(message_id, recipient)


# Asking ---------------------------------------------------------------------------------------------------------------


class _Sent(msgspec.Struct):
    id: Raw = ABSENT
    direction: Raw = ABSENT
    reference: Raw = ABSENT
    recipients: Raw = ABSENT


class _Recipient(msgspec.Struct, rename="camel"):
    recipient: Raw = ABSENT
    status: Raw = ABSENT
    status_datetime: Raw = ABSENT
    status_error_code: Raw = ABSENT


_sent: Final = decoding.json_reader(_Sent, "answer")
_recipient: Final = decoding.json_reader(_Recipient, "recipients.items[]")


def ask(known: Known, polling: Polling) -> Ask | None:
    """Ask for one SMS with all its recipients. Messages of Channels are not asked about."""
    if known.channel is not Channel.SMS or known.recipient is None:
        return None
    return Ask(asking.path("messages", known.provider_message_id), asking.token(polling, "AccessKey"))


def read(body: bytes, known: Known, account: Account) -> Parsed:
    """Read the status of every recipient. Raises Malformed for an answer without an id."""
    told = _sent(body)
    message_id = decoding.required(decoding.identifier(loose(told.id)), "id")
    if decoding.word(loose(told.direction)) == "mo":
        return Parsed(ignored=1)
    batch = decoding.Batch()
    items = decoding.elements(decoding.raw_member(told.recipients, "items"))
    batch.observe(items, partial(_told_of, message_id, decoding.text(loose(told.reference))))
    return batch.parsed()


def _told_of(message_id: str, reference: str | None, raw: Raw) -> Observation:
    told = _recipient(raw)
    word = decoding.required(decoding.word(loose(told.status)), "recipients.items[].status")
    to = decoding.required(decoding.identifier(loose(told.recipient)), "recipients.items[].recipient")
    code = decoding.identifier(loose(told.status_error_code))
    return Observation(
        reference=decoding.shared_reference(message_id, to),
        provider_message_id=message_id,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=instants.iso8601(loose(told.status_datetime)),
        error_code=code if code and code.strip("0 ") else None,
        channel=Channel.SMS,
        recipient=decoding.recipient(to),
        recipient_raw=to,
        client_reference=reference,
        item=bytes(raw),
    )


POLLS: Final = Polls(base_url="https://rest.messagebird.com", ask=ask, read=read)


PROVIDER: Final = Provider(
    name="messagebird",
    channels=frozenset({Channel.SMS, Channel.WHATSAPP, Channel.VIBER}),
    content_types=frozenset({"application/json", "application/x-www-form-urlencoded"}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    methods=frozenset({"POST", "GET"}),
    signed_text=signed_text,
    reference_of=reference_of,
    polls=POLLS,
)
