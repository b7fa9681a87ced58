"""Gupshup: WhatsApp message events, in its own format (v2) and in that of the Cloud API (v3). Read on 2026-11-21:

https://docs.gupshup.io/docs/message-events
https://partner-docs.gupshup.io/docs/events
https://docs.gupshup.io/docs/platform-webhook-event-connectivity-check

What identifies a message: Gupshup's own id, which the send call returned. It is called `gsId` or `gs_id`, or `id` where
the event has no WhatsApp id yet; more than a week after sending it is missing, and then only WhatsApp's id is left.
What identifies a report across resends: nothing. Whose clock: `timestamp`, Unix milliseconds, in v3 also seconds; in
v2 the inner `ts`, seconds, is WhatsApp's own time and is preferred. Order and duplicates: order is not promised, by
their own words.

Nothing is signed. A secret in the address, or a header where Gupshup lets one be set, tells who calls.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, Status
from ledger.wire import cloudapi, credentials, decoding, instants
from ledger.wire.contract import Account, Parsed, Provider, Webhook, claim_of
from ledger.wire.credentials import Auth, Credentials
from ledger.wire.decoding import ABSENT, loose, member

CLAIMS: Final[Mapping[str, Claim]] = {
    **cloudapi.CLAIMS,
    "enqueued": Claim(Status.QUEUED),  # waits at Gupshup
}

#: The kind of event that reports about messages from us, in v2.
MESSAGE_EVENT: Final = "message-event"


class Options(Credentials, frozen=True, kw_only=True, forbid_unknown_fields=True):
    auth: Auth = "query"


class _Body(msgspec.Struct):
    entry: Raw = ABSENT  #: of v3
    type: Raw = ABSENT
    timestamp: Raw = ABSENT
    app: Raw = ABSENT
    payload: Raw = ABSENT


class _Event(msgspec.Struct, rename="camel"):
    id: Raw = ABSENT
    gs_id: Raw = ABSENT
    type: Raw = ABSENT
    destination: Raw = ABSENT
    payload: Raw = ABSENT


class _Status(msgspec.Struct):
    """What v3 adds to a status."""

    gs_id: Raw = ABSENT


_body: Final = decoding.json_reader(_Body, "body")
_event: Final = decoding.json_reader(_Event, "payload")
_status: Final = decoding.json_reader(_Status, "statuses[]")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read an event of v2, or every status of v3. Raises Malformed for what is neither shape."""
    told = _body(webhook.body)
    if decoding.is_present(told.entry):
        parsed = cloudapi.parse(webhook.body, CLAIMS, instants.unix)
        return msgspec.structs.replace(parsed, observations=tuple(map(_renamed, parsed.observations)))
    kind = decoding.word(loose(told.type))
    if kind is not None and kind.strip().lower() != MESSAGE_EVENT:
        return Parsed(ignored=1)  # inbound messages, billing, connectivity checks
    return decoding.single(webhook.body, lambda: _observation(told, webhook.body))


def _renamed(observation: Observation) -> Observation:
    """Put Gupshup's id in the place of WhatsApp's: it is the one that the sender knows."""
    own = decoding.identifier(loose(_status(observation.item).gs_id))
    if own is None:
        return observation
    reference = observation.reference.replace(observation.provider_message_id, own, 1)
    return msgspec.structs.replace(observation, reference=reference, provider_message_id=own)


def _observation(told: _Body, body: bytes) -> Observation:
    event = _event(told.payload)
    own, other = decoding.identifier(loose(event.gs_id)), decoding.identifier(loose(event.id))
    message_id = decoding.required(own or other, "payload.id")
    word = decoding.required(decoding.word(loose(event.type)), "payload.type")
    to, details = decoding.identifier(loose(event.destination)), loose(event.payload)
    return Observation(
        reference=message_id,
        provider_message_id=message_id,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=instants.unix(member(details, "ts")) or instants.unix(loose(told.timestamp)),
        error_code=decoding.identifier(member(details, "code")),
        error_text=decoding.text(member(details, "reason")),
        recipient=decoding.recipient(to),
        recipient_raw=to,
        provider_account=decoding.identifier(loose(told.app)),
        item=body,
    )


_authenticate, _signed_text = credentials.scheme(Options)

PROVIDER: Final = Provider(
    name="gupshup",
    channels=frozenset({Channel.WHATSAPP}),
    content_types=frozenset({"application/json"}),
    claims=CLAIMS,
    authenticate=_authenticate,
    parse=parse,
    options=Options,
    check_secret=credentials.check_secret,
    signed_text=_signed_text,
)
