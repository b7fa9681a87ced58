"""Requests and answers of the native API. The OpenAPI document is generated from these."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ledger.domain.status import Channel, Conflict, FailureKind, Outcome, Status

Text = Annotated[str, Meta(min_length=1, max_length=512, description="1 to 512 characters")]
LongText = Annotated[str, Meta(min_length=1, max_length=2_000)]
Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset")]
MetadataKey = Annotated[str, Meta(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Meta(max_length=512)]


class FailureTold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the sender could not hand the message to the provider."""

    text: LongText
    code: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class ConversationTold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    conversation_id: Text
    part_id: Text | None = None


class RegisterRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the sender knows. Without `provider_message_id` the message awaits hand-off."""

    channel: Channel
    provider_message_id: Text | None = None
    recipient: Text | None = None
    client_reference: Text | None = None
    queued_at: Instant | None = None
    sent_at: Instant | None = None
    provider_status: Annotated[str, Meta(pattern="^(queued|accepted|sent)$")] | None = None
    failure: FailureTold | None = None
    conversation: ConversationTold | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Meta(max_length=32)] = {}


class HandoffRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either the id that the provider answered with, or why there is none."""

    provider_message_id: Text | None = None
    sent_at: Instant | None = None
    provider_status: Annotated[str, Meta(pattern="^(queued|accepted|sent)$")] | None = None
    failure: FailureTold | None = None


class CorrectionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's decision on an open conflict."""

    to: Annotated[str, Meta(pattern="^(delivered|failed)$")]
    by: Text
    why: LongText
    relied_on: Annotated[list[Annotated[int, Meta(ge=1)]], Meta(max_length=64)] = []


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    message_id: int
    status: Status
    status_url: str


class RetryShape(msgspec.Struct, frozen=True, kw_only=True):
    class_: str = msgspec.field(name="class")
    after_seconds: int | None = None
    after_seconds_max: int | None = None
    until: datetime | None = None


class FailureShape(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message failed: the provider's own words beside our classification."""

    stage: str
    category: str
    code: str | None
    title: str
    text: str | None
    advice: str
    recognised: bool
    retry: RetryShape
    kinds: tuple[FailureKind, ...]
    recipient_specific: bool | None


class ClaimShape(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a conflict: the first claim of that outcome."""

    outcome: Outcome
    status: Status
    source: str
    received_at: datetime
    occurred_at: datetime | None
    error_code: str | None


class ConversationShape(msgspec.Struct, frozen=True, kw_only=True):
    conversation_id: str | None
    part_id: str | None


class MessageShape(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message stands, and everything known about it."""

    message_id: int
    account: str
    provider: str
    channel: Channel
    transport: str | None
    provider_account: str | None
    provider_message_id: str | None
    recipient: str | None
    recipient_user_id: str | None
    participant: str | None
    client_reference: str | None
    conversation: ConversationShape | None
    metadata: dict[str, str]
    status: Status
    status_detail: FailureKind | None
    status_message: str
    is_final: bool
    keep_polling: bool
    poll_after: int | None
    may_still_become: tuple[Status, ...]
    closed: bool
    queued_at: datetime | None
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    deleted_at: datetime | None
    time_basis: dict[str, str]
    last_updated: datetime
    last_heard_at: datetime | None
    registered_at: datetime | None
    opened_at: datetime
    failure: FailureShape | None
    conflict: Conflict
    conflict_claims: tuple[ClaimShape, ...]
    corrections: int
    version: int
    status_url: str


class MessagePage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[MessageShape]
    next_cursor: str | None


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded event."""

    position: int
    version: int
    kind: str
    source: str | None
    provider_status: str | None
    claim: Status | None
    recognised: bool | None
    error_code: str | None
    error_text: str | None
    occurred_at: datetime | None
    occurred_at_believed: bool | None
    received_at: datetime
    recorded_at: datetime
    verdict: str | None
    why: str
    skipped: tuple[Status, ...]
    status_before: Status
    status_after: Status
    status_detail: FailureKind | None
    by: str | None
    event_id: str | None
    date_text: str | None
    participant: str | None
    evidence: Any
    evidence_digest: str | None
    request_digest: str | None
    stream_id: str
    hash: str


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    message_id: int
    as_of: datetime | None
    clock: str
    status: Status
    items: list[HistoryItem]
    next_cursor: str | None
