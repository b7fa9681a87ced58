"""Twilio Programmable Messaging: status callbacks, Event Streams, and the Messages resource. Read on 2026-11-21:

https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
https://www.twilio.com/docs/events/event-types/messaging/outbound-message
https://www.twilio.com/docs/messaging/api/message-resource
https://www.twilio.com/docs/usage/webhooks/webhooks-security
https://www.twilio.com/docs/usage/webhooks/webhook-shared-keys

What identifies a message: MessageSid, one recipient each. What identifies a report across resends: in Event Streams
the CloudEvent's id; in a classic callback nothing (the idempotency token names a delivery and is missing on the first).
Whose clock: Event Streams give an instant; classic callbacks give none, and RawDlrDoneDate is a carrier's local time of
unknown zone, so it stays text. Order and duplicates: order is not promised; a lost callback is not repeated unless the
callback URL asks for it; a signature is valid for ever, so a replay is a duplicate like any other.

The Messages resource tells how a message stands. Its `date_updated` moves for a price or a redaction too, so it is no
time of a status: it stays text, like the carrier's date. So an answer that says what a callback said says nothing new.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import asking, decoding, forms, instants, signature
from ledger.wire.contract import (
    Account,
    Ask,
    Fault,
    Headers,
    Known,
    Malformed,
    Page,
    Parsed,
    Polling,
    Polls,
    Provider,
    Unreadable,
    Walk,
    Webhook,
    claim_of,
)
from ledger.wire.decoding import ABSENT, loose, member

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
#: The code of an answer that says so.
TOO_MANY_REQUESTS: Final = 20429
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
    fields = forms.texts(forms.fields(body))
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
    algorithm, is_form = _algorithm(webhook.headers), _is_form(webhook.headers)
    texts = _signed_texts(webhook, is_form)
    if not given or algorithm is None or not texts:
        return False
    if not is_form:
        digests = _BODY_DIGEST.findall(texts[0])
        if not signature.matches_any([signature.sha256_hex(webhook.body)], digests):
            return False
    secrets = signature.usable(account.secrets)
    expected = (signature.hmac_base64(secret, text, algorithm) for secret in secrets for text in texts)
    return signature.matches_any(expected, given)


def signed_text(webhook: Webhook, account: Account) -> bytes | None:
    """Return the URL without a default port, followed by the form fields. Twilio may also name the port."""
    if not webhook.headers.all("x-twilio-signature"):
        return None
    return next(iter(_signed_texts(webhook, _is_form(webhook.headers))), None)


def _signed_texts(webhook: Webhook, is_form: bool) -> list[bytes]:
    """Return what may have been signed; nothing for an odd URL, or a form beyond any limit."""
    fields = b""
    if is_form:
        try:
            pairs = set(forms.fields(webhook.body))
        except Malformed:
            return []
        fields = forms.to_bytes("".join([name + value for name, value in sorted(pairs)]))
    urls = _signed_urls(webhook.url) if webhook.query else _own_urls(webhook.url)
    return [url + fields for url in urls]


def _is_form(headers: Headers) -> bool:
    return headers.media_type() == FORM


def _algorithm(headers: Headers) -> signature.Algorithm | None:
    """Return SHA-1, or SHA-256 if the request names it, exactly once, for a shared key; None if it names another."""
    settings = headers.all("x-twilio-webhooks-signature-settings")
    if not settings:
        return "sha1"
    parts = (part.partition(b"=") for part in b",".join(settings).split(b","))
    algorithms = [value.strip() for name, _, value in parts if name.strip() == b"algorithm"]
    return "sha256" if algorithms == [b"HMAC_SHA256"] else None


def _signed_urls(url: str) -> Sequence[bytes]:
    """Return what Twilio may have signed: no user info, no fragment; with its port and without, as the SDKs try."""
    parts = _URL.fullmatch(url)
    if parts is None:
        return ()
    base, port, rest = f"{parts['scheme']}://{parts['host']}", parts["port"], parts["rest"] or ""
    default = _DEFAULT_PORTS[parts["scheme"].lower()]
    return tuple(f"{base}{named}{rest}".encode("utf-8", "replace") for named in ("", f":{port or default}"))


_own_urls: Final = lru_cache(256)(_signed_urls)  #: of an account as configured: nobody can fill this from outside


def whole(item: bytes, _account: Account) -> bytes:
    """Return a batch of this event alone; a classic callback is a request by itself."""
    return b"[" + item + b"]" if item.lstrip()[:1] == b"{" else item


# Asking ---------------------------------------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    sid: Raw = ABSENT
    status: Raw = ABSENT
    direction: Raw = ABSENT
    to: Raw = ABSENT
    account_sid: Raw = ABSENT
    error_code: Raw = ABSENT
    error_message: Raw = ABSENT
    date_updated: Raw = ABSENT


class _List(msgspec.Struct):
    messages: list[Raw]
    next_page_uri: Raw = ABSENT


_message: Final = decoding.json_reader(_Message, "answer")
_list: Final = decoding.json_reader(_List, "answer")


def ask(known: Known, polling: Polling) -> Ask:
    """Ask for one message, of the account or subaccount that sent it."""
    return Ask(f"{_account(known.provider_account, polling)}{asking.path('Messages', known.provider_message_id)}.json",
               asking.basic(polling, polling.account))  # fmt: skip


def _account(told: str | None, polling: Polling) -> str:
    sid = told if told is not None and told.startswith("AC") else polling.account or ""
    return asking.path("2010-04-01", "Accounts", sid)


def read(body: bytes, known: Known, account: Account) -> Parsed:
    """Read the answer about one message."""
    observation = _message_observation(asking.whole(body))
    return Parsed(ignored=1) if observation is None else Parsed(observations=(observation,))


def _message_observation(raw: Raw) -> Observation | None:
    told = _message(raw)
    word = decoding.required(decoding.word(loose(told.status)), "status")
    if (decoding.word(loose(told.direction)) or "").strip().lower() == "inbound" or _is_other(word):
        return None
    sid = decoding.required(decoding.identifier(loose(told.sid)), "sid")
    to = decoding.word(loose(told.to))
    channel, transport, recipient = _address(to, None)
    code = decoding.identifier(loose(told.error_code))
    return Observation(
        reference=sid,
        provider_message_id=sid,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        date_text=decoding.word(loose(told.date_updated)),
        error_code=code,
        # Beside a code the text says nothing more than callbacks with that code do, and it changes without notice.
        error_text=None if code else decoding.text(loose(told.error_message)),
        channel=channel,
        transport=transport,
        recipient=recipient,
        recipient_raw=to,
        provider_account=decoding.identifier(loose(told.account_sid)),
        item=bytes(raw),
    )


def walk_first(since: date, polling: Polling) -> Ask:
    """Ask for everything sent on a day or later, newest first."""
    parameters = asking.query({"DateSent>": since.isoformat(), "PageSize": "1000"})
    return Ask(f"{_account(None, polling)}/Messages.json{parameters}", asking.basic(polling, polling.account))


def walk_follow(target: str, polling: Polling) -> Ask:
    return Ask(target, asking.basic(polling, polling.account))


def walk_read(body: bytes, account: Account) -> Page:
    """Read a page of the list, inbound messages skipped. Raises Malformed for anything but a list of messages."""
    told = _list(body)
    batch = decoding.Batch()
    batch.observe(told.messages, _message_observation)
    polling = account.poll
    return Page(batch.parsed(), None if polling is None else asking.next_target(loose(told.next_page_uri), polling))


def fault(body: bytes) -> Fault | None:
    """Recognise "too many requests" by its code, whatever the status."""
    return Fault.THROTTLED if member(asking.anything(body), "code") == TOO_MANY_REQUESTS else None


POLLS: Final = Polls(
    base_url="https://api.twilio.com",
    ask=ask,
    read=read,
    needs=frozenset({"account"}),
    walk=Walk(first=walk_first, follow=walk_follow, read=walk_read),
    fault=fault,
)

PROVIDER: Final = Provider(
    name="twilio",
    channels=frozenset({Channel.SMS, Channel.WHATSAPP}),
    content_types=frozenset({FORM, *EVENTS}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    whole=whole,
    signed_text=signed_text,
    polls=POLLS,
)
