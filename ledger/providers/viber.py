"""Viber bots (REST bot API): delivery callbacks. Read on 2026-11-21:

https://developers.viber.com/docs/api/rest-bot-api/#callbacks
https://developers.viber.com/docs/faq/

What identifies a message: `message_token`, 64 bits, beyond what a float can hold. What identifies a report across
resends: nothing; resends are byte-equal. Whose clock: `timestamp`, Unix milliseconds (an official sample has it swapped
with the token, hence the range check). Order and duplicates: order is not stated; `delivered` comes once a device, so
several times a message; `seen` comes once however many messages were unread; resent for an hour until answered 200.
A message undelivered for 14 days is dropped without a callback. The body names no account: the URL does.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import decoding, instants, signature
from ledger.wire.contract import Account, Parsed, Provider, Webhook, claim_of
from ledger.wire.decoding import ABSENT, loose

CLAIMS: Final[Mapping[str, Claim]] = {
    "delivered": Claim(Status.DELIVERED),
    "seen": Claim(Status.READ),
    "failed": Claim(Status.FAILED, FailureKind.UNDELIVERED),  # refused by the recipient's client after acceptance
}

#: Events that are not about a message from us. They may carry a token: the registration's or the user's own message's.
OTHER_EVENTS: Final = frozenset({"webhook", "message", "subscribed", "unsubscribed", "conversation_started"})


class _Callback(msgspec.Struct):
    event: Raw = ABSENT
    message_token: Raw = ABSENT
    timestamp: Raw = ABSENT
    user_id: Raw = ABSENT  #: scoped to the bot; there is no phone number
    desc: Raw = ABSENT
    error_code: Raw = ABSENT  #: not documented


_callback: Final = decoding.json_reader(_Callback, "body")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read the one event of a callback. Raises Malformed for anything but a JSON object."""
    told = _callback(webhook.body)
    return decoding.single(webhook.body, lambda: _observation(told, webhook.body))


def _observation(told: _Callback, body: bytes) -> Observation | None:
    event = decoding.required(decoding.word(loose(told.event)), "event")
    known, token = event.strip().lower(), loose(told.message_token)
    if known in OTHER_EVENTS or (known not in CLAIMS and token is None):
        return None
    reference = decoding.required(decoding.identifier(token), "message_token")
    user = decoding.identifier(loose(told.user_id))
    return Observation(
        reference=reference,
        provider_message_id=reference,
        provider_status=event,
        claim=claim_of(CLAIMS, event),
        occurred_at=instants.unix_milliseconds(loose(told.timestamp)),
        error_code=_code(loose(told.error_code)),
        error_text=decoding.text(loose(told.desc)),
        recipient=user,
        recipient_raw=user,
        item=body,
    )


def _code(value: object) -> str | None:
    code = decoding.identifier(value)
    return code if code is not None and code.isdecimal() else None


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check HMAC-SHA256 of the raw body under a bot token, sent as a header, as `?sig=`, or both."""
    given = list(webhook.headers.all("x-viber-content-signature"))
    in_query = webhook.parameter("sig") if webhook.query else None
    if in_query is not None:
        given.append(in_query.encode("utf-8", "replace"))
    expected = (signature.hmac_hex(secret, webhook.body) for secret in signature.usable(account.secrets))
    return signature.matches_any(expected, given)


def signed_text(webhook: Webhook, account: Account) -> bytes | None:
    """Return the raw body."""
    return webhook.body if webhook.headers.all("x-viber-content-signature") or webhook.parameter("sig") else None


PROVIDER: Final = Provider(
    name="viber",
    channels=frozenset({Channel.VIBER}),
    content_types=frozenset({"application/json"}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    signed_text=signed_text,
)
