"""What is stored and was not understood: captures, and observations of words that no table knew."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from ledger.domain.events import StatusObserved
from ledger.store.application import Ledger
from ledger.store.captures import opened
from ledger.store.mapper import Stored


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A stored capture, opened."""

    capture_id: UUID
    account: str
    content: bytes
    content_type: str
    received_at: datetime  #: when it first came in


def waiting(ledger: Ledger, *, page: int = 200) -> Iterator[Kept]:
    """Yield captures that nobody has been able to read yet, in the order of their ids. Raises StoreUnavailable."""
    for partition in range(ledger.partitions):
        after = UUID(int=0)
        while True:
            with ledger.reading() as cursor:
                rows = cursor.execute(_WAITING, (partition, after, page)).fetchall()
            for capture_id, account, received_at, wrapped, sealed in rows:
                content_type, content = opened(sealed, wrapped, capture_id, ledger.master_key)
                yield Kept(
                    capture_id=capture_id,
                    account=account,
                    content=content,
                    content_type=content_type,
                    received_at=received_at,
                )
            if len(rows) < page:
                break
            after = rows[-1][0]


def settle(ledger: Ledger, capture_id: UUID) -> None:
    """Note that what a capture says is on record. Raises StoreUnavailable."""
    with ledger.reading() as cursor:
        cursor.execute(_SETTLE, (capture_id.bytes[0] % ledger.partitions, capture_id))


_WAITING: Final = b"""
SELECT capture_id, account, first_received_at, wrapped, sealed FROM captures
 WHERE partition = %s AND capture_id > %s AND (reread_at IS NULL OR reread_at < last_received_at)
 ORDER BY capture_id LIMIT %s
"""
_SETTLE: Final = b"UPDATE captures SET reread_at = clock_timestamp() WHERE partition = %s AND capture_id = %s"


class Unrecognised(msgspec.Struct, frozen=True, kw_only=True):
    """An observation whose word no table knew, opened."""

    stream_id: UUID
    position: int
    event: StatusObserved


def unrecognised(ledger: Ledger, *, page: int = 2_000) -> Iterator[Unrecognised | int]:
    """Yield observations of the whole log whose word no table knew and, after each page, how many events that had.

    Raises StoreUnavailable.
    """
    for partition in range(ledger.partitions):
        after = 0
        while True:
            with ledger.reading() as cursor:
                rows = cursor.execute(_OBSERVED, (partition, after, page)).fetchall()
            for position, stream_id, version, type_, state, wrapped in rows:
                stored = Stored(stream_id, version, type_, state)
                event = ledger.mapper.read(stored, None).event
                if isinstance(event, StatusObserved) and not event.recognised and wrapped is not None:
                    key = ledger.master_key.unwrap(wrapped, stream_id)
                    opened_ = ledger.mapper.read(stored, key).event
                    assert isinstance(opened_, StatusObserved)  # noqa: S101  # it was one without the key
                    yield Unrecognised(stream_id=stream_id, position=position, event=opened_)
            yield len(rows)
            if len(rows) < page:
                break
            after = rows[-1][0]


_OBSERVED: Final = b"""
SELECT e.position, e.stream_id, e.version, e.type, e.state,
       (SELECT k.wrapped FROM message_keys k WHERE k.partition = e.partition AND k.stream_id = e.stream_id)
  FROM events e WHERE e.partition = %s AND e.position > %s ORDER BY e.position LIMIT %s
"""
