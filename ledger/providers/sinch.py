"""Sinch: Conversation API delivery reports (WhatsApp, Viber Business Messages, RCS, SMS) and SMS API reports.
Read on 2026-11-21:

https://developers.sinch.com/docs/conversation/callbacks
https://developers.sinch.com/docs/sms/api-reference/sms/tag/Webhooks
https://developers.sinch.com/docs/sms/api-reference/delivery-report-error-codes

What identifies a message: in the Conversation API `message_id`; in the SMS API `batch_id`, which all recipients of a
batch share, so the recipient is part of the reference. What identifies a report across resends: nothing. Whose clock:
`event_time` and `at`, UTC, with three to nine digits of a second and sometimes no zone; a report about a whole batch
has no time, and `operator_status_at` is the carrier's, to the minute. Order and duplicates: neither is promised;
repeated for most of a day on 5xx and 429, any other 4xx is final.

A code is not a failure: 0, 400 and 401 are states, and a reason also comes with SWITCHING_CHANNEL, while a fallback
is still running.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Final, Literal

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import asking, channels, credentials, decoding, instants, signature
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
from ledger.wire.credentials import Credentials
from ledger.wire.decoding import ABSENT, loose, member

_LOST: Final = Claim(Status.FAILED, FailureKind.UNDELIVERED)
_REFUSED: Final = Claim(Status.FAILED, FailureKind.FAILED)

CLAIMS: Final[Mapping[str, Claim]] = {
    # Conversation API
    "queued_on_channel": Claim(Status.QUEUED),
    "delivered": Claim(Status.DELIVERED),  # both APIs
    "read": Claim(Status.READ),
    "failed": _LOST,  # both APIs
    "switching_channel": Claim(Status.UNKNOWN),  # the next channel of the fallback is tried; its report follows
    # SMS API
    "queued": Claim(Status.QUEUED),
    "dispatched": Claim(Status.SENT),
    "unknown": Claim(Status.SENT, closes=True),  # final: the operator never said
    "aborted": _REFUSED,  # before it was sent
    "cancelled": _REFUSED,
    "rejected": _REFUSED,  # by the operator, or by Sinch
    "expired": _LOST,
    "deleted": _LOST,  # by the operator's message centre, not by the recipient
}

CHANNELS: Final = {**channels.COMMON, "viberbm": (Channel.VIBER, None)}
#: Codes of the SMS API that name a state: delivered, queued, dispatched.
STATE_CODES: Final = frozenset({"0", "400", "401"})
#: Repeats go on for 22 hours and 45 minutes, and nobody says whether a repeat is signed anew.
AGE_MAX: Final = timedelta(hours=25)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    auth: Literal["signature", "basic"] = "signature"  #: "basic" for SMS accounts whose callbacks are not signed
    sms_api: Literal["sms", "conversation"] = "sms"  #: by which registered SMS are sent: it decides what an id names


class _Body(msgspec.Struct):
    message_delivery_report: Raw = ABSENT  #: a key for each kind of event
    event_time: object = None
    correlation_id: object = None
    message_metadata: object = None
    app_id: object = None
    type: object = None  #: of the SMS API
    batch_id: object = None
    statuses: Raw = ABSENT
    recipient: object = None
    status: object = None
    code: object = None
    at: object = None
    client_reference: object = None


class _Report(msgspec.Struct):
    message_id: object = None
    status: object = None
    channel_identity: object = None
    reason: object = None
    metadata: object = None


class _Group(msgspec.Struct):
    """Recipients of a batch who have the same status."""

    status: Raw = ABSENT
    code: Raw = ABSENT
    recipients: list[Raw] | None = None  #: absent in a summary, which cannot be attributed


_body: Final = decoding.lenient_reader(_Body, "body")
_report: Final = decoding.lenient_reader(_Report, "message_delivery_report")
_group: Final = decoding.json_reader(_Group, "statuses[]")
_groups: Final = decoding.json_reader(list[Raw], "statuses")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read a report of either API. Raises Malformed for anything but a JSON object."""
    told = _body(webhook.body)
    if decoding.is_present(told.statuses):
        return _batch(told, webhook.body)
    return decoding.single(webhook.body, lambda: _alone(told, webhook.body))


def _alone(told: _Body, body: bytes) -> Observation | None:
    if decoding.is_present(told.message_delivery_report):
        return _message(told, body)
    if told.app_id is not None or (decoding.word(told.type) or "").startswith("mo_"):
        return None  # another kind of event, or an inbound message
    return _sms(told, told.recipient, told.status, told.code, body)


def _message(told: _Body, body: bytes) -> Observation:
    report = _report(told.message_delivery_report)
    message_id = decoding.required(decoding.identifier(report.message_id), "message_id")
    word = decoding.required(decoding.word(report.status), "status")
    to, reason = report.channel_identity, report.reason
    channel, transport = channels.place_of(member(to, "channel"), CHANNELS)
    address = decoding.identifier(member(to, "identity"))
    phone = (
        decoding.phone_number(address) if address and (channel or not transport) else None
    )  # other ids may look alike
    references = (told.correlation_id, report.metadata, told.message_metadata)
    return Observation(
        reference=message_id,
        provider_message_id=message_id,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=instants.iso8601_utc(told.event_time),
        error_code=decoding.identifier(member(reason, "code")),
        error_text=decoding.text(member(reason, "description")),
        channel=channel,
        transport=transport,
        recipient=phone or address,
        recipient_raw=address,
        provider_account=decoding.identifier(told.app_id),
        client_reference=next(filter(None, map(decoding.text, references)), None),
        item=body,
    )


def _batch(told: _Body, body: bytes) -> Parsed:
    batch = decoding.Batch()
    for group in batch.each(_groups(told.statuses), _attributable):
        batch.observe(group.recipients or (), partial(_member, told, group, body))
    return batch.parsed()


def _attributable(raw: Raw) -> _Group:
    group = _group(raw)
    decoding.required(decoding.word(loose(group.status)), "statuses[].status")
    if not group.recipients:
        raise Malformed("statuses[]: a summary names no recipients")
    return group


def _member(told: _Body, group: _Group, body: bytes, raw: Raw) -> Observation:
    return _sms(told, loose(raw), loose(group.status), loose(group.code), decoding.own_evidence(body, raw))


def _sms(told: _Body, recipient: object, status: object, code: object, item: bytes) -> Observation:
    batch_id = decoding.required(decoding.identifier(told.batch_id), "batch_id")
    to = decoding.required(decoding.identifier(recipient), "recipient")
    word = decoding.required(decoding.word(status), "status")
    number, error = decoding.phone_number(to) or to, decoding.identifier(code)
    mms = (decoding.word(told.type) or "").endswith("_mms")
    return Observation(
        reference=decoding.shared_reference(batch_id, to),
        provider_message_id=batch_id,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=instants.iso8601_utc(told.at),
        error_code=None if error in STATE_CODES else error,
        channel=Channel.SMS,
        transport="mms" if mms else None,
        recipient=number,
        recipient_raw=to,
        client_reference=decoding.text(told.client_reference),
        item=item,
    )


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check the signature over body, nonce and time; or a password, where the account's options say so."""
    if isinstance(account.options, Options) and account.options.auth == "basic":
        return credentials.are_good(Credentials(), webhook, account)
    text = signed_text(webhook, account)
    signed_at = webhook.headers.first("x-sinch-webhook-signature-timestamp")
    if text is None or not signature.is_fresh_at(signed_at, webhook.received_at, AGE_MAX):
        return False
    expected = (signature.hmac_base64(secret, text) for secret in signature.usable(account.secrets))
    return signature.matches_any(expected, webhook.headers.all("x-sinch-webhook-signature"))


def signed_text(webhook: Webhook, account: Account) -> bytes | None:
    """Return body, nonce and time, joined by dots."""
    nonce = webhook.headers.first("x-sinch-webhook-signature-nonce")
    signed_at = webhook.headers.first("x-sinch-webhook-signature-timestamp")
    return None if nonce is None or signed_at is None else b".".join((webhook.body, nonce, signed_at))


def reference_of(account: Account, channel: Channel, message_id: str, recipient: str | None) -> str:
    """Name an SMS by batch and recipient, unless the account's options say that the Conversation API sends it."""
    is_batch = not isinstance(account.options, Options) or account.options.sms_api == "sms"
    if recipient is None or channel is not Channel.SMS or not is_batch:
        return message_id
    return decoding.shared_reference(message_id, recipient)


# Asking ---------------------------------------------------------------------------------------------------------------


def ask(known: Known, polling: Polling) -> Ask | None:
    """Ask for the report about one recipient of an SMS batch. The Conversation API tells no status of a message."""
    if known.channel is not Channel.SMS or known.recipient is None:
        return None
    plan, number = polling.account or "", known.recipient.removeprefix("+")
    path = asking.path("xms", "v1", plan, "batches", known.provider_message_id, "delivery_report", number)
    return Ask(path, asking.token(polling))


def read(body: bytes, known: Known, account: Account) -> Parsed:
    """Read a recipient's report, which is that of a callback. Raises Malformed for any other answer."""
    told = _body(body)
    return Parsed(observations=(_sms(told, told.recipient, told.status, told.code, body),))


POLLS: Final = Polls(base_url="https://us.sms.api.sinch.com", ask=ask, read=read, needs=frozenset({"account"}))


PROVIDER: Final = Provider(
    name="sinch",
    channels=frozenset({Channel.SMS, Channel.WHATSAPP, Channel.VIBER}),
    content_types=frozenset({"application/json"}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    options=Options,
    signed_text=signed_text,
    reference_of=reference_of,
    polls=POLLS,
)
