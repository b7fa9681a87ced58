"""Twilio Programmable Messaging: status callbacks and Event Streams. Read on 2026-11-21:

https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
https://www.twilio.com/docs/events/event-types/messaging/outbound-message
https://www.twilio.com/docs/usage/webhooks/webhooks-security
https://www.twilio.com/docs/usage/webhooks/webhook-shared-keys

What identifies a message: MessageSid, one recipient each. What identifies a report across resends: in Event Streams
the CloudEvent's id; in a classic callback nothing (the idempotency token names a delivery and is missing on the first).
Whose clock: Event Streams give an instant; classic callbacks give none, and RawDlrDoneDate is a carrier's local time of
unknown zone, so it stays text. Order and duplicates: order is not promised; a lost callback is not repeated unless the
callback URL asks for it; a signature is valid for ever, so a replay is a duplicate like any other.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import decoding, instants, signature
from ledger.wire.contract import Account, Headers, Malformed, Parsed, Provider, Unreadable, Webhook, claim_of
from ledger.wire.decoding import ABSENT, loose

CLAIMS: Final[Mapping[str, Claim]] = {
    "accepted": Claim(Status.QUEUED),  # by a messaging service that has not chosen a sender
    "scheduled": Claim(Status.QUEUED),
    "queued": Claim(Status.QUEUED),
    "sending": Claim(Status.QUEUED),  # being handed to the carrier
    "sent": Claim(Status.SENT),  # the carrier took it; the last word where there are no delivery reports
    "partially_delivered": Claim(Status.SENT),  # in the API's list without a meaning: not a delivery of the message
    "delivered": Claim(Status.DELIVERED),
    "read": Claim(Status.READ),  # WhatsApp and RCS with receipts on
    "failed": Claim(Status.FAILED, FailureKind.FAILED),  # never left Twilio
    "canceled": Claim(Status.FAILED, FailureKind.FAILED),  # a scheduled message was withdrawn before it was sent
    "undelivered": Claim(Status.FAILED, FailureKind.UNDELIVERED),
}

#: Words that are no status of a message from us: inbound messages, and clicks on shortened links (same callback URL).
OTHER_SUBJECTS: Final = frozenset({"receiving", "received", "click"})
#: Event types about messages from us; everything else in a stream is another subscription.
OUTBOUND_EVENTS: Final = "com.twilio.messaging.message."
#: Channel and transport by the prefix of an address, or by ChannelPrefix.
CHANNELS: Final[Mapping[str, tuple[Channel | None, str | None]]] = {
    "": (Channel.SMS, None),
    "whatsapp": (Channel.WHATSAPP, None),
    "rcs": (Channel.SMS, "rcs"),
    "messenger": (None, "messenger"),
}
FORM: Final = "application/x-www-form-urlencoded"
EVENTS: Final = ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json")

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?:[^/?#]*@)?(?P<host>\[[^]/?#@]*]|[^:/?#@]*)(?::(?P<port>[0-9]+))?(?P<rest>[/?][^#]*)?(?:#.*)?",
    re.DOTALL | re.IGNORECASE,
)
_DEFAULT_PORTS: Final = {"https": "443", "http": "80"}
_BODY_DIGEST: Final = re.compile(rb"[?&]bodySHA256=([0-9a-f]{64})(?=&|\Z)")


class _Data(msgspec.Struct, rename="camel"):
    message_sid: Raw = ABSENT
    message_status: Raw = ABSENT
    timestamp: Raw = ABSENT
    account_sid: Raw = ABSENT
    to: Raw = ABSENT
    error_code: Raw = ABSENT
    raw_dlr_done_date: Raw = ABSENT


class _CloudEvent(msgspec.Struct):
    type: str | None = None
    id: Raw = ABSENT
    time: Raw = ABSENT
    data: Raw = ABSENT
    event_type: Raw = ABSENT  #: of a link click, which is no CloudEvent


_cloud_event: Final = decoding.json_reader(_CloudEvent, "event")
_data: Final = decoding.json_reader(_Data, "event.data")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read a classic callback or a batch of Event Streams. Raises Malformed for a callback that names no message."""
    if _is_form(webhook.headers):
        return _callback(webhook.body)
    batch = decoding.Batch()
    batch.observe(decoding.json_items(webhook.body), _event)
    return batch.parsed()


def _callback(body: bytes) -> Parsed:
    fields = decoding.form_texts(decoding.form_fields(body))
    sid = decoding.identifier(fields.get("MessageSid")) or decoding.identifier(fields.get("SmsSid"))
    word = decoding.word(fields.get("MessageStatus")) or decoding.word(fields.get("SmsStatus"))
    if _is_other(word or fields.get("EventType") or fields.get("event_type")):
        return Parsed(ignored=1)
    if sid is None:
        raise Malformed("body: no MessageSid")
    if word is None:
        return Parsed(unreadable=(Unreadable("body: no MessageStatus", body),))
    to = decoding.word(fields.get("To"))
    channel, transport, recipient = _address(to, fields.get("ChannelPrefix"))
    observation = Observation(
        reference=sid,
        provider_message_id=sid,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        date_text=decoding.word(fields.get("RawDlrDoneDate")),
        error_code=decoding.word(fields.get("ErrorCode")),
        error_text=decoding.text(fields.get("ChannelStatusMessage") or fields.get("ErrorMessage")),
        channel=channel,
        transport=transport,
        recipient=recipient,
        recipient_raw=to,
        provider_account=decoding.word(fields.get("AccountSid")),
        item=body,
    )
    return Parsed(observations=(observation,))


def _event(raw: Raw) -> Observation | None:
    event = _cloud_event(raw)
    is_outbound = not event.type or event.type.startswith(OUTBOUND_EVENTS)
    if not is_outbound or _is_other(decoding.word(loose(event.event_type))):
        return None
    data = _data(event.data)
    word = decoding.required(decoding.word(loose(data.message_status)), "event.data.messageStatus")
    if _is_other(word):
        return None
    sid = decoding.required(decoding.identifier(loose(data.message_sid)), "event.data.messageSid")
    to = decoding.word(loose(data.to))
    channel, transport, recipient = _address(to, None)
    return Observation(
        reference=sid,
        provider_message_id=sid,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=instants.iso8601(loose(data.timestamp)) or instants.iso8601(loose(event.time)),
        event_id=decoding.identifier(loose(event.id)),
        date_text=decoding.identifier(loose(data.raw_dlr_done_date)),
        error_code=decoding.identifier(loose(data.error_code)),
        channel=channel,
        transport=transport,
        recipient=recipient,
        recipient_raw=to,
        provider_account=decoding.identifier(loose(data.account_sid)),
        item=bytes(raw),
    )


def _is_other(subject: str | None) -> bool:
    return (subject or "").strip().lower() in OTHER_SUBJECTS


def _address(to: str | None, channel_prefix: str | None) -> tuple[Channel | None, str | None, str | None]:
    """Return channel, transport and recipient. ChannelToAddress would be masked, so it is never used."""
    prefix, _, address = to.rpartition(":") if to else ("", "", "")
    known = (prefix or channel_prefix or "").strip().lower()
    channel, transport = CHANNELS.get(known, (None, None)) if to or known else (None, None)
    phone = decoding.phone_number(address) if channel else None  # a Messenger id may look like one
    return channel, transport, phone or to


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check the signature over the configured URL and every form field, or over the URL that digests a JSON body."""
    given = webhook.headers.all("x-twilio-signature")
    algorithm, urls = _algorithm(webhook.headers), _signed_urls(webhook.url)
    if not given or algorithm is None or not urls:
        return False
    fields = b""
    if _is_form(webhook.headers):
        try:
            pairs = set(decoding.form_fields(webhook.body))
        except Malformed:
            return False
        fields = b"".join(name + value for name, value in sorted(pairs))
    elif not signature.matches_any([signature.sha256_hex(webhook.body)], _BODY_DIGEST.findall(urls[0])):
        return False
    secrets = signature.usable(account.secrets)
    expected = (signature.hmac_base64(secret, url + fields, algorithm) for secret in secrets for url in urls)
    return signature.matches_any(expected, given)


def _is_form(headers: Headers) -> bool:
    media_type, _, _ = (headers.first("content-type") or b"").partition(b";")
    return media_type.strip().lower() == FORM.encode()


def _algorithm(headers: Headers) -> signature.Algorithm | None:
    """Return SHA-1, or SHA-256 if the request names it, exactly once, for a shared key; None if it names another."""
    settings = headers.all("x-twilio-webhooks-signature-settings")
    if not settings:
        return "sha1"
    parts = (part.partition(b"=") for part in b",".join(settings).split(b","))
    algorithms = [value.strip() for name, _, value in parts if name.strip() == b"algorithm"]
    return "sha256" if algorithms == [b"HMAC_SHA256"] else None


def _signed_urls(url: str) -> list[bytes]:
    """Return what Twilio may have signed: no user info, no fragment; with its port and without, as the SDKs try."""
    parts = _URL.fullmatch(url)
    if parts is None:
        return []
    base, port, rest = f"{parts['scheme']}://{parts['host']}", parts["port"], parts["rest"] or ""
    default = _DEFAULT_PORTS[parts["scheme"].lower()]
    return [f"{base}{named}{rest}".encode("utf-8", "replace") for named in ("", f":{port or default}")]


PROVIDER: Final = Provider(
    name="twilio",
    channels=frozenset({Channel.SMS, Channel.WHATSAPP}),
    content_types=frozenset({FORM, *EVENTS}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
)
