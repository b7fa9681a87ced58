"""The database as the writer sees it: the real `Ledger` with its statements replaced by a store in memory.

What it keeps of PostgreSQL: an append is atomic; positions have no gaps and no two streams' versions meet; what was
committed stays, whoever dies. What it adds is everything that can go wrong between: see `Weather`.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from ledger.domain.events import StatusObserved
from ledger.domain.identity import BUCKETS, bucket, partition
from ledger.domain.message import Message
from ledger.store.application import (
    Ledger,
    Loaded,
    RecordedEvent,
    StoreUnavailable,
    StreamMoved,
    _hands_over,
    _in_order,
)
from ledger.store.captures import Capture
from ledger.store.mapper import Entry, LedgerMapper, Stored
from ledger.store.rows import StatusRow
from ledger.store.sealing import DataKey, MasterKey
from ledger.store.snapshot import Snapshot
from ledger.wire.contract import Secret
from scripts.chaos_suite.simulation.loop import Process, Simulation
from tests.builders import NAMES, NOON

#: A provider's word that the store refuses to write, alone or among others.
POISON: Final = "a word that cannot be stored"
#: Our side gives a statement up after this time.
ANSWER_SECONDS_MAX: Final = 4.0
MASTER_KEY: Final = MasterKey(Secret(bytes(32)))


class Weather(msgspec.Struct):
    """How likely each fault is, for one statement. All are zero in the phase of liveness."""

    lost: float = 0.0  #: the statement never arrives
    refused: float = 0.0  #: it fails before the commit
    answer_lost: float = 0.0  #: it is committed, and nobody hears of it
    late: float = 0.0  #: it is committed after its sender has given it up
    slow: float = 0.0  #: it takes up to three seconds


class Line(NamedTuple):
    """An event as committed."""

    partition: int
    position: int
    stored: Stored
    recorded_at: datetime


class Row(NamedTuple):
    version: int
    state: bytes
    status: str
    corrections: int
    before: bytes | None = None  #: the state that this one replaced


class Written(NamedTuple):
    """A row of an append, and its message's key if that is new."""

    stream_id: UUID
    row: Row
    wrapped: bytes | None


class Violation(Exception):
    """Something that must never be so is so."""


class Store:
    """One database, that planted errors may change the promises of."""

    def __init__(self, simulation: Simulation, partitions: int) -> None:
        self.simulation = simulation
        self.partitions = partitions
        self.weather = Weather()
        self.is_up = True
        self.epoch = 0  #: of its process: a new one after every restart
        self.log: list[list[Line]] = [[] for _ in range(partitions)]
        self.streams: dict[UUID, list[Line]] = {}
        self.rows: dict[UUID, Row] = {}
        self.keys: dict[UUID, bytes] = {}
        self.captures: set[bytes] = set()
        self.observations: dict[bytes, int] = {}  #: key of an observation -> times on record
        self.cursors: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self.locks: dict[int, object] = {}  #: partition -> the connection whose transaction has its cursor
        self.counted: dict[UUID, int] = {}
        self.parked: set[tuple[int, int]] = set()
        self.seen: dict[str, int] = {}  #: what has happened, for the proof that something did
        self.checks_row: Callable[[UUID, Row | None, Row], None] | None = None
        self._ticks = 0

    def count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1

    def crash(self) -> None:
        self.is_up = False
        self.epoch += 1
        self.locks.clear()
        self.count("database crashes")
        self.simulation.note("database down")

    def start(self) -> None:
        self.is_up = True
        self.simulation.note("database up")

    def heads(self) -> list[int]:
        return [len(lines) for lines in self.log]

    def visible(self, part: int, after: int) -> list[Line]:
        """Return what a reader of a partition sees behind a position."""
        return self.log[part][after:]

    def travel(self, process: Process, epoch: int) -> None:
        """Let a statement or its answer travel. Raises StoreUnavailable if the database went away meanwhile."""
        random = self.simulation.random
        slow = self.simulation.chance(self.weather.slow)
        process.pause(random.uniform(0.3, 3.0) if slow else random.uniform(0.0002, 0.01))
        if not self.is_up or self.epoch != epoch:
            raise StoreUnavailable("the connection was lost")

    def commit(
        self, entries: Sequence[Stored], keys: Sequence[bytes], rows: Sequence[Written], captures: Sequence[bytes]
    ) -> None:
        """Write all of it or nothing: events, the keys of their observations, rows, captures. Raises StreamMoved."""
        versions: dict[UUID, int] = {}
        for stored in entries:
            stream_id = stored.originator_id
            version = versions.get(stream_id, len(self.streams.get(stream_id, ())))
            if stored.originator_version != version + 1:
                self.count("conflicts")
                raise StreamMoved("another writer appended first")
            versions[stream_id] = version + 1
        self._ticks += 1
        at = NOON + timedelta(seconds=self.simulation.now, microseconds=self._ticks)
        for stored in entries:
            part = partition(stored.originator_id, self.partitions)
            line = Line(part, len(self.log[part]) + 1, stored, at)
            self.log[part].append(line)
            self.streams.setdefault(stored.originator_id, []).append(line)
            self.simulation.note("committed", part, line.position, stored.topic, stored.originator_id.hex[:8])
        for key in keys:
            self.observations[key] = self.observations.get(key, 0) + 1
        for stream_id, row, wrapped in rows:
            before = self.rows.get(stream_id)
            self.rows[stream_id] = row._replace(before=before.state if before else None)
            if wrapped is not None:
                self.keys.setdefault(stream_id, wrapped)
            if self.checks_row is not None:
                self.checks_row(stream_id, before, row)
        self.captures.update(captures)
        self.count("commits")


class SimulatedLedger(Ledger):
    """One process's way to the store: real folding, mapping and sealing; simulated statements."""

    def __init__(self, store: Store, process: Process) -> None:
        self.store = store
        self.process = process
        self.names = NAMES
        self.partitions = store.partitions
        self.master_key = MASTER_KEY
        self.mapper = LedgerMapper()

    def _reach(self) -> int:
        if not self.store.is_up:
            self.process.pause(0.01)
            raise StoreUnavailable("the database cannot be reached")
        return self.store.epoch

    def load(self, stream_ids: Iterable[UUID]) -> list[Loaded]:
        store, epoch = self.store, self._reach()
        store.travel(self.process, epoch)
        wanted = list(dict.fromkeys(stream_ids))
        rows = [(stream_id, store.rows.get(stream_id), store.keys.get(stream_id)) for stream_id in wanted]
        store.travel(self.process, epoch)
        return [self._loaded(stream_id, row, wrapped) for stream_id, row, wrapped in rows]

    def _loaded(self, stream_id: UUID, row: Row | None, wrapped: bytes | None) -> Loaded:
        if row is None:
            return Loaded(stream_id, 0, Snapshot(Message()), DataKey(stream_id.bytes * 2))
        key = None if wrapped is None else self.master_key.unwrap(wrapped, stream_id)
        return Loaded(stream_id, row.version, self.snapshot(row.state, stream_id, key), key)

    def append(
        self,
        entries: list[Entry],
        rows: Sequence[StatusRow],
        keys: Sequence[DataKey | None],
        captures: Sequence[Capture] = (),
    ) -> list[int]:
        store, simulation = self.store, self.store.simulation
        epoch, weather = self._reach(), store.weather
        store.travel(self.process, epoch)
        if simulation.chance(weather.lost):
            return self._no_answer("statements lost")
        for entry in entries:
            event = entry.event
            if isinstance(event, StatusObserved) and event.personal.provider_status == POISON:
                store.count("poisoned statements")
                raise ValueError("a value that the database refuses")
        if simulation.chance(weather.refused):
            store.count("appends refused")
            raise StoreUnavailable("the append did not complete")
        commit = self._commit(entries, rows, keys, captures)
        if simulation.chance(weather.late):
            simulation.after(simulation.random.uniform(0.5, 6.0), self._late, commit, epoch)
            return self._no_answer("commits after their sender gave up")
        commit()
        if simulation.chance(weather.answer_lost):
            return self._no_answer("commit answers lost")
        try:
            store.travel(self.process, epoch)
        except StoreUnavailable:
            store.count("commit answers lost")
            raise
        return []

    def _commit(
        self,
        entries: list[Entry],
        rows: Sequence[StatusRow],
        keys: Sequence[DataKey | None],
        captures: Sequence[Capture],
    ) -> Callable[[], None]:
        """Return the append as the database gets it: bytes, made before it travels."""
        stored = [self.mapper.to_stored_event(entry) for entry in entries]
        observed = [entry.event.key for entry in entries if isinstance(entry.event, StatusObserved)]
        versions = {entry.originator_id: entry.originator_version for entry in entries}
        written = []
        for row, new in zip(rows, keys, strict=True):
            message = self.snapshot(row.state, row.stream_id, new or self._key_of(row.stream_id)).message
            now = Row(versions[row.stream_id], row.state, row.status, message.corrections)
            written.append(Written(row.stream_id, now, new and self.master_key.wrap(new, row.stream_id)))
        kept = [capture.content for capture in captures]
        store = self.store
        return lambda: store.commit(stored, observed, written, kept)

    def _key_of(self, stream_id: UUID) -> DataKey | None:
        wrapped = self.store.keys.get(stream_id)
        return None if wrapped is None else self.master_key.unwrap(wrapped, stream_id)

    def _late(self, commit: Callable[[], None], epoch: int) -> None:
        """Commit what nobody waits for any more, unless the database has been restarted or the streams have moved."""
        if self.store.epoch == epoch:
            try:
                commit()
            except StreamMoved:
                self.store.count("late commits refused")

    def _no_answer(self, why: str) -> list[int]:
        self.store.count(why)
        self.process.pause(ANSWER_SECONDS_MAX)
        raise StoreUnavailable("the database did not answer")

    def history(self, stream_id: UUID, *joining: UUID) -> list[RecordedEvent]:
        """Return what `Ledger.history` does, of one moment."""
        own = self._lines(stream_id)
        linked = [each.event.other for each in own if _leads(each)]
        return _in_order(own, [self._lines(other) for other in (*linked, *joining)])

    def merged(self, leading: UUID, other: UUID) -> Message:
        epoch = self._reach()
        self.store.travel(self.process, epoch)
        return super().merged(leading, other)

    def _lines(self, stream_id: UUID) -> list[RecordedEvent]:
        key = self._key_of(stream_id)
        return [
            RecordedEvent(
                line.position,
                stream_id,
                line.stored.originator_version,
                self.mapper.read(line.stored, key).event,
                line.recorded_at,
                b"",
            )
            for line in self.store.streams.get(stream_id, ())
        ]

    def message_id(self, stream_id: UUID) -> int:
        return self.store.streams[stream_id][0].position * BUCKETS + bucket(stream_id)


def _leads(recorded: RecordedEvent) -> bool:
    return hasattr(recorded.event, "leads") and not _hands_over(recorded)
