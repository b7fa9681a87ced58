"""Infobip: delivery and seen reports of SMS, WhatsApp and Viber Business Messages. Read on 2026-11-21:

https://www.infobip.com/docs/api/channels/sms/outbound-sms/receive-outbound-sms-message-report
https://www.infobip.com/docs/api/channels/whatsapp/whatsapp-message-status-reports/receive-whatsapp-seen-reports
https://www.infobip.com/docs/essentials/api-essentials/response-status-and-error-codes
https://www.infobip.com/docs/cpaas-x/subscriptions-management

What identifies a message: `messageId`, one recipient each; the sender may choose it. What identifies a report across
resends: nothing. Whose clock: `doneAt` and `seenAt`, with an offset that is not always zero; `sentAt` says when the
message was sent and not when a status came about. Order and duplicates: neither is promised. A request holds up to a
hundred reports and more.

A report is understood by the name of its status, and by its group where the name is missing or new. Two traps: the
group DELIVERED also holds DELIVERED_TO_OPERATOR, which no handset has confirmed; and a seen report of Viber is written
from the user's side: `from` is the recipient and `to` our sender, a name. Those of WhatsApp are described in the same
way and shown in the other; two numbers are taken as shown. Nothing signs the body: see `ledger.wire.credentials`.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import asking, channels, credentials, decoding, instants
from ledger.wire.contract import (
    UNRECOGNISED,
    Account,
    Ask,
    Known,
    Parsed,
    Polling,
    Polls,
    Provider,
    Webhook,
    claim_of,
)
from ledger.wire.credentials import Credentials
from ledger.wire.decoding import ABSENT, member

_REFUSED: Final = Claim(Status.FAILED, FailureKind.FAILED)
_LOST: Final = Claim(Status.FAILED, FailureKind.UNDELIVERED)

CLAIMS: Final[Mapping[str, Claim]] = {
    "pending_accepted": Claim(Status.QUEUED),
    "pending_waiting_delivery": Claim(Status.SENT),
    "pending_enroute": Claim(Status.SENT),
    "delivered_to_operator": Claim(Status.SENT),  # in the group DELIVERED, and no handset has confirmed it
    "delivered_to_handset": Claim(Status.DELIVERED),
    "seen": Claim(Status.READ),  # said by a seen report, which has no word of its own
    "undeliverable_rejected_operator": _LOST,
    "undeliverable_not_delivered": _LOST,
    "expired_expired": _LOST,
    "expired_dlr_unknown": Claim(Status.SENT, closes=True),  # no report came from the operator, and none will
    # Groups: for a report without a name, and, but for DELIVERED, for a name that is new.
    "accepted": Claim(Status.QUEUED),
    "pending": Claim(Status.SENT),
    "delivered": Claim(Status.DELIVERED),
    "undeliverable": _LOST,
    "expired": _LOST,
    "rejected": _REFUSED,
}

#: The one group whose names must be known: a new one may be a step before the handset.
AMBIGUOUS: Final = "delivered"
#: What a seen report says.
SEEN: Final = "SEEN"
CHANNELS: Final = {**channels.COMMON, "viber_bm": (Channel.VIBER, None)}


class _Envelope(msgspec.Struct):
    results: list[Raw]


class _Status(msgspec.Struct, rename="camel"):
    name: object = None
    group_name: object = None
    description: object = None


class _Report(msgspec.Struct, rename="camel"):
    message_id: object = None
    to: object = None
    from_: object = msgspec.field(name="from", default=None)
    destination: object = None  #: the recipient in reports of the newer Messages API, seen reports included
    channel: object = None
    status: Raw = ABSENT
    error: object = None
    done_at: object = None
    seen_at: object = None
    received_at: object = None  #: of an inbound message
    callback_data: object = None
    platform: object = None


_envelope: Final = decoding.json_reader(_Envelope, "body")
_report: Final = decoding.lenient_reader(_Report, "results[]")
_status: Final = decoding.lenient_reader(_Status, "results[].status")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read every report. Raises Malformed for a body without results."""
    batch = decoding.Batch()
    batch.observe(_envelope(webhook.body).results, _observation)
    return batch.parsed()


def _observation(raw: Raw) -> Observation | None:
    told = _report(raw)
    status = _status(told.status) if decoding.is_present(told.status) else _Status()
    name, group = decoding.word(status.name), decoding.word(status.group_name)
    word = name or group or (SEEN if decoding.word(told.seen_at) else None)
    if word is None and told.received_at is not None:
        return None
    word = decoding.required(word, "results[].status")
    message_id = decoding.required(decoding.identifier(told.message_id), "results[].messageId")
    is_seen = name is None and group is None
    to = decoding.identifier(told.destination) or _recipient(told, is_seen)
    claim = _claim(word, group)
    code, text = _error(told.error)
    if text is None and claim.status is Status.FAILED:
        text = decoding.text(status.description)
    channel, transport = channels.place_of(told.channel, CHANNELS)
    return Observation(
        reference=message_id,
        provider_message_id=message_id,
        provider_status=word,
        claim=claim,
        occurred_at=instants.iso8601(told.seen_at if is_seen else told.done_at),
        error_code=code,
        error_text=text,
        channel=channel,
        transport=transport,
        recipient=to and (decoding.phone_number(to) or to),
        recipient_raw=to,
        provider_account=decoding.identifier(member(told.platform, "applicationId")),
        client_reference=decoding.text(told.callback_data),
        item=bytes(raw),
    )


def _claim(word: str, group: str | None) -> Claim:
    """Return the claim of a name; for a new one that of its group, or of the group that it begins with."""
    known = claim_of(CLAIMS, word)
    if known is not UNRECOGNISED:
        return known
    family = (group or word.partition("_")[0]).strip().lower()
    return UNRECOGNISED if family == AMBIGUOUS or ("_" not in word and not group) else claim_of(CLAIMS, family)


def _recipient(told: _Report, is_seen: bool) -> str | None:
    """Return whom the message went to: `to`, unless that is a name in a seen report from a phone number."""
    to = decoding.identifier(told.to)
    if not is_seen or (to is not None and decoding.phone_number(to)):
        return to
    user = decoding.identifier(told.from_)
    return user if user is not None and (to is None or decoding.phone_number(user)) else to


def _error(error: object) -> tuple[str | None, str | None]:
    """Return code and text. The object is always there; id 0 says that nothing is wrong."""
    code = decoding.identifier(member(error, "id")) or decoding.word(member(error, "name"))
    if code is None or code.strip() in ("0", "NO_ERROR"):
        return None, None
    return code, decoding.text(member(error, "description")) or decoding.text(member(error, "name"))


def ask(known: Known, polling: Polling) -> Ask | None:
    """Ask for the report of one SMS. Other channels have addresses of their own, which could not be established."""
    if known.channel is not Channel.SMS:
        return None
    return Ask(f"/sms/3/reports{asking.query({'messageId': known.provider_message_id})}", asking.token(polling, "App"))


def read(body: bytes, known: Known, account: Account) -> Parsed:
    """Read the reports of an answer, which are those of a callback; none if all have been told before."""
    batch = decoding.Batch()
    batch.observe(_envelope(body).results, _observation)
    return batch.parsed()


#: A report is told one time only, by callback or by answer.
POLLS: Final = Polls(base_url="https://api.infobip.com", ask=ask, read=read, once=True)

_authenticate, _signed_text = credentials.scheme(Credentials)


def whole(item: bytes, _account: Account) -> bytes:
    """Return a request with this report alone."""
    return b'{"results":[' + item + b"]}"


PROVIDER: Final = Provider(
    name="infobip",
    channels=frozenset({Channel.SMS, Channel.WHATSAPP, Channel.VIBER}),
    content_types=frozenset({"application/json"}),
    claims=CLAIMS,
    authenticate=_authenticate,
    parse=parse,
    whole=whole,
    options=Credentials,
    check_secret=credentials.check_secret,
    signed_text=_signed_text,
    polls=POLLS,
)
