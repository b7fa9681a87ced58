"""Reading the log in the order of positions, as those who follow it do.

Positions are gapless within a partition and taken under its lock: a reader that has seen position n has seen everything
before it, and what it asks for next cannot appear behind it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from eventsourcing.persistence import MapperDeserialisationError

from ledger.domain.message import Message
from ledger.store import arrays
from ledger.store.application import Ledger, RecordedEvent
from ledger.store.mapper import Stored
from ledger.store.sealing import SealBroken


class Place(NamedTuple):
    """Where an event stands in the log, and whose it is. Nothing in it is sealed."""

    partition: int
    position: int
    stream_id: UUID
    account: str
    channel: str


class Tailed(NamedTuple):
    """An event with the message that it belongs to, as that stands now."""

    place: Place
    recorded: RecordedEvent
    message_id: int
    message: Message


class Unreadable(NamedTuple):
    """An event that cannot be read: of a later version of the software, or altered. By its name in the log."""

    type: str


class Tail:
    """Every method raises StoreUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def heads(self) -> list[int]:
        """Return the last position of each partition, in the order of partitions."""
        with self._ledger.reading() as cursor:
            return [position for (position,) in cursor.execute(_HEADS, prepare=True)]

    def page(
        self, after: Sequence[int], limit: int, wanted: Callable[[str, str], bool]
    ) -> list[tuple[Place, Tailed | Unreadable | None]]:
        """Return what follows the given positions, at most `limit` events a partition, in order of recording.

        `after` has a position for each partition. An event is opened only if `wanted` says so of its account and
        channel; the others come as None.
        """
        partitions = arrays.smallints(range(len(after)))
        with self._ledger.reading() as cursor:
            rows = cursor.execute(_PAGE, (partitions, arrays.bigints(after), limit), prepare=True).fetchall()
        places = [Place(*row[:5]) for row in rows]
        return [
            (place, self._open(place, row[5:]) if wanted(place.account, place.channel) else None)
            for place, row in zip(places, rows, strict=True)
        ]

    def _open(self, place: Place, row: Sequence[Any]) -> Tailed | Unreadable:
        version, type_, state, recorded_at, hash_, message_id, snapshot, wrapped = row
        stream_id = place.stream_id
        try:
            key = None if wrapped is None else self._ledger.master_key.unwrap(wrapped, stream_id)
            event = self._ledger.mapper.read(Stored(stream_id, version, type_, state), key).event
            message = self._ledger.snapshot(snapshot, stream_id, key).message
        except (MapperDeserialisationError, SealBroken):
            return Unreadable(type_)
        recorded = RecordedEvent(place.position, stream_id, version, event, recorded_at, hash_)
        return Tailed(place, recorded, message_id, message)


_HEADS: Final = b"SELECT position FROM partition_heads ORDER BY partition"
#: One row at a time by its key: a plan must not depend on how large the tables were when it was made.
_PAGE: Final = b"""
SELECT e.partition, e.position, e.stream_id, c.account, c.channel,
       e.version, e.type, e.state, e.recorded_at, e.hash, c.message_id, c.state,
       (SELECT k.wrapped FROM message_keys k WHERE k.partition = e.partition AND k.stream_id = e.stream_id)
  FROM unnest(%s::smallint[], %s::bigint[]) AS told (partition, position)
 CROSS JOIN LATERAL (SELECT * FROM events e WHERE e.partition = told.partition AND e.position > told.position
                      ORDER BY e.position LIMIT %s) e
 CROSS JOIN LATERAL (SELECT * FROM current_status c WHERE c.partition = e.partition AND c.stream_id = e.stream_id
                      LIMIT 1) c
 ORDER BY e.recorded_at, e.partition, e.position
"""
