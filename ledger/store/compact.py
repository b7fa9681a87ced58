"""The layout of `observed.v2`: fields by place, words by number. Observations are most of the log.

Both are permanent. A field may be appended and a word added at the end; nothing is ever moved, removed or given another
number. `docs/event-log.md` lists them.
"""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from ledger.domain.events import ObservedDetails, StatusObserved
from ledger.domain.observation import Part, Source
from ledger.domain.status import Channel, FailureKind, Status, Verdict

CHANNELS: Final = (Channel.WHATSAPP, Channel.SMS, Channel.VIBER)
SOURCES: Final = (Source.CALLBACK, Source.POLL, Source.SENDER, Source.REREAD)
STATUSES: Final = (
    Status.UNKNOWN,
    Status.QUEUED,
    Status.SENT,
    Status.DELIVERED,
    Status.READ,
    Status.DELETED,
    Status.FAILED,
)
KINDS: Final = (None, FailureKind.FAILED, FailureKind.UNDELIVERED)
VERDICTS: Final = (
    Verdict.ADVANCE,
    Verdict.REPEAT,
    Verdict.LATE,
    Verdict.CONFLICT,
    Verdict.NOTE,
    Verdict.REDELIVERED,
)
#: Bits of `flags`. What is usual is zero.
CLOSES, UNRECOGNISED, SUSPECT = 1, 2, 4

_CHANNEL: Final = {word: number for number, word in enumerate(CHANNELS)}
_SOURCE: Final = {word: number for number, word in enumerate(SOURCES)}
_STATUS: Final = {word: number for number, word in enumerate(STATUSES)}
_KIND: Final = {word: number for number, word in enumerate(KINDS)}
_VERDICT: Final = {word: number for number, word in enumerate(VERDICTS)}


class Opened(msgspec.Struct, frozen=True, array_like=True):
    """The open part, as it is stored. Fields without a value at the end are left out."""

    account: str
    provider: str
    channel: int
    source: int
    key: bytes
    claim: int
    kind: int
    flags: int
    verdict: int
    skipped: list[int]
    status_before: int
    status_after: int
    kind_after: int
    received_at: datetime
    request_digest: bytes
    item_digest: bytes
    rules: int
    occurred_at: datetime | None = None
    error_code: str | None = None
    provider_account: str | None = None
    event_id: str | None = None
    date_text: str | None = None
    transport: str | None = None
    part: Part | None = None
    country: str | None = None


_StatusNumber = Annotated[int, msgspec.Meta(ge=0, lt=len(STATUSES))]


class OpenedTurn(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The beginning of `Opened`, up to what the status became. What follows is passed over."""

    account: str
    provider: str
    channel_: Annotated[int, msgspec.Meta(ge=0, lt=len(CHANNELS))]
    source: int
    key: msgspec.Raw
    claim: int
    kind: int
    flags: int
    verdict: int
    skipped: msgspec.Raw
    status_before_: _StatusNumber
    status_after_: _StatusNumber

    @property
    def channel(self) -> Channel:
        return CHANNELS[self.channel_]

    @property
    def status_before(self) -> Status:
        return STATUSES[self.status_before_]

    @property
    def status_after(self) -> Status:
        return STATUSES[self.status_after_]


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """The sealed part, as it is stored. Fields without a value at the end are left out."""

    provider_status: str = ""
    provider_message_id: str = ""
    recipient: str | None = None
    error_text: str | None = None
    client_reference: str | None = None
    recipient_user_id: str | None = None
    recipient_raw: str | None = None
    participant: str | None = None
    item: bytes = b""


_UNTOLD: Final = msgspec.structs.astuple(Sealed())
_encode: Final = msgspec.msgpack.Encoder().encode
_opened: Final = msgspec.msgpack.Decoder(Opened).decode
_sealed: Final = msgspec.msgpack.Decoder(Sealed).decode
#: Return the turn in an open part.
unpack_turn: Final = msgspec.msgpack.Decoder(OpenedTurn).decode


def pack(event: StatusObserved) -> bytes:
    """Return the open part. Built in the order of `Opened` without one: that is cheaper than a struct."""
    flags = event.closes * CLOSES
    if not event.recognised:
        flags |= UNRECOGNISED
    if not event.believed:
        flags |= SUSPECT
    fields: list[Any] = [
        event.account,
        event.provider,
        _CHANNEL[event.channel],
        _SOURCE[event.source],
        event.key,
        _STATUS[event.claim],
        _KIND[event.kind],
        flags,
        _VERDICT[event.verdict],
        [_STATUS[status] for status in event.skipped] if event.skipped else (),
        _STATUS[event.status_before],
        _STATUS[event.status_after],
        _KIND[event.kind_after],
        event.received_at,
        event.request_digest,
        event.item_digest,
        event.rules,
        event.occurred_at,
        event.error_code,
        event.provider_account,
        event.event_id,
        event.date_text,
        event.transport,
        event.part,
        event.country,
    ]
    while fields[-1] is None:
        fields.pop()
    return _encode(fields)


def pack_details(told: ObservedDetails) -> bytes:
    """Return the sealed part before it is sealed, in the order of `Sealed`."""
    fields: list[Any] = [
        told.provider_status,
        told.provider_message_id,
        told.recipient,
        told.error_text,
        told.client_reference,
        told.recipient_user_id,
        told.recipient_raw,
        told.participant,
        told.item,
    ]
    while fields and fields[-1] == _UNTOLD[len(fields) - 1]:
        fields.pop()
    return _encode(fields)


def unpack(data: bytes) -> StatusObserved:
    """Raise a msgspec error for another shape, IndexError for a word of a later version."""
    told = _opened(data)
    return StatusObserved(
        account=told.account,
        provider=told.provider,
        channel=CHANNELS[told.channel],
        source=SOURCES[told.source],
        key=told.key,
        claim=STATUSES[told.claim],
        kind=KINDS[told.kind],
        closes=bool(told.flags & CLOSES),
        recognised=not told.flags & UNRECOGNISED,
        believed=not told.flags & SUSPECT,
        verdict=VERDICTS[told.verdict],
        skipped=tuple([STATUSES[number] for number in told.skipped]) if told.skipped else (),
        status_before=STATUSES[told.status_before],
        status_after=STATUSES[told.status_after],
        kind_after=KINDS[told.kind_after],
        occurred_at=told.occurred_at,
        received_at=told.received_at,
        event_id=told.event_id,
        date_text=told.date_text,
        error_code=told.error_code,
        transport=told.transport,
        part=told.part,
        country=told.country,
        provider_account=told.provider_account,
        request_digest=told.request_digest,
        item_digest=told.item_digest,
        rules=told.rules,
    )


def unpack_details(data: bytes) -> ObservedDetails:
    told = _sealed(data)
    return ObservedDetails(
        provider_message_id=told.provider_message_id,
        provider_status=told.provider_status,
        error_text=told.error_text,
        recipient=told.recipient,
        recipient_raw=told.recipient_raw,
        recipient_user_id=told.recipient_user_id,
        participant=told.participant,
        client_reference=told.client_reference,
        item=told.item,
    )
