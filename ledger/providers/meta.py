"""Meta WhatsApp Cloud API: status webhooks. Read on 2026-11-21:

https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status
https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/create-webhook-endpoint
https://developers.facebook.com/documentation/business-messaging/whatsapp/business-scoped-user-ids
https://github.com/facebook/openapi (business-messaging-api, /{phone_number_id}/message_history)

What identifies a message: `id` (a "wamid", which contains the recipient's number). A group message has one wamid and
one status a participant, so the participant is part of the reference. What identifies a report across resends: nothing
of Meta's; resends are byte-equal in id, status and timestamp. Whose clock: `timestamp`, Unix seconds as text, when the
webhook was triggered. Order and duplicates: neither is promised; `read` may come without `delivered`, several statuses
share a second, retries go to every subscribed app for days, and anything but HTTP 200 is retried.

One request nests entries, changes and statuses, mixed with inbound messages; every level is read item by item.

Asking: the message history of a phone number tells the events of one message. It is documented in two vocabularies,
both of which are read, without error codes and recipients; how long it reaches back is not. So it is a second source.
"""

import re
from datetime import datetime
from functools import partial
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Observation
from ledger.domain.status import Channel
from ledger.wire import asking, cloudapi, decoding, instants, signature
from ledger.wire.contract import (
    Account,
    Ask,
    Fault,
    Known,
    Parsed,
    Polling,
    Polls,
    Provider,
    Webhook,
    claim_of,
)
from ledger.wire.decoding import ABSENT, loose, member

CLAIMS: Final = cloudapi.CLAIMS

#: What Meta may ask us to echo. Narrow, because the answer is sent back to whoever asks.
_CHALLENGE: Final = re.compile(r"[0-9A-Za-z_-]{1,100}", re.ASCII)


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read every status of every change of every entry. Raises Malformed for a body without entries."""
    return cloudapi.parse(webhook.body)


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check HMAC-SHA256 of the raw body under an app secret. The older SHA-1 header proves nothing."""
    expected = (b"sha256=" + signature.hmac_hex(secret, webhook.body) for secret in signature.usable(account.secrets))
    return signature.matches_any(expected, webhook.headers.all("x-hub-signature-256"))


def signed_text(webhook: Webhook, account: Account) -> bytes | None:
    """Return the raw body, as sent: escapes and all."""
    return webhook.body if webhook.headers.all("x-hub-signature-256") else None


def handshake(webhook: Webhook, account: Account) -> str | None:
    """Return the challenge of a subscription that knows our verify token."""
    token, challenge = webhook.parameter("hub.verify_token"), webhook.parameter("hub.challenge")
    if account.verify_token is None or token is None or challenge is None:
        return None
    known = signature.is_equal(account.verify_token.reveal(), token.encode("utf-8", "replace"))
    asked = webhook.parameter("hub.mode") == "subscribe" and _CHALLENGE.fullmatch(challenge)
    return challenge if known and asked else None


# Asking ---------------------------------------------------------------------------------------------------------------

#: Codes of errors that say "too often", and of one that says that the access token is no good.
TOO_OFTEN: Final = frozenset({4, 80007, 130429, 131056})
BAD_TOKEN: Final = frozenset({190})
HISTORY_FIELDS: Final = (
    "id,message_id,events{delivery_status,webhook_update_state,timestamp,occurrence_timestamp,error_description}"
)


class _History(msgspec.Struct):
    data: list[Raw]


class _Entry(msgspec.Struct):
    message_id: Raw = ABSENT
    events: Raw = ABSENT


class _Event(msgspec.Struct):
    delivery_status: Raw = ABSENT
    timestamp: Raw = ABSENT
    occurrence_timestamp: Raw = ABSENT  #: of the event's own endpoint
    status_timestamp: Raw = ABSENT
    error_description: Raw = ABSENT


_history: Final = decoding.json_reader(_History, "answer")
_entry: Final = decoding.json_reader(_Entry, "data[]")
_event: Final = decoding.json_reader(_Event, "data[].events[]")


def ask(known: Known, polling: Polling) -> Ask | None:
    """Ask for the events of one message of a phone number. Not for a group's: its members cannot be told apart."""
    number = known.provider_account or polling.account
    if number is None or known.participant is not None:
        return None
    parameters = {"message_id": known.provider_message_id, "fields": HISTORY_FIELDS, "limit": "100"}
    return Ask(f"/v23.0{asking.path(number, 'message_history')}{asking.query(parameters)}", asking.token(polling))


def read(body: bytes, known: Known, account: Account) -> Parsed:
    """Read the events of a message's history. Raises Malformed for an answer without a list of messages."""
    batch = decoding.Batch()
    for entry in batch.each(_history(body).data, _entry):
        wamid = decoding.identifier(loose(entry.message_id))
        if wamid is None:
            batch.ignored += 1
            continue
        events = decoding.elements(entry.events) or decoding.elements(decoding.raw_member(entry.events, "data"))
        batch.observe(events, partial(_happened, wamid))
    return batch.parsed()


def _happened(wamid: str, raw: Raw) -> Observation:
    told = _event(raw)
    word = decoding.required(decoding.word(loose(told.delivery_status)), "delivery_status")
    clocks = (loose(each) for each in (told.occurrence_timestamp, told.timestamp, told.status_timestamp))
    return Observation(
        reference=wamid,
        provider_message_id=wamid,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=next(filter(None, map(_instant, clocks)), None),
        error_text=decoding.text(loose(told.error_description)),
        item=bytes(raw),
    )


def _instant(value: object) -> datetime | None:
    return instants.unix(value) or instants.iso8601(value)


def fault(body: bytes) -> Fault | None:
    """Read an error by its code, since most come with status 400; one that is said to pass is worth asking again."""
    error = member(asking.anything(body), "error")
    code = member(error, "code")
    if isinstance(code, int) and code in TOO_OFTEN:
        return Fault.THROTTLED
    if isinstance(code, int) and code in BAD_TOKEN:
        return Fault.REFUSED
    return Fault.FAILED if member(error, "is_transient") is True else None


POLLS: Final = Polls(base_url="https://graph.facebook.com", ask=ask, read=read, fault=fault)

PROVIDER: Final = Provider(
    name="meta",
    channels=frozenset({Channel.WHATSAPP}),
    content_types=frozenset({"application/json"}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    whole=cloudapi.whole,
    handshake=handshake,
    signed_text=signed_text,
    polls=POLLS,
)
