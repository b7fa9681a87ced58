"""Legal holds: messages that are neither erased nor leave the log for an archive until the hold is released."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from ledger.domain.identity import partition
from ledger.store import arrays
from ledger.store.application import Ledger
from ledger.store.erasing import HOLD_LOCK


class Hold(NamedTuple):
    message_id: int
    stream_id: UUID
    held_at: datetime
    held_by: str
    why: str


def place(ledger: Ledger, streams: Sequence[UUID], by: str, why: str) -> int:
    """Hold messages, with the streams that were linked to them; return how many streams are held that were not.

    Waits for erasures and archives that are under way. Raises StoreUnavailable.
    """
    return _changed(ledger, _PLACE, streams, by, why)


def release(ledger: Ledger, streams: Sequence[UUID]) -> int:
    """Release messages; return how many streams were held."""
    return _changed(ledger, _RELEASE, streams)


def _changed(ledger: Ledger, statement: bytes, streams: Sequence[UUID], *told: str) -> int:
    places = (
        arrays.smallints([partition(stream_id, ledger.partitions) for stream_id in streams]),
        arrays.uuids(list(streams)),
    )
    with ledger.reading() as cursor, cursor.connection.transaction():
        cursor.execute(_LOCK, (HOLD_LOCK,))
        return cursor.execute(statement, (*places, *told)).rowcount


def all_(ledger: Ledger) -> list[Hold]:
    with ledger.reading() as cursor:
        return [Hold(*row) for row in cursor.execute(_ALL)]


_LOCK: Final = b"SELECT pg_advisory_xact_lock(%s)"
_PLACE: Final = b"""
INSERT INTO holds (partition, stream_id, held_by, why)
SELECT asked.partition, asked.stream_id, told.by, told.why
  FROM unnest(%s, %s) AS asked (partition, stream_id), (SELECT %s::text, %s::text) AS told (by, why)
    ON CONFLICT DO NOTHING
"""
_RELEASE: Final = b"""
DELETE FROM holds h USING unnest(%s, %s) AS asked (partition, stream_id)
 WHERE h.partition = asked.partition AND h.stream_id = asked.stream_id
"""
_ALL: Final = b"""
SELECT c.message_id, h.stream_id, h.held_at, h.held_by, h.why
  FROM holds h JOIN current_status c USING (partition, stream_id) ORDER BY h.held_at, h.stream_id
"""
