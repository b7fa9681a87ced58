"""The ledger: loading messages to decide about, appending what was decided, reading history back.

The library's application, with its own mapper and recorder. It is synchronous; callers choose where it runs: a
fiber of an event loop (`ledger.store.fiber`), or a thread of their own.
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
    ProgrammingError,
)
from eventsourcing.utils import get_topic
from psycopg.rows import TupleRow, tuple_row

from ledger.domain.events import AnyEvent, MessageLinked
from ledger.domain.identity import BUCKETS, Names, bucket, partition
from ledger.domain.message import Message, evolve
from ledger.store import arrays, snapshot
from ledger.store.captures import Capture
from ledger.store.mapper import Entry, LedgerMapper, Stored
from ledger.store.recorder import LedgerFactory, LedgerRecorder, configure, connection_string
from ledger.store.rows import StatusRow
from ledger.store.sealing import DataKey, MasterKey
from ledger.store.snapshot import Outdated, Snapshot

#: Lost connections, time-outs, refused work (read-only, disk full, deadlock): the same request may succeed later.
UNAVAILABLE: Final = (OperationalError, InterfaceError, InternalError)


class StoreUnavailable(Exception):
    """The database cannot be reached, or took too long. What was being written may or may not be on record."""


class TableMissing(Exception):
    """A table that was there a moment ago is not there any more: the next generation has taken its place."""


class StreamMoved(Exception):
    """Another writer appended to one of the streams first; nothing was written. Load again and decide again."""


class Archived(Exception):
    """The message's events have left the log for an archive: `status-ledger restore` puts them back."""


class WrongSecret(Exception):
    """The database was written under another secret: names would not meet, sealed data would not open."""


class Loaded(msgspec.Struct, frozen=True):
    """A message as the next decision needs it."""

    stream_id: UUID
    version: int  #: of the stream; 0: nothing recorded
    snapshot: Snapshot
    key: DataKey | None  #: None: erased

    @property
    def message(self) -> Message:
        return self.snapshot.message


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
        self._database_url = database_url

    def construct_mapper(self) -> Mapper[UUID]:
        return LedgerMapper()

    def construct_event_store(self) -> EventStore[UUID]:
        return LeanEventStore(self.mapper, self.recorder)

    def _notify(self, recordings: Any) -> None:
        """Readers follow positions; nothing is pushed from here."""

    def require_secrets(self, fingerprints: Mapping[str, str], others: Mapping[str, str] | None = None) -> None:
        """Compare secrets with those that the database was written under, by fingerprints kept in it.

        `others` has fingerprints that will do as well, of a secret that is being replaced. Raises WrongSecret.
        """
        with self.reading() as cursor:
            for name, fingerprint in fingerprints.items():
                cursor.execute(_KEEP_CONSTANT, (name, fingerprint))
                row = cursor.execute(_CONSTANT, (name,)).fetchone()
                if row is None or row[0] not in (fingerprint, (others or {}).get(name)):
                    raise WrongSecret(f"{name} is not the one that this database was written under")

    # Deciding ---------------------------------------------------------------------------------------------------------

    def load(self, stream_ids: Iterable[UUID]) -> list[Loaded]:
        """Return what is known about each stream; a stream without events is an unopened message with a new key."""
        wanted = {stream_id.int: stream_id for stream_id in stream_ids}
        with self.reading() as cursor:
            rows = cursor.execute(_LOAD, self._places(wanted.values()), prepare=True).fetchall()
        found: list[Loaded] = []
        for stream_id, version, state, wrapped in rows:
            key = None if wrapped is None else self.master_key.unwrap(wrapped, stream_id)
            found.append(Loaded(stream_id, version, self.snapshot(state, stream_id, key), key))
            del wanted[stream_id.int]
        found += [Loaded(new, 0, _UNKNOWN, DataKey.generate()) for new in wanted.values()]
        return found

    def _places(self, stream_ids: Iterable[UUID]) -> tuple[arrays.Column, arrays.Column]:
        streams = list(stream_ids)
        return arrays.smallints([partition(each, self.partitions) for each in streams]), arrays.uuids(streams)

    def snapshot(self, state: bytes, stream_id: UUID, key: DataKey | None) -> Snapshot:
        """Open a message as its row has it; fold its events where another version wrote the row."""
        try:
            return snapshot.decode(state, stream_id, key)
        except Outdated:
            return Snapshot(fold(self.history(stream_id)))

    def append(
        self,
        entries: list[Entry],
        rows: Sequence[StatusRow],
        keys: Sequence[DataKey | None],
        captures: Sequence[Capture] = (),
    ) -> list[int]:
        """Write events with their rows in one transaction and return their notification ids.

        `entries` come grouped by ascending partition; `keys` has the key of each row's message, if this append opens
        it. Raises StreamMoved, with nothing written, when another writer was first, and StoreUnavailable when the
        effect is unknown.
        """
        wrap = self.master_key.wrap
        wrapped = [key and wrap(key, row.stream_id) for row, key in zip(rows, keys, strict=True)]
        sealed = [capture.row(self.names, self.master_key) for capture in captures]
        try:
            return self.save(Unit(entries), rows=rows, wrapped=wrapped, captures=sealed)  # type: ignore[arg-type,return-value]
        except IntegrityError as error:
            raise StreamMoved("another writer appended first") from error
        except UNAVAILABLE as error:
            raise StoreUnavailable("the append did not complete") from error

    # Reading ----------------------------------------------------------------------------------------------------------

    def locate(self, message_id: int) -> UUID | None:
        """Return the stream that a public message id was given to; None if there is none."""
        number, bucket_ = divmod(message_id, BUCKETS)
        with self.reading() as cursor:
            cursor.execute(_LOCATE, {"partition": bucket_ % self.partitions, "position": number})
            row = cursor.fetchone()
        return row[0] if row is not None and bucket(row[0]) == bucket_ else None

    def merged(self, leading: UUID, other: UUID) -> Message:
        """Return the message that a stream and one more of the sender's tell of together, as hand-off finds them."""
        return fold(self.history(leading, other))

    def history(self, stream_id: UUID, *joining: UUID) -> list[RecordedEvent]:
        """Return every event of a message in the order of recording: its own and those of streams linked to it.

        `joining` are streams that are about to be linked. Raises Archived.
        """
        with self.reading() as cursor:
            return self._replay(cursor, stream_id, joining)

    def replay(self, connection: psycopg.Connection[TupleRow], stream_id: UUID) -> list[RecordedEvent]:
        """Return every event of a message as `history` does, as a connection of the caller's own sees them."""
        with connection.cursor(binary=True) as cursor:
            return self._replay(cursor, stream_id, ())

    def _replay(
        self, cursor: psycopg.Cursor[TupleRow], stream_id: UUID, joining: Sequence[UUID]
    ) -> list[RecordedEvent]:
        own = self._stream(cursor, stream_id)
        linked = [
            recorded.event.other
            for recorded in own
            if isinstance(recorded.event, MessageLinked) and recorded.event.leads
        ]
        return _in_order(own, [self._stream(cursor, other) for other in (*linked, *joining)])

    def history_until(self, stream_id: UUID, version: int) -> list[RecordedEvent]:
        """Return the events of a message as they were when its stream had this version, with the links of then."""
        with self.reading() as cursor:
            own = [recorded for recorded in self._stream(cursor, stream_id) if recorded.version <= version]
            linked = [each.event.other for each in own if isinstance(each.event, MessageLinked) and each.event.leads]
            return _in_order(own, [self._stream(cursor, other) for other in linked])

    def _key(self, cursor: psycopg.Cursor[TupleRow], stream_id: UUID) -> DataKey | None:
        wrapped = cursor.execute(_KEY, (partition(stream_id, self.partitions), stream_id)).fetchone()
        return self.master_key.unwrap(wrapped[0], stream_id) if wrapped else None

    def _stream(self, cursor: psycopg.Cursor[TupleRow], stream_id: UUID) -> list[RecordedEvent]:
        key, part = self._key(cursor, stream_id), partition(stream_id, self.partitions)
        rows = cursor.execute(_HISTORY, (part, stream_id)).fetchall()
        incomplete = not rows or rows[0][1] != 1
        if incomplete and cursor.execute(_ARCHIVED, (part, stream_id)).fetchone() is not None:
            raise Archived("the message's events are in an archive: `status-ledger restore` puts them back")
        return [
            RecordedEvent(
                position,
                stream_id,
                version,
                self.mapper.read(Stored(stream_id, version, type_, state), key).event,
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

    @contextmanager
    def viewing(self) -> Iterator[psycopg.Cursor[TupleRow]]:
        """Borrow a cursor that sees one snapshot of the database and changes nothing.

        Raises StoreUnavailable, and TableMissing where a table is read that somebody has dropped since.
        """
        try:
            with self.reading() as cursor, cursor.connection.transaction():
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield cursor
        except ProgrammingError as error:
            if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
                raise TableMissing("a table has been dropped meanwhile") from error
            raise

    def connect(self, **limits: str) -> psycopg.Connection[TupleRow]:
        """Open a connection of the caller's own, in autocommit, for work that takes longer than a request may.

        `limits` are settings of the session that replace ours. Raises StoreUnavailable.
        """
        try:
            connection = psycopg.connect(
                connection_string(self._database_url, **limits), autocommit=True, row_factory=tuple_row
            )
        except psycopg.OperationalError as error:
            raise StoreUnavailable("the database cannot be reached") from error
        configure(connection)
        return connection


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
_UNKNOWN: Final = Snapshot(Message())
_LOAD: Final = b"SELECT * FROM ledger_load(%s, %s)"
_LOCATE: Final = b"""
SELECT stream_id FROM events WHERE partition = %(partition)s AND position = %(position)s AND version = 1
UNION ALL SELECT stream_id FROM archived_messages WHERE partition = %(partition)s AND position = %(position)s
"""
_ARCHIVED: Final = b"SELECT FROM archived_messages WHERE partition = %s AND stream_id = %s"
_KEY: Final = b"SELECT wrapped FROM message_keys WHERE partition = %s AND stream_id = %s"
_HISTORY: Final = b"""
SELECT position, version, type, state, recorded_at, hash FROM events
 WHERE partition = %s AND stream_id = %s ORDER BY version
"""
