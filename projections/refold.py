"""Rebuilding `current_status`: every message folded anew from its events, while callbacks keep arriving.

The table is written with the events, so there is never another one to exchange it for. Each share of the messages is
folded and compared in one snapshot of the database. Rows that differ are then written anew, a few in a transaction and
each under its row lock, from the events that are on record at that moment. Readers see a message's row as it was or as
it is, and wait for nothing; a writer waits for no longer than one such transaction takes.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg.rows import dict_row

from ledger.domain.events import MessageLinked
from ledger.domain.identity import BUCKETS
from ledger.domain.message import Message, evolve
from ledger.store import snapshot
from ledger.store.application import Ledger, RecordedEvent, fold
from ledger.store.rows import COLUMNS
from projections import current_status
from projections.feed import Logged, keys_of
from projections.generations import Connection
from projections.rebuild import EXAMPLES, PORTION, Difference, EventPlace, Example, pages

#: Rows in one transaction.
STEP: Final = 200
#: A row is written anew again if a writer, who had loaded the old one, comes in between.
_ROUNDS_MAX: Final = 5
_EVENTS_SHOWN: Final = 20
#: Every position there is.
_ALL: Final = (1 << 63) - 1
_LOOKUPS: Final = ("provider_lookup", "recipient_lookup", "reference_lookup")
_LIMITS: Final = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "10min", "lock_timeout": "5s"}

Row = dict[str, Any]


class Found(msgspec.Struct):
    """What a share of the messages amounted to."""

    equal: int = 0
    changed: int = 0
    only_old: int = 0
    only_new: int = 0
    examples: list[Example] = []

    def count(self, kind: str) -> int:
        setattr(self, kind, getattr(self, kind) + 1)
        return int(getattr(self, kind))


def run(
    ledger: Ledger, *, dry_run: bool, report: Callable[[int, int], None] = lambda _done, _total: None
) -> Difference:
    """Compare every row with what its events say and, unless it is a dry run, write those that differ anew.

    Returns what was found before anything was written.
    """
    found, done = Found(), 0
    with ledger.connect(**_LIMITS) as connection:
        heads: list[Any] = connection.execute(_HEADS).fetchall()
        total = sum(position for _, position in heads)
        for partition, head in heads:
            for buckets in _shares(partition, len(heads), head):
                differing, events = _compare(ledger, connection, partition, buckets, found)
                if not dry_run:
                    _write(ledger, connection, differing)
                done += events
                report(min(done, total), total)
    return Difference(**{name: getattr(found, name) for name in Difference.__struct_fields__})


def _shares(partition: int, partitions: int, head: int) -> Iterator[tuple[int, int]]:
    """Yield (first bucket, last bucket)."""
    buckets = range(partition, BUCKETS, partitions)
    shares = max(1, min(len(buckets), -(-head // PORTION)))
    for share in range(shares):
        own = buckets[share * len(buckets) // shares : (share + 1) * len(buckets) // shares]
        yield own[0], own[-1]


def _compare(
    ledger: Ledger, connection: Connection, partition: int, buckets: tuple[int, int], found: Found
) -> tuple[list[UUID], int]:
    """Compare one share in one snapshot. Return the streams whose rows differ, and the number of events."""
    differing: list[UUID] = []
    events = 0
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        low, high = UUID(int=buckets[0] << 120), UUID(int=((buckets[1] + 1) << 120) - 1)
        rows = _rows(connection, partition, low, high)
        for page in pages(connection, partition, buckets, _ALL):
            events += len(page)
            keys = _keys(connection, partition, {each.stream_id for each in page})
            for stream_id, logged in groupby(page, lambda each: each.stream_id):
                stored = rows.pop(stream_id, None)
                rebuilt = _made(ledger, connection, stream_id, list(logged), keys.get(stream_id))
                kind = "only_new" if stored is None else "equal" if _same(ledger, stored, rebuilt) else "changed"
                if found.count(kind) <= EXAMPLES and kind != "equal":
                    found.examples.append(_example(ledger, connection, kind, stored, rebuilt))
                if kind != "equal":
                    differing.append(stream_id)
        for stream_id, stored in rows.items():
            if found.count("only_old") <= EXAMPLES:
                found.examples.append(_example(ledger, connection, "only_old", stored, None))
            differing.append(stream_id)
    return differing, events


def _keys(connection: Connection, partition: int, stream_ids: Collection[UUID]) -> dict[UUID, bytes]:
    with connection.cursor(binary=True) as cursor:
        return keys_of(cursor, partition, stream_ids)


def _made(
    ledger: Ledger, connection: Connection, stream_id: UUID, logged: Sequence[Logged], wrapped: bytes | None
) -> Row:
    """Return a stream's row as these events of it have it, with those of streams that are linked to it."""
    key = ledger.master_key.unwrap(wrapped, stream_id) if wrapped is not None else None
    events = [each.unsealed(ledger, wrapped) for each in logged]
    if any(isinstance(event, MessageLinked) and event.leads for event in events):
        message = fold(ledger.replay(connection, stream_id))
    else:
        message = Message()
        for event in events:
            message = evolve(message, event)
    version = logged[-1].version
    made = current_status.row(
        ledger.names, message, stream_id=stream_id, version=version, first=1, last=len(events), key=key
    )
    row = {name: getattr(made, name) for name in ("stream_id", *COLUMNS)}
    return row | {
        "version": version,
        "message_id": logged[0].position * BUCKETS + stream_id.bytes[0],
        "opened_at": logged[0].recorded_at,
        "message": message,
        **{name: row[name] or None for name in _LOOKUPS},
    }


def _rows(connection: Connection, partition: int, low: UUID, high: UUID) -> dict[UUID, Row]:
    with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        return {row["stream_id"]: row for row in cursor.execute(_ROWS, (partition, low, high))}


def _same(ledger: Ledger, stored: Row, rebuilt: Row) -> bool:
    compared = [name for name in rebuilt if name not in ("state", "message")]
    return all(stored[name] == rebuilt[name] for name in compared) and _message(ledger, stored) == rebuilt["message"]


def _message(ledger: Ledger, stored: Row) -> Message | None:
    """Open the folded message of a row; None where another version wrote it: it is to be written anew."""
    key = ledger.master_key.unwrap(stored["wrapped"], stored["stream_id"]) if stored["wrapped"] is not None else None
    try:
        return snapshot.decode(stored["state"], stored["stream_id"], key).message
    except (snapshot.Outdated, msgspec.DecodeError):
        return None


# Writing --------------------------------------------------------------------------------------------------------------


def _write(ledger: Ledger, connection: Connection, streams: Sequence[UUID]) -> None:
    left = sorted(streams)
    for _ in range(_ROUNDS_MAX):
        if not left:
            return
        for start in range(0, len(left), STEP):
            with connection.transaction():
                for stream_id in left[start : start + STEP]:
                    _write_one(ledger, connection, stream_id)
        left = [stream_id for stream_id in left if not is_right(ledger, connection, stream_id)]


def _write_one(ledger: Ledger, connection: Connection, stream_id: UUID) -> None:
    place = (stream_id.bytes[0] % ledger.partitions, stream_id)
    connection.execute(_LOCK, place)
    events = _events(connection, stream_id, place[0])
    if not events:
        connection.execute(_DELETE, place)
        return
    wrapped = _keys(connection, place[0], [stream_id]).get(stream_id)
    rebuilt = _made(ledger, connection, stream_id, events, wrapped)
    connection.execute(_UPSERT, (*place, *(rebuilt[name] for name in _WRITTEN)))


def is_right(ledger: Ledger, connection: Connection, stream_id: UUID) -> bool:
    """Tell whether a stream's row says in every column what its events say, or there is neither."""
    partition = stream_id.bytes[0] % ledger.partitions
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        stored = _rows(connection, partition, stream_id, stream_id).get(stream_id)
        events = _events(connection, stream_id, partition)
        if stored is None or not events:
            return stored is None and not events
        wrapped = _keys(connection, partition, [stream_id]).get(stream_id)
        return _same(ledger, stored, _made(ledger, connection, stream_id, events, wrapped))


def _events(connection: Connection, stream_id: UUID, partition: int) -> list[Logged]:
    with connection.cursor(binary=True) as cursor:
        cursor.execute(_STREAM, (partition, stream_id))
        return [Logged(partition, *row) for row in cursor.fetchall()]


# Showing --------------------------------------------------------------------------------------------------------------


def _example(ledger: Ledger, connection: Connection, kind: str, stored: Row | None, rebuilt: Row | None) -> Example:
    stream_id: UUID = (stored or rebuilt or {})["stream_id"]
    old, new = _shown(stored), _shown(rebuilt)
    if old is not None and new is not None:
        differing = [name for name in new if old.get(name) != new[name]]
        old, new = ({name: side[name] for name in differing} for side in (old, new))
        if not differing:
            old = new = {"state": "the folded message differs"}
    history: list[RecordedEvent] = ledger.replay(connection, stream_id)[:_EVENTS_SHOWN]
    return Example(
        table="current_status",
        kind=kind,
        key={"partition": stream_id.bytes[0] % ledger.partitions, "stream_id": str(stream_id)},
        old=old,
        new=new,
        events=tuple(EventPlace(recorded.position, type(recorded.event).__name__) for recorded in history),
    )


def _shown(row: Row | None) -> dict[str, Any] | None:
    """Return a row without what is sealed in it."""
    if row is None:
        return None
    hidden = {"state", "message", "wrapped", "stream_id", "partition"}
    return {
        name: value.hex() if isinstance(value, bytes) else msgspec.to_builtins(value)
        for name, value in row.items()
        if name not in hidden
    }


_WRITTEN: Final = ("version", "message_id", "opened_at", *COLUMNS)
_HEADS: Final = b"SELECT partition, position FROM partition_heads ORDER BY partition"
_ROWS: Final = b"""
SELECT c.*, k.wrapped FROM current_status c LEFT JOIN message_keys k USING (partition, stream_id)
 WHERE c.partition = %s AND c.stream_id >= %s AND c.stream_id <= %s
"""
_STREAM: Final = b"""
SELECT e.position, e.stream_id, e.version, e.type, e.state, e.recorded_at
  FROM events e
 WHERE e.partition = %s AND e.stream_id = %s ORDER BY e.version
"""
_LOCK: Final = b"SELECT 1 FROM current_status WHERE partition = %s AND stream_id = %s FOR UPDATE"
_DELETE: Final = b"DELETE FROM current_status WHERE partition = %s AND stream_id = %s"
_UPSERT: Final = (
    f"INSERT INTO current_status AS c (partition, stream_id, {', '.join(_WRITTEN)})"
    f" VALUES (%s, %s, {', '.join(['%s'] * len(_WRITTEN))})"
    " ON CONFLICT (partition, stream_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _WRITTEN)
    + " WHERE c.version <= excluded.version"
).encode()
