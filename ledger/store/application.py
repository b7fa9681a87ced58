"""The ledger: loading messages to decide about, appending what was decided, reading history back.

The library's application, with its own mapper and recorder. It is synchronous; callers choose the thread.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
from eventsourcing.application import Application
from eventsourcing.persistence import (
    EventStore,
    IntegrityError,
    InterfaceError,
    InternalError,
    Mapper,
    OperationalError,
    StoredEvent,
)
from eventsourcing.utils import get_topic
from psycopg.rows import TupleRow, tuple_row

from ledger.domain.events import AnyEvent, MessageLinked
from ledger.domain.identity import BUCKETS, Names, bucket, partition
from ledger.domain.message import Message, evolve
from ledger.store import arrays, snapshot
from ledger.store.captures import Capture
from ledger.store.mapper import Entry, LedgerMapper
from ledger.store.recorder import LedgerFactory, LedgerRecorder
from ledger.store.rows import DataKeyRow, StatusRow
from ledger.store.sealing import DataKey, MasterKey

#: Lost connections, time-outs, refused work (read-only, disk full, deadlock): the same request may succeed later.
UNAVAILABLE: Final = (OperationalError, InterfaceError, InternalError)


class StoreUnavailable(Exception):
    """The database cannot be reached, or took too long. What was being written may or may not be on record."""


class StreamMoved(Exception):
    """Another writer appended to one of the streams first; nothing was written. Load again and decide again."""


class WrongSecret(Exception):
    """The database was written under another secret: names would not meet, sealed data would not open."""


class Loaded(msgspec.Struct, frozen=True):
    """A message as the next decision needs it."""

    stream_id: UUID
    version: int  #: of the stream; 0: nothing recorded
    message: Message
    key: DataKey | None  #: None: erased


class RecordedEvent(msgspec.Struct, frozen=True):
    """An event in the log, opened, with its place and its link of the chain."""

    position: int
    stream_id: UUID
    version: int
    event: AnyEvent
    recorded_at: datetime
    hash: bytes


class Unit:
    """One unit of work, collected by the library in one go."""

    def __init__(self, entries: list[Entry]) -> None:
        self.id = None
        self._entries = entries

    def collect_events(self) -> list[Entry]:
        return self._entries


class LeanEventStore(EventStore[UUID]):
    """Returns notification ids only: nobody in this process needs a recording of every event."""

    def put(self, domain_events: Sequence[Any], **kwargs: Any) -> list[Any]:
        stored = [self.mapper.to_stored_event(event) for event in domain_events]
        return list(self.recorder.insert_events(stored, **kwargs) or ())


class Ledger(Application[UUID]):
    """Raises StoreUnavailable and StreamMoved; nothing of the library's or the driver's leaves this class."""

    name = "Ledger"
    recorder: LedgerRecorder
    mapper: LedgerMapper

    def __init__(self, database_url: str, *, partitions: int, names: Names, master_key: MasterKey, pool_size: int = 8):
        self.names = names
        self.partitions = partitions
        self.master_key = master_key
        super().__init__(
            {
                "PERSISTENCE_MODULE": get_topic(LedgerFactory),
                LedgerFactory.DATABASE_URL: database_url,
                LedgerFactory.PARTITIONS: str(partitions),
                LedgerFactory.POOL_SIZE: str(pool_size),
            }
        )

    def construct_mapper(self) -> Mapper[UUID]:
        return LedgerMapper()

    def construct_event_store(self) -> EventStore[UUID]:
        return LeanEventStore(self.mapper, self.recorder)

    def _notify(self, recordings: Any) -> None:
        """Readers follow positions; nothing is pushed from here."""

    def require_secrets(self, fingerprints: Mapping[str, str]) -> None:
        """Compare secrets with those of the first start, by fingerprints kept in the database. Raises WrongSecret."""
        with self.reading() as cursor:
            for name, fingerprint in fingerprints.items():
                cursor.execute(_KEEP_CONSTANT, (name, fingerprint))
                row = cursor.execute(_CONSTANT, (name,)).fetchone()
                if row is None or row[0] != fingerprint:
                    raise WrongSecret(f"{name} is not the one that this database was written under")

    # Deciding ---------------------------------------------------------------------------------------------------------

    def load(self, stream_ids: Iterable[UUID]) -> list[Loaded]:
        """Return what is known about each stream; a stream without events is an unopened message with a new key."""
        wanted = list(dict.fromkeys(stream_ids))
        found: list[Loaded] = []
        partitions = [partition(stream_id, self.partitions) for stream_id in wanted]
        with self.reading() as cursor:
            cursor.execute(_LOAD, (arrays.smallints(partitions), arrays.uuids(wanted)))
            for stream_id, version, state, wrapped in cursor:
                key = None if wrapped is None else self.master_key.unwrap(wrapped, stream_id)
                found.append(Loaded(stream_id, version, snapshot.decode(state, stream_id, version, key), key))
        known = {loaded.stream_id for loaded in found}
        found += [Loaded(new, 0, Message(), DataKey.generate()) for new in wanted if new not in known]
        return found

    def append(
        self,
        entries: list[Entry],
        rows: Sequence[StatusRow],
        opened: Mapping[UUID, DataKey],
        captures: Sequence[Capture] = (),
    ) -> list[int]:
        """Write events with their rows in one transaction and return their notification ids.

        `entries` come grouped by ascending partition. Raises StreamMoved, with nothing written, when another writer was
        first, and StoreUnavailable when the effect is unknown.
        """
        keys = [DataKeyRow(stream_id, self.master_key.wrap(key, stream_id)) for stream_id, key in opened.items()]
        sealed = [capture.row(self.names, self.master_key) for capture in captures]
        try:
            return self.save(Unit(entries), rows=rows, keys=keys, captures=sealed)  # type: ignore[arg-type,return-value]
        except IntegrityError as error:
            raise StreamMoved("another writer appended first") from error
        except UNAVAILABLE as error:
            raise StoreUnavailable("the append did not complete") from error

    # Reading ----------------------------------------------------------------------------------------------------------

    def locate(self, message_id: int) -> UUID | None:
        """Return the stream that a public message id was given to; None if there is none."""
        number, bucket_ = divmod(message_id, BUCKETS)
        with self.reading() as cursor:
            cursor.execute(_LOCATE, (bucket_ % self.partitions, number))
            row = cursor.fetchone()
        return row[0] if row is not None and bucket(row[0]) == bucket_ else None

    def merged(self, leading: UUID, other: UUID) -> Message:
        """Return the message that a stream and one more of the sender's tell of together, as hand-off finds them."""
        return fold(self.history(leading, other))

    def history(self, stream_id: UUID, *joining: UUID) -> list[RecordedEvent]:
        """Return every event of a message in the order of recording: its own and those of streams linked to it.

        `joining` are streams that are about to be linked.
        """
        own = self._stream(stream_id)
        linked = [
            recorded.event.other
            for recorded in own
            if isinstance(recorded.event, MessageLinked) and recorded.event.leads
        ]
        return _in_order(own, [self._stream(other) for other in (*linked, *joining)])

    def _stream(self, stream_id: UUID) -> list[RecordedEvent]:
        part = partition(stream_id, self.partitions)
        with self.reading() as cursor:
            wrapped = cursor.execute(_KEY, (part, stream_id)).fetchone()
            key = self.master_key.unwrap(wrapped[0], stream_id) if wrapped else None
            rows = cursor.execute(_HISTORY, (part, stream_id)).fetchall()
        return [
            RecordedEvent(
                position,
                stream_id,
                version,
                self.mapper.read(StoredEvent(stream_id, version, type_, state), key).event,
                recorded_at,
                hash_,
            )
            for position, version, type_, state, recorded_at, hash_ in rows
        ]

    @contextmanager
    def reading(self) -> Iterator[psycopg.Cursor[TupleRow]]:
        """Borrow a cursor over rows as tuples. Raises StoreUnavailable for whatever goes wrong with the database."""
        try:
            with (
                self.recorder.connection() as connection,
                connection.cursor(row_factory=tuple_row, binary=True) as cursor,
            ):
                yield cursor
        except UNAVAILABLE as error:
            raise StoreUnavailable("the database did not answer") from error


def fold(events: Iterable[RecordedEvent]) -> Message:
    """Return the message that a history tells of."""
    message = Message()
    for recorded in events:
        message = evolve(message, recorded.event)
    return message


def _in_order(own: list[RecordedEvent], others: Iterable[list[RecordedEvent]]) -> list[RecordedEvent]:
    """Merge streams by recording time, stream, version. A stream's hand-over is not an event of the merged message."""
    before = ([recorded for recorded in other if not _hands_over(recorded)] for other in others)
    return list(heapq.merge(own, *before, key=lambda recorded: (recorded.recorded_at, recorded.stream_id.bytes)))


def _hands_over(recorded: RecordedEvent) -> bool:
    return isinstance(recorded.event, MessageLinked) and not recorded.event.leads


_KEEP_CONSTANT: Final = b"INSERT INTO ledger_constants (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_CONSTANT: Final = b"SELECT value FROM ledger_constants WHERE name = %s"
_LOAD: Final = b"""
SELECT c.stream_id, c.version, c.state, k.wrapped
  FROM unnest(%s::smallint[], %s::uuid[]) AS wanted (partition, stream_id)
  JOIN current_status c USING (partition, stream_id)
  LEFT JOIN message_keys k USING (partition, stream_id)
"""
_LOCATE: Final = b"SELECT stream_id FROM events WHERE partition = %s AND position = %s AND version = 1"
_KEY: Final = b"SELECT wrapped FROM message_keys WHERE partition = %s AND stream_id = %s"
_HISTORY: Final = b"""
SELECT position, version, type, state, recorded_at, hash FROM events
 WHERE partition = %s AND stream_id = %s ORDER BY version
"""
