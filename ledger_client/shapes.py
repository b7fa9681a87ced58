"""What is sent and what comes back. A test compares every field with what the service says of itself.

Words such as statuses are texts here: a later version may have more of them. What it adds to an answer is ignored.
"""

from datetime import datetime
from typing import Literal

import msgspec

Channel = Literal["whatsapp", "sms", "viber"]
Handed = Literal["queued", "accepted", "sent"]


# What is told ---------------------------------------------------------------------------------------------------------


class FailureTold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a message could not be handed to the provider."""

    text: str
    code: str | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The conversation that a message belongs to."""

    conversation_id: str | None = None
    part_id: str | None = None


class Registration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    channel: Channel
    provider_message_id: str | None = None
    recipient: str | None = None
    client_reference: str | None = None
    queued_at: datetime | None = None
    sent_at: datetime | None = None
    provider_status: Handed | None = None
    failure: FailureTold | None = None
    conversation: Conversation | None = None
    metadata: dict[str, str] = {}


class Handoff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    provider_message_id: str | None = None
    sent_at: datetime | None = None
    provider_status: Handed | None = None
    failure: FailureTold | None = None


class Correction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    to: Literal["delivered", "failed"]
    by: str
    why: str
    relied_on: tuple[int, ...] = ()


# What is answered -----------------------------------------------------------------------------------------------------


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    message_id: int
    status: str
    status_url: str


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Whether and when another attempt makes sense."""

    class_: str = msgspec.field(name="class")
    after_seconds: int | None = None
    after_seconds_max: int | None = None
    until: datetime | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message failed."""

    stage: str
    category: str
    code: str | None
    title: str
    text: str | None
    advice: str
    recognised: bool
    retry: Retry
    kinds: tuple[str, ...] = ()
    recipient_specific: bool | None = None  #: whether such errors recur for this recipient


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a conflict."""

    outcome: str
    status: str
    source: str
    received_at: datetime
    occurred_at: datetime | None
    error_code: str | None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message stands, and everything known about it."""

    message_id: int
    account: str
    provider: str
    channel: str
    transport: str | None
    provider_account: str | None
    provider_message_id: str | None
    recipient: str | None
    recipient_user_id: str | None
    participant: str | None
    client_reference: str | None
    conversation: Conversation | None
    metadata: dict[str, str]
    status: str
    status_detail: str | None
    status_message: str
    is_final: bool
    keep_polling: bool
    poll_after: int | None
    may_still_become: tuple[str, ...]
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
    failure: Failure | None
    conflict: str
    conflict_claims: tuple[Claim, ...]
    corrections: int
    version: int
    status_url: str


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded event, with what was said and what it did."""

    position: int
    version: int
    kind: str
    source: str | None
    provider_status: str | None
    claim: str | None
    recognised: bool | None
    error_code: str | None
    error_text: str | None
    occurred_at: datetime | None
    occurred_at_believed: bool | None
    received_at: datetime
    recorded_at: datetime
    verdict: str | None
    why: str
    skipped: tuple[str, ...]
    status_before: str
    status_after: str
    status_detail: str | None
    by: str | None
    event_id: str | None
    date_text: str | None
    participant: str | None
    evidence: str | None
    evidence_digest: str | None
    request_digest: str | None
    stream_id: str
    hash: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded event, as a stream tells it. `status` is where the message stood after it."""

    message_id: int
    account: str
    provider: str
    channel: str
    provider_message_id: str | None
    recipient: str | None
    client_reference: str | None
    kind: str
    source: str | None
    provider_status: str | None
    claim: str | None
    verdict: str | None
    error_code: str | None
    error_text: str | None
    status_before: str
    status: str
    status_detail: str | None
    is_final: bool
    changed: bool
    label: str
    occurred_at: datetime | None
    received_at: datetime
    recorded_at: datetime
    partition: int
    position: int
    version: int


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a message's timeline."""

    status: str
    label: str
    state: str
    at: datetime | None
    basis: str | None


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it stood after a change."""

    change: Change
    message: Message
    timeline: tuple[Step, ...]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    items: list[Message]
    next_cursor: str | None = None


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[HistoryItem]
    next_cursor: str | None = None
