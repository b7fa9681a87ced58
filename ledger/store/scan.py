"""Reading the log whole, in the order of positions, as it is stored: for verification and for archives.

The database hands out blocks of columns; the next one is read while the last one is worked on. Connections are ours
alone, with no time limit on a statement but that of the block. Positions that have left the log for an archive come as
the hashes that were kept of them (`Gone`).
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.rows import tuple_row

from ledger.proof.chain import Block
from ledger.store.recorder import connection_string

#: Events read at once: as many as make the costs of a statement small. A block of the largest events is some megabytes.
BLOCK_EVENTS: Final = 1_000
_BLOCK_SECONDS_MAX: Final = 60
Connection = psycopg.Connection[tuple[Any, ...]]


class Head(NamedTuple):
    """Where a partition ends, and which positions stand in `events`: the first and the last; 1 and 0 if none do."""

    partition: int
    position: int
    hash: bytes
    first_stored: int
    last_stored: int


class Gone(NamedTuple):
    """Consecutive positions of which rows have left the log. Those that were kept are in `kept`, by index."""

    hashes: list[bytes]
    kept: dict[int, tuple[bytes, bytes]]  #: index -> middle and state


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Yield a connection for long reads. Raises psycopg.OperationalError if there is no database."""
    with psycopg.connect(connection_string(url), autocommit=True, row_factory=tuple_row) as connection:
        connection.execute(f"SET statement_timeout = '{_BLOCK_SECONDS_MAX}s'".encode())
        yield connection


def heads(connection: Connection) -> list[Head]:
    """Return all heads, as one snapshot shows them."""
    return [Head(*row) for row in connection.execute(_HEADS)]


def headless(connection: Connection) -> int | None:
    """Return the first partition that has events and no head; None if there is no such."""
    row = connection.execute(_HEADLESS).fetchone()
    return None if row is None else int(row[0])


def blocks(connection: Connection, partition: int, after: int, upto: int) -> Iterator[Block | Gone]:
    """Yield the events of a partition behind a position, up to another. The caller must not use the connection."""
    spans = _spans(connection, partition, after, upto)
    with ThreadPoolExecutor(1, "scan") as thread:
        waiting: Future[Block | Gone | None] | None = None
        for first, last, archived in spans:
            coming = thread.submit(_gone if archived else _block, connection, partition, first, last)
            if waiting is not None and (found := waiting.result()) is not None:
                yield found
            waiting = coming
        if waiting is not None and (found := waiting.result()) is not None:
            yield found


def _spans(connection: Connection, partition: int, after: int, upto: int) -> list[tuple[int, int, bool]]:
    """Divide positions into blocks, none of which is partly archived: (first, last, whether it is)."""
    spans: list[tuple[int, int, bool]] = []
    first = after + 1
    for begin, end in connection.execute(_ARCHIVED, (partition, after, upto)).fetchall():
        spans += [(*span, False) for span in _cut(first, min(begin - 1, upto))]
        spans += [(*span, True) for span in _cut(max(begin, first), min(end, upto))]
        first = max(first, end + 1)
    return spans + [(*span, False) for span in _cut(first, upto)]


def _cut(first: int, last: int) -> list[tuple[int, int]]:
    return [(at, min(at + BLOCK_EVENTS - 1, last)) for at in range(first, last + 1, BLOCK_EVENTS)]


def _block(connection: Connection, partition: int, first: int, last: int) -> Block | None:
    row = connection.execute(_BLOCK, (partition, first, last), binary=True, prepare=True).fetchone()
    return Block(*row) if row is not None and row[0] is not None else None


def _gone(connection: Connection, partition: int, first: int, last: int) -> Gone:
    hashes = kept_hashes(connection, partition, first, last)
    rows = connection.execute(_KEPT, (partition, first, last), binary=True).fetchall()
    return Gone(hashes, {position - first: (middle, state) for position, middle, state in rows})


def kept_hashes(connection: Connection, partition: int, first: int, last: int) -> list[bytes]:
    """Return the hashes of positions that have left the log, or that lie among such. Missing ones are empty."""
    found = [b""] * (last - first + 1)
    rows = connection.execute(_TILES, (partition, (first - 1) // TILE, (last - 1) // TILE), binary=True).fetchall()
    for tile, hashes in rows:
        for index in range(TILE):
            at = tile * TILE + index + 1 - first
            if 0 <= at < len(found):
                hash_ = hashes[32 * index : 32 * index + 32]
                found[at] = b"" if hash_ == _NO_HASH else hash_
    return found


def hash_at(connection: Connection, partition: int, position: int) -> bytes | None:
    """Return the hash of a position, also if its row has left the log; None if there is no such position."""
    row = connection.execute(_HASH_AT, (partition, position), binary=True).fetchone()
    return row[0] if row is not None else kept_hashes(connection, partition, position, position)[0] or None


#: Hashes of an archived range are kept so many in a row; the tree keeps the root of every so many leaves.
TILE: Final = 256
_NO_HASH: Final = bytes(32)

#: Whoever has every right can take a NOT NULL away, and infinity is a time: such a row is to be named, not stumbled on.
#: A time as a double is exact to a quarter of a microsecond until 2038, and to half of one until 2106; numeric is slow.
_MIDDLE: Final = b"""
coalesce(uuid_send(stream_id) || int8send(version) || int8send(position) || convert_to(type, 'UTF8')
         || int8send(CASE WHEN isfinite(recorded_at) THEN (date_part('epoch', recorded_at) * 1000000)::bigint END),
         decode(repeat('00', 40), 'hex'))
"""
_HEADS: Final = b"""
SELECT partition, position, hash,
       coalesce((SELECT min(e.position) FROM events e WHERE e.partition = h.partition), 1),
       coalesce((SELECT max(e.position) FROM events e WHERE e.partition = h.partition), 0)
  FROM partition_heads h ORDER BY partition
"""
#: From each partition to the next one through an index: a search for every number would read all events for most.
_HEADLESS: Final = b"""
WITH RECURSIVE found AS (
    (SELECT partition FROM events ORDER BY partition LIMIT 1)
    UNION ALL
    SELECT (SELECT e.partition FROM events e WHERE e.partition > found.partition ORDER BY e.partition LIMIT 1)
      FROM found WHERE found.partition IS NOT NULL)
SELECT partition FROM found
 WHERE partition IS NOT NULL AND NOT EXISTS (SELECT FROM partition_heads h WHERE h.partition = found.partition)
 ORDER BY 1 LIMIT 1
"""
#: A hash of another length is no hash: two joined in one row, and none in the next, would look like one in each.
_BLOCK: Final = (
    b"""
SELECT array_agg(middle), array_agg(coalesce(state, '')),
       string_agg(CASE octet_length(hash) WHEN 32 THEN hash ELSE decode(repeat('00', 32), 'hex') END, '')
  FROM (SELECT %s AS middle, state, hash FROM events
         WHERE partition = %%s AND position BETWEEN %%s AND %%s ORDER BY position) AS block
"""
    % _MIDDLE
)
_KEPT: Final = (
    b"SELECT position, %s, state FROM events WHERE partition = %%s AND position BETWEEN %%s AND %%s" % _MIDDLE
)
_HASH_AT: Final = b"SELECT hash FROM events WHERE partition = %s AND position = %s"
_ARCHIVED: Final = b"""
SELECT first, last FROM archives WHERE partition = %s AND last > %s AND first <= %s ORDER BY first
"""
_TILES: Final = b"SELECT tile, hashes FROM archived_hashes WHERE partition = %s AND tile BETWEEN %s AND %s"
