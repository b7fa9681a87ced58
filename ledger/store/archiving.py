"""Taking old events out of the log, into files, and back.

What leaves is whole messages that have been quiet: every event of every stream of theirs lies before a position, and
no legal hold is on them. What a range of positions loses is written down before the first row goes: the hashes of the
whole range (`archived_hashes`), so that chain and tree still fit, and where each message's first event was. Rows of
messages that went on stay where they are. Statuses and data keys stay too: a status is still answered, a repeat still
recognised, and an erasure reaches what is sealed in the files.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from ledger.proof.chain import link, middle
from ledger.proof.files import Line
from ledger.store.erasing import HOLD_LOCK
from ledger.store.scan import TILE, Connection, hash_at, kept_hashes

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_STREAMS: Final = 1_000
_PAGE: Final = 1_000


class Range(NamedTuple):
    """Positions of one partition that are to be archived, and the hash of the position before them."""

    partition: int
    first: int
    last: int
    before: bytes


class NotRestorable(ValueError):
    """The file does not hold what the log says it should. Nothing was changed."""


def ranges(connection: Connection, cutoff: datetime) -> list[Range]:
    """Return what was recorded before an instant and is in no archive yet, up to what every read model has read."""
    found = []
    for partition, head, first, read in connection.execute(_HEADS).fetchall():
        last = min(_last_before(connection, partition, head, cutoff), read)
        if last >= first:
            before = hash_at(connection, partition, first - 1) if first > 1 else bytes(32)
            if before is None:
                raise LookupError(f"position {first - 1} of partition {partition} is not there")
            found.append(Range(partition, first, last, before))
    return found


def _last_before(connection: Connection, partition: int, head: int, cutoff: datetime) -> int:
    """Find the last position recorded before an instant: times never fall from one position to the next."""
    low, high = 0, head
    while low < high:
        middle_ = (low + high + 1) // 2
        row = connection.execute(_NEXT, (partition, middle_)).fetchone()
        if row is None or row[1] >= cutoff:
            high = middle_ - 1
        else:
            low = row[0]
    return low


def lines(connection: Connection, partition: int, first: int, last: int) -> Iterator[Line]:
    """Yield the events of a range as they are stored."""
    for begin in range(first, last + 1, _PAGE):
        rows = connection.execute(_LINES, (partition, begin, min(begin + _PAGE - 1, last)), binary=True).fetchall()
        for position, stream_id, version, type_, recorded_at, state, hash_ in rows:
            yield Line(
                position=position,
                stream_id=stream_id,
                version=version,
                type=type_,
                recorded_at=(recorded_at - _EPOCH) // _MICROSECOND,
                state=state,
                hash=hash_,
            )


def note(connection: Connection, told: Range, file: str, digest: bytes, by: str) -> None:
    """Put on record that a range is in a file, with its hashes. Nothing has left the log yet."""
    with connection.transaction():
        for tile in range((told.first - 1) // TILE, (told.last - 1) // TILE + 1):
            begin = tile * TILE + 1
            hashes = kept_hashes(connection, told.partition, begin, begin + TILE - 1)
            for position, hash_ in connection.execute(
                _HASHES, (told.partition, max(begin, told.first), min(begin + TILE - 1, told.last)), binary=True
            ):
                hashes[position - begin] = hash_
            packed = b"".join(hash_ or bytes(32) for hash_ in hashes)
            connection.execute(_KEEP_TILE, (told.partition, tile, packed))
        connection.execute(_KEEP, (told.partition, told.first, told.last, file, digest, by))


def remove(connection: Connection, partition: int, cutoff: datetime) -> Iterator[int]:
    """Remove quiet messages from the archived ranges of a partition; yield how many events went, some at a time."""
    row = connection.execute(_ARCHIVED_UP_TO, (partition,)).fetchone()
    upto = row[0] if row else 0
    after = UUID(int=0)
    while True:
        page = connection.execute(_STREAMS_PAGE, (partition, upto, after, _STREAMS)).fetchall()
        if not page:
            return
        after = page[-1][0]
        with connection.transaction():
            connection.execute(_LOCK, (HOLD_LOCK,))
            told = {"partition": partition, "streams": [row[0] for row in page], "upto": upto, "cutoff": cutoff}
            quiet = [row[0] for row in connection.execute(_QUIET, told).fetchall()]
            connection.execute(_KEEP_MESSAGES, (partition, quiet))
            gone = connection.execute(_REMOVE, (partition, quiet)).fetchall()
            positions = [row[0] for row in gone]
            connection.execute(_COUNT_REMOVED, {"partition": partition, "positions": positions})
        yield len(positions)


def archived(connection: Connection, streams: Sequence[UUID]) -> dict[UUID, int]:
    """Return those of the streams that have events in an archive, each with its partition."""
    rows = connection.execute(_ARCHIVED, (list(streams),)).fetchall()
    return dict(rows)


def all_archived(connection: Connection) -> dict[UUID, int]:
    rows = connection.execute(_ALL_ARCHIVED).fetchall()
    return dict(rows)


def restore(connection: Connection, partition: int, found: Iterable[tuple[bytes, Line]]) -> int:
    """Put events back, each given with the hash of the position before; return how many were not there.

    Raises NotRestorable for an event that is not the one that left, and if a message would not be whole again.
    """
    streams: set[UUID] = set()
    count = 0
    with connection.transaction():
        for before, line in found:
            told = middle(line.stream_id, line.version, line.position, line.type, line.recorded_at)
            hash_ = link(before, told, line.state)
            kept = kept_hashes(connection, partition, line.position, line.position)[0]
            if hash_ != line.hash or (kept and kept != hash_) or not kept:
                raise NotRestorable(f"the event at position {line.position} is not the one that left the log")
            at = _EPOCH + line.recorded_at * _MICROSECOND
            row = (partition, line.position, line.stream_id, line.version, line.type, line.state, at, line.hash)
            inserted = connection.execute(_INSERT, row).rowcount
            if inserted:
                connection.execute(_COUNT_RESTORED, (partition, line.position))
            count += inserted
            streams.add(line.stream_id)
        broken = connection.execute(_NOT_WHOLE, (partition, list(streams))).fetchone()
        if broken is not None:
            raise NotRestorable(f"events of stream {broken[0]} are missing: give all files of the archive")
        connection.execute(_FORGET_MESSAGES, (partition, list(streams)))
    return count


_HEADS: Final = b"""
SELECT h.partition, h.position, coalesce((SELECT max(a.last) FROM archives a WHERE a.partition = h.partition), 0) + 1,
       coalesce((SELECT min(p.position)
                   FROM projection_cursors p JOIN projection_generations g USING (projection, generation)
                  WHERE p.partition = h.partition AND g.state <> 'retired'), h.position)
  FROM partition_heads h ORDER BY h.partition
"""
_NEXT: Final = b"""
SELECT position, recorded_at FROM events WHERE partition = %s AND position >= %s ORDER BY position LIMIT 1
"""
_LINES: Final = b"""
SELECT position, stream_id, version, type, recorded_at, state, hash FROM events
 WHERE partition = %s AND position BETWEEN %s AND %s ORDER BY position
"""
_HASHES: Final = b"SELECT position, hash FROM events WHERE partition = %s AND position BETWEEN %s AND %s"
_KEEP_TILE: Final = b"""
INSERT INTO archived_hashes (partition, tile, hashes) VALUES (%s, %s, %s)
    ON CONFLICT (partition, tile) DO UPDATE SET hashes = excluded.hashes
"""
_KEEP: Final = b"""
INSERT INTO archives (partition, first, last, removed, file, digest, archived_by) VALUES (%s, %s, %s, 0, %s, %s, %s)
"""
_ARCHIVED_UP_TO: Final = b"SELECT max(last) FROM archives WHERE partition = %s"
_STREAMS_PAGE: Final = b"""
SELECT DISTINCT stream_id FROM events WHERE partition = %s AND position <= %s AND stream_id > %s
 ORDER BY stream_id LIMIT %s
"""
_LOCK: Final = b"SELECT pg_advisory_xact_lock_shared(%s)"
#: Streams of messages none of whose streams has an event behind the archived ranges, or is held.
_QUIET: Final = b"""
SELECT c.stream_id FROM current_status c
 WHERE c.partition = %(partition)s AND c.stream_id = ANY(%(streams)s)
   AND NOT EXISTS (SELECT FROM events e
                    WHERE e.partition = c.partition AND e.stream_id = c.stream_id AND e.position > %(upto)s)
   AND NOT EXISTS (
        SELECT FROM current_status o
          LEFT JOIN events e ON e.partition = o.partition AND e.stream_id = o.stream_id AND e.version = o.version
         WHERE (o.linked_to = c.stream_id OR o.linked_to = c.linked_to OR o.stream_id = c.linked_to)
           AND o.stream_id <> c.stream_id AND e.recorded_at >= %(cutoff)s)
   AND NOT EXISTS (
        SELECT FROM holds h WHERE h.stream_id = c.stream_id OR h.stream_id = c.linked_to)
   AND NOT EXISTS (
        SELECT FROM holds h JOIN current_status o USING (partition, stream_id)
         WHERE o.linked_to = c.stream_id OR o.linked_to = c.linked_to)
"""
_KEEP_MESSAGES: Final = b"""
INSERT INTO archived_messages AS a (partition, position, stream_id, last_position)
SELECT e.partition, (SELECT c.message_id / 256 FROM current_status c
                      WHERE c.partition = e.partition AND c.stream_id = e.stream_id), e.stream_id, max(e.position)
  FROM events e WHERE e.partition = %s AND e.stream_id = ANY(%s) GROUP BY e.partition, e.stream_id
    ON CONFLICT (partition, position) DO UPDATE SET last_position = greatest(a.last_position, excluded.last_position)
"""
_REMOVE: Final = b"DELETE FROM events WHERE partition = %s AND stream_id = ANY(%s) RETURNING position"
_COUNT_REMOVED: Final = b"""
UPDATE archives a SET removed = removed + gone.count
  FROM (SELECT o.first, count(*)
          FROM archives o JOIN unnest(%(positions)s::bigint[]) AS at ON at BETWEEN o.first AND o.last
         WHERE o.partition = %(partition)s GROUP BY o.first) AS gone
 WHERE a.partition = %(partition)s AND a.first = gone.first
"""
_COUNT_RESTORED: Final = b"UPDATE archives SET removed = removed - 1 WHERE partition = %s AND %s BETWEEN first AND last"
_ARCHIVED: Final = b"SELECT stream_id, partition FROM archived_messages WHERE stream_id = ANY(%s)"
_ALL_ARCHIVED: Final = b"SELECT stream_id, partition FROM archived_messages"
_INSERT: Final = b"""
INSERT INTO events (partition, position, stream_id, version, type, state, recorded_at, hash)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_NOT_WHOLE: Final = b"""
SELECT c.stream_id FROM current_status c
 WHERE c.partition = %s AND c.stream_id = ANY(%s)
   AND c.version <> (SELECT count(*) FROM events e WHERE e.partition = c.partition AND e.stream_id = c.stream_id)
 LIMIT 1
"""
_FORGET_MESSAGES: Final = b"DELETE FROM archived_messages WHERE partition = %s AND stream_id = ANY(%s)"
