"""AWS End User Messaging SMS: events about SMS, MMS and RCS that arrive through an SNS topic. Read on 2026-11-26:

https://docs.aws.amazon.com/sms-voice/latest/userguide/configuration-sets-event-types.html
https://docs.aws.amazon.com/sms-voice/latest/userguide/configuration-sets-event-format.html
https://docs.aws.amazon.com/sms-voice/latest/userguide/rcs-events.html
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html

What identifies a message: `messageId` of the event, one recipient each. What identifies a report across resends:
nothing but its content; SNS gives every publication an id of its own. Whose clock: `eventTimestamp`, Unix milliseconds.
Order and duplicates: neither is promised; what is repeated, and what proves a request, is told in `ledger.wire.sns`.
"""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import decoding, instants, sns
from ledger.wire.contract import Account, Parsed, Provider, Webhook, claim_of
from ledger.wire.decoding import ABSENT, loose

_REFUSED: Final = Claim(Status.FAILED, FailureKind.FAILED)
_LOST: Final = Claim(Status.FAILED, FailureKind.UNDELIVERED)

CLAIMS: Final[Mapping[str, Claim]] = {
    "text_queued": Claim(Status.QUEUED),
    "text_pending": Claim(Status.SENT),
    "text_sent": Claim(Status.SENT),
    "text_successful": Claim(Status.SENT, closes=True),  # the carrier took it; the last word only with isFinal
    "text_delivered": Claim(Status.DELIVERED),
    "text_unknown": Claim(Status.SENT, closes=True),  # no word from the carrier for 72 hours
    "text_invalid": _REFUSED,
    "text_invalid_message": _REFUSED,
    "text_spam": _REFUSED,
    "text_blocked": _REFUSED,
    "text_protect_blocked": _REFUSED,  # by the account's own protect configuration
    "text_ttl_expired": _LOST,
    "text_unreachable": _LOST,
    "text_carrier_unreachable": _LOST,
    "text_carrier_blocked": _LOST,
    "media_queued": Claim(Status.QUEUED),
    "media_pending": Claim(Status.SENT),
    "media_successful": Claim(Status.SENT, closes=True),
    "media_delivered": Claim(Status.DELIVERED),
    "media_unknown": Claim(Status.SENT, closes=True),
    "media_invalid": _REFUSED,
    "media_invalid_message": _REFUSED,
    "media_spam": _REFUSED,
    "media_blocked": _REFUSED,
    "media_file_inaccessible": _REFUSED,
    "media_file_type_unsupported": _REFUSED,
    "media_file_size_exceeded": _REFUSED,
    "media_ttl_expired": _LOST,
    "media_unreachable": _LOST,
    "media_carrier_unreachable": _LOST,
    "media_carrier_blocked": _LOST,
    "rcs_queued": Claim(Status.QUEUED),
    "rcs_sent": Claim(Status.SENT),
    "rcs_delivered": Claim(Status.DELIVERED),
    "rcs_read": Claim(Status.READ),
    "rcs_fallen_back_to_sms": Claim(Status.UNKNOWN),  # the message goes on as an SMS, whose events follow
    "rcs_protect_blocked": _REFUSED,
    "rcs_failed": _LOST,
    "rcs_ttl_expired": _LOST,
}

#: Words that are the last ones only where the event says so.
MAY_CLOSE: Final = frozenset({"text_successful", "media_successful"})
#: How a message goes, by what its events begin with; the service has others, about calls and registrations.
TRANSPORTS: Final[Mapping[str, str | None]] = {"text": None, "media": "mms", "rcs": "rcs"}
#: Values of `messageStatus` that name a state; any other is the reason of a failure.
STATES: Final = frozenset({"QUEUED", "PENDING", "SENT", "SUCCESSFUL", "DELIVERED", "READ", "FALLEN_BACK_TO_SMS"})


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topics: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]  #: ARNs of the topics that may report


class _Event(msgspec.Struct, rename="camel"):
    message_id: Raw = ABSENT
    event_type: Raw = ABSENT
    event_timestamp: Raw = ABSENT
    is_final: Raw = ABSENT
    message_status: Raw = ABSENT
    message_status_description: Raw = ABSENT
    destination_phone_number: Raw = ABSENT  #: absent where the event took the way through EventBridge
    context: Raw = ABSENT  #: what the sender attached
    detail: Raw = ABSENT  #: the event, where it took the way through EventBridge


_event: Final = decoding.json_reader(_Event, "Message")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read the event of a notification, or the offer of a subscription. Raises Malformed for no JSON object."""
    told = sns.texts(webhook.body)
    if told.get("Type") == sns.OFFER:
        return Parsed(ignored=1, confirm_url=sns.confirm_url(told))
    if told.get("Type") == sns.FAREWELL:
        return Parsed(ignored=1, alerts=("unsubscribed",))
    message = told.get("Message", "").encode("utf-8", "replace")
    return decoding.single(message or webhook.body, lambda: _observation(message))


def _observation(message: bytes) -> Observation | None:
    event = _event(message)
    if isinstance(loose(event.detail), dict):
        event = _event(event.detail)
    word = decoding.required(decoding.word(loose(event.event_type)), "Message.eventType")
    known = word.strip().lower()
    kind = known.partition("_")[0]
    if not decoding.is_present(event.message_id) and kind not in TRANSPORTS:
        return None
    message_id = decoding.required(decoding.identifier(loose(event.message_id)), "Message.messageId")
    claim = claim_of(CLAIMS, word)
    if known in MAY_CLOSE and loose(event.is_final) is not True:
        claim = Claim(claim.status)
    code, to = decoding.word(loose(event.message_status)), decoding.identifier(loose(event.destination_phone_number))
    failed = code is not None and code.strip().upper() not in STATES
    context = loose(event.context)
    attached = next(iter(context.values()), None) if isinstance(context, dict) else None
    return Observation(
        reference=message_id,
        provider_message_id=message_id,
        provider_status=word,
        claim=claim,
        occurred_at=instants.unix_milliseconds(loose(event.event_timestamp)),
        error_code=code if failed else None,
        error_text=decoding.text(loose(event.message_status_description)) if failed else None,
        channel=Channel.SMS,
        transport=TRANSPORTS.get(kind),
        recipient=decoding.recipient(to),
        recipient_raw=to,
        client_reference=decoding.text(attached),
        item=message,  # without the envelope, whose address of unsubscription is nobody's business
    )


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check that one of the account's topics published the request, and that SNS signed it."""
    return sns.is_authentic(webhook, account, _topics(account))


def asks_again(webhook: Webhook, account: Account) -> bool:
    """Tell that the certificate which signed a request is not at hand yet."""
    return sns.is_undecided(webhook, account, _topics(account))


def _topics(account: Account) -> tuple[str, ...]:
    return account.options.topics if isinstance(account.options, Options) else ()


PROVIDER: Final = Provider(
    name="aws",
    channels=frozenset({Channel.SMS}),
    content_types=frozenset({"text/plain", "application/json"}),  # SNS says text/plain
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    needs_secrets=False,
    options=Options,
    asks_again=asks_again,
    check_secret=sns.check_secret,
    signed_text=sns.signed_text,
)
