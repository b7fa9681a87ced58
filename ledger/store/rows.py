"""Rows that an append writes beside its events, and how their columns are packed."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.store import arrays

#: In place of a look-up: it is taken away.
NO_LOOKUP: Final = b""


class StatusRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's row in `current_status`. Message id and opening time are given by the database."""

    stream_id: UUID
    first: int  #: 1-based index of the stream's first event in this append; 0 if it was open before
    last: int  #: 1-based index of its last event in this append
    last_updated: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    linked_to: UUID | None
    account: str
    provider: str
    channel: str
    status: str
    conflict: str
    failure_category: str | None
    provider_lookup: bytes | None  #: this and the next two: None leaves what is there
    recipient_lookup: bytes | None
    reference_lookup: bytes | None
    state: bytes


class CaptureRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something authentic that could not be read, sealed."""

    capture_id: UUID  #: derived from account and content, so that a resend is counted and not stored again
    received_at: datetime
    account: str
    provider: str
    reason: str
    wrapped: bytes
    sealed: bytes


CAPTURE_COLUMNS: Final[dict[str, Callable[[Sequence[Any]], arrays.Column]]] = {
    "capture_id": arrays.uuids,
    "received_at": arrays.instants,
    "account": arrays.texts,
    "provider": arrays.texts,
    "reason": arrays.texts,
    "wrapped": arrays.byteas,
    "sealed": arrays.byteas,
}

#: In the order of `ledger_record`'s parameters, which has the wrapped keys between the indexes and the rest.
INDEX_COLUMNS: Final = ("first", "last")
COLUMNS: Final[dict[str, Callable[[Sequence[Any]], arrays.Column]]] = {
    "last_updated": arrays.instants,
    "sent_at": arrays.instants,
    "delivered_at": arrays.instants,
    "read_at": arrays.instants,
    "failed_at": arrays.instants,
    "linked_to": arrays.uuids,
    "account": arrays.texts,
    "provider": arrays.texts,
    "channel": arrays.texts,
    "status": arrays.texts,
    "conflict": arrays.texts,
    "failure_category": arrays.texts,
    "provider_lookup": arrays.byteas,
    "recipient_lookup": arrays.byteas,
    "reference_lookup": arrays.byteas,
    "state": arrays.byteas,
}
assert tuple(CAPTURE_COLUMNS) == CaptureRow.__struct_fields__  # noqa: S101
assert ("stream_id", *INDEX_COLUMNS, *COLUMNS) == StatusRow.__struct_fields__  # noqa: S101  # none can be forgotten
