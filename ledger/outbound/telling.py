"""What there is to tell about one status change: the message as it stood then, folded from its own events.

Nothing of it is kept: every attempt folds the same events again and gets the same. So what is sent out holds no copy of
anything personal, and when a message's key is gone there is nothing left to send.
"""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.domain.events import MessageLinked, StatusCorrected, StatusObserved
from ledger.domain.identity import BUCKETS, bucket
from ledger.domain.message import Message
from ledger.domain.reading import is_final, last_updated
from ledger.domain.status import FailureKind, Status
from ledger.store.application import Ledger, RecordedEvent, fold
from projections.current_status import reason

#: The one type of event there is.
STATUS_CHANGED: Final = "message.status.changed"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A status change, with the message as it was right after it."""

    message_id: int  #: as the sender knows it
    version: int  #: of the message, as `GET /v1/messages/{id}` tells it
    opened_at: datetime  #: when anything was first recorded of the message
    before: Status
    message: Message
    occurred_at: datetime | None  #: by the provider's clock, where that is believed
    recorded_at: datetime

    @property
    def id(self) -> str:
        """The same for every attempt, and for every derivation: message and version."""
        return f"{self.message_id}-{self.version}"


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    class_: str = msgspec.field(name="class")
    after_seconds: int | None
    after_seconds_max: int | None
    until: datetime | None


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    stage: str
    category: str
    code: str | None
    title: str
    text: str | None
    advice: str
    retry: Retry


class StatusData(msgspec.Struct, frozen=True, kw_only=True):
    """`data` of `message.status.changed`. Names and words are those of `GET /v1/messages/{id}`."""

    message_id: int
    version: int
    account: str
    provider: str
    channel: str
    provider_message_id: str | None
    recipient: str | None
    client_reference: str | None
    status: Status
    status_detail: FailureKind | None
    previous_status: Status
    is_final: bool
    conflict: str
    failure: Failed | None
    occurred_at: datetime | None
    last_updated: datetime | None
    recorded_at: datetime


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The body: `type`, `timestamp` and `data` of Standard Webhooks, the rest are attributes of CloudEvents 1.0."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    timestamp: datetime
    datacontenttype: str = "application/json"
    data: Any


def tell(ledger: Ledger, stream_id: UUID, version: int) -> Change | None:
    """Return what one event of a message changed; None if it changed no status."""
    events = ledger.history_until(stream_id, version)
    at = next(index for index, each in enumerate(events) if each.stream_id == stream_id and each.version == version)
    own = next(each for each in events if each.stream_id == stream_id)
    recorded, message = events[at], fold(events[: at + 1])
    before = _before(recorded, events[:at])
    if message.status is before:
        return None
    event = recorded.event
    told_at = event.occurred_at if isinstance(event, StatusObserved) and event.believed else None
    return Change(
        message_id=message.aliases[0] if message.aliases else own.position * BUCKETS + bucket(stream_id),
        version=message.version,
        opened_at=events[0].recorded_at,
        before=before,
        message=message,
        occurred_at=told_at,
        recorded_at=recorded.recorded_at,
    )


def _before(recorded: RecordedEvent, earlier: list[RecordedEvent]) -> Status:
    """Return what the message was known as before, by the id that it has from this event on."""
    match recorded.event:
        case StatusObserved() | StatusCorrected():
            return recorded.event.status_before
        case MessageLinked(leads=True, other=other):
            return fold(each for each in earlier if each.stream_id == other).status
        case _:
            return fold(earlier).status


def body(change: Change, id_: str) -> bytes:
    """Return the body that is sent for a status change: the same bytes every time."""
    told = change.message
    at = change.occurred_at or change.recorded_at
    data = StatusData(
        message_id=change.message_id,
        version=change.version,
        account=told.account,
        provider=told.provider,
        channel=told.channel.value,
        provider_message_id=told.person.provider_message_id,
        recipient=told.person.recipient,
        client_reference=told.person.client_reference,
        status=told.status,
        status_detail=told.kind,
        previous_status=change.before,
        is_final=is_final(told),
        conflict=told.conflict.value,
        failure=failure(told),
        occurred_at=change.occurred_at,
        last_updated=last_updated(told),
        recorded_at=change.recorded_at,
    )
    return msgspec.json.encode(
        Envelope(
            id=id_,
            source=f"/accounts/{told.account}/{told.channel}",
            type=STATUS_CHANGED,
            subject=str(change.message_id),
            time=at,
            timestamp=at,
            data=data,
        )
    )


def failure(told: Message) -> Failed | None:
    """Return why a message failed, in the words of the API."""
    why = reason(told)
    if why is None:
        return None
    return Failed(
        stage=why.stage.value,
        category=why.category.value,
        code=why.code,
        title=why.title,
        text=why.text,
        advice=why.advice,
        retry=Retry(
            class_=why.retry.class_.value,
            after_seconds=why.retry.after_seconds,
            after_seconds_max=why.retry.after_seconds_max,
            until=why.retry.until,
        ),
    )
