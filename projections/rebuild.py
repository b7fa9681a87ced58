"""Rebuilding a projection beside the live one: readers notice nothing until all is done, and then only the result.

A new generation is filled from the log in portions: the streams of a partition from one bucket to another, as far as
the log had come when the rebuild began. Any number of processes build portions side by side; what is built stays built
when they are killed. Then the new generation catches up with what was appended meanwhile, is compared with the live one
at the same positions, row by row, and takes its place in one transaction.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg

from ledger.domain.identity import BUCKETS
from ledger.store.application import Ledger
from projections import generations
from projections.feed import LIMITS, Logged, NotApplied, Projection, advance
from projections.generations import Connection, Cursor, Generation, Table

#: Events of a portion, about; and of a page of it.
PORTION: Final = 100_000
PAGE: Final = 10_000
#: Of each kind of difference, in the answer.
EXAMPLES: Final = 5
_EVENTS_SHOWN: Final = 20
_LOOK_SECONDS: Final = 0.05
_AT_LEISURE: Final = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}

Progress = Callable[[int, int], None]  #: events done, events in all


class AlreadyRunning(Exception):
    """Another process rebuilds this projection."""


class Unapplied(Exception):
    """An event cannot be applied. A rebuild stops there: what is live stays live."""

    def __init__(self, projection: str, partition: int, position: int) -> None:
        super().__init__(f"{projection}: the event at position {position} of partition {partition} cannot be applied")
        self.partition = partition
        self.position = position


class EventPlace(msgspec.Struct, frozen=True):
    position: int
    type: str


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A row that differs, and the events of its message where it is one message's."""

    table: str
    kind: str  #: changed, only_old or only_new
    key: dict[str, Any]
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    events: tuple[EventPlace, ...] = ()


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The rebuilt rows against the live ones."""

    equal: int
    changed: int
    only_old: int
    only_new: int
    examples: tuple[Example, ...] = ()

    @property
    def differs(self) -> bool:
        return bool(self.changed or self.only_old or self.only_new)


@contextmanager
def alone(ledger: Ledger, projection: Projection) -> Iterator[None]:
    """Keep other rebuilds of the projection away. Raises AlreadyRunning, StoreUnavailable."""
    with ledger.connect() as connection:
        row = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (0x5242, projection.name)).fetchone()
        if row is None or not row[0]:
            raise AlreadyRunning(f"{projection.name} is being rebuilt by another process")
        yield


def connect(ledger: Ledger) -> Connection:
    """Open a connection for building."""
    return ledger.connect(**{**LIMITS, "statement_timeout": "0", "idle_in_transaction_session_timeout": "10min"})


# Building -------------------------------------------------------------------------------------------------------------


def begin(connection: Connection, projection: Projection, *, portion: int = PORTION) -> Generation:
    """Return the generation to fill: one that a rebuild by the same rules has begun before, or a new one."""
    generations.ensure(connection, projection)
    with connection.transaction(), connection.cursor() as cursor:
        for other in generations.of_state(cursor, projection, "building"):
            if other.rules == projection.rules:
                return other
        generation = generations.create(cursor, projection, state="building")
        cursor.execute("SELECT partition, position FROM partition_heads ORDER BY partition")
        heads = cursor.fetchall()
        for partition, head in heads:
            buckets = range(partition, BUCKETS, len(heads))
            shares = max(1, min(len(buckets), -(-head // portion)))
            for share in range(shares):
                own = buckets[share * len(buckets) // shares : (share + 1) * len(buckets) // shares]
                cursor.execute(_PORTION, (projection.name, generation.number, partition, own[0], own[-1], head))
        return generation


def begun(connection: Connection, projection: Projection) -> Generation | None:
    """Return the generation that a rebuild by the same rules is filling; None if there is none."""
    with connection.cursor() as cursor:
        found = generations.of_state(cursor, projection, "building")
    return next((generation for generation in found if generation.rules == projection.rules), None)


def is_built(connection: Connection, projection: Projection, generation: Generation) -> bool:
    """Tell whether every portion is built, and none is still being built by somebody else."""
    left = connection.execute(_LEFT, (projection.name, generation.number)).fetchone()
    return left is None


def build(ledger: Ledger, connection: Connection, projection: Projection, generation: Generation) -> int | None:
    """Build one portion that nobody has built or builds. Return its number of events; None if there is none left.

    Raises Unapplied.
    """
    page: list[Logged] = []
    try:
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            claimed = cursor.execute(_CLAIM, (projection.name, generation.number)).fetchone()
            if claimed is None:
                return None
            partition, first, last, until = claimed
            work = projection.work(ledger, cursor, generation)
            count = 0
            for page in pages(connection, partition, (first, last), until):
                work.take(page)
                count += len(page)
            work.finish()
            cursor.execute(_BUILT, (count, projection.name, generation.number, partition, first))
            return count
    except (psycopg.OperationalError, psycopg.ProgrammingError):
        raise
    except Exception as error:
        if not page:
            raise
        position = _culprit(ledger, connection, projection, page)
        raise Unapplied(projection.name, page[0].partition, position) from error


def pages(connection: Connection, partition: int, buckets: tuple[int, int], until: int) -> Iterator[list[Logged]]:
    """Yield the events of some buckets, whole streams a page."""
    low, high = UUID(int=buckets[0] << 120), UUID(int=((buckets[1] + 1) << 120) - 1)
    with connection.cursor(name="portion", binary=True) as cursor:
        cursor.itersize = PAGE
        cursor.execute(_STREAMS, (partition, low, high, until))
        page: list[Logged] = []
        for row in cursor:
            if len(page) >= PAGE and row[1] != page[-1].stream_id:
                yield page
                page = []
            page.append(Logged(partition, *row))
        if page:
            yield page


def _culprit(ledger: Ledger, connection: Connection, projection: Projection, page: list[Logged]) -> int:
    """Return the position of the first event of the first stream that cannot be applied by itself."""
    for _, stream in groupby(page, lambda logged: logged.stream_id):
        events = list(stream)
        try:
            with connection.transaction(force_rollback=True), connection.cursor(binary=True) as cursor:
                scratch = generations.create(cursor, projection, state="building")
                work = projection.work(ledger, cursor, scratch)
                for number, logged in enumerate(events):
                    position = logged.position
                    work.take(events[number : number + 1])
                work.finish()
        except Exception:
            return position
    return page[0].position


def done(connection: Connection, projection: Projection, generation: Generation) -> tuple[int, int]:
    """Return (events built, events in all) of a rebuild."""
    row = connection.execute(_DONE, (projection.name, generation.number)).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def catch_up(ledger: Ledger, connection: Connection, projection: Projection, generation: Generation) -> int:
    """Apply what the live generation has beyond the portions, once all are built. Return the number of events.

    A live generation that is not even as far as the portions is brought there first: nobody may be following the log.
    Raises Unapplied.
    """
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(_PORTIONS_DONE, (projection.name, generation.number))
        old = _live(cursor, projection)
    while behind := connection.execute(_BEHIND, (projection.name, old.number, generation.number)).fetchall():
        for partition, position in behind:
            if not _applied(ledger, connection, projection, old, partition, position):
                time.sleep(_LOOK_SECONDS)  # a feed is at it
    total = 0
    for partition, position in connection.execute(_POSITIONS, (projection.name, old.number)).fetchall():
        while applied := _applied(ledger, connection, projection, generation, partition, position):
            total += applied
    return total


def _applied(
    ledger: Ledger, connection: Connection, projection: Projection, generation: Generation, *place: int
) -> int:
    partition, until = place
    try:
        return advance(ledger, connection, projection, generation, partition=partition, until=until)
    except NotApplied as failed:
        raise _narrowed(ledger, connection, projection, failed) from failed.__cause__


def _narrowed(ledger: Ledger, connection: Connection, projection: Projection, failed: NotApplied) -> Unapplied:
    """Go on event by event to the one that fails."""
    while True:
        try:
            advance(ledger, connection, projection, failed.generation, size=1)
        except NotApplied as narrowed:
            return Unapplied(projection.name, narrowed.partition, narrowed.position)


# Comparing and exchanging ---------------------------------------------------------------------------------------------


def compare(ledger: Ledger, connection: Connection, projection: Projection, generation: Generation) -> Difference:
    """Compare a generation that has caught up with the live one, both at the same positions.

    The live one is held still only while the new one is brought to those positions and a snapshot is taken.
    """
    with ledger.connect(**_AT_LEISURE) as reader:
        with ledger.connect(**_AT_LEISURE) as holder, holder.transaction():
            old, positions = _hold(holder, projection)
            _bring(ledger, connection, projection, generation, positions)
            reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            reader.execute("SELECT 1")  # takes the snapshot
        found = [_compared(reader, table, old, generation) for table in projection.tables]
        reader.execute("ROLLBACK")
    return Difference(
        equal=sum(one.equal for one in found),
        changed=sum(one.changed for one in found),
        only_old=sum(one.only_old for one in found),
        only_new=sum(one.only_new for one in found),
        examples=tuple(example for one in found for example in one.examples),
    )


def exchange(ledger: Ledger, connection: Connection, projection: Projection, generation: Generation) -> None:
    """Make the generation the live one, at no earlier positions than readers have seen."""
    with connection.transaction(), connection.cursor() as cursor:
        _, positions = _hold(connection, projection)
        _bring(ledger, connection, projection, generation, positions)
        generations.exchange(cursor, projection, generation)


def _hold(connection: Connection, projection: Projection) -> tuple[Generation, dict[int, int]]:
    """Keep every feed from moving the live generation until the transaction ends. Return it and its positions."""
    with connection.cursor() as cursor:
        old = _live(cursor, projection)
        rows: list[Any] = cursor.execute(_HOLD, (projection.name, old.number)).fetchall()
        return old, dict(rows)


def _live(cursor: Cursor, projection: Projection) -> Generation:
    found = generations.live(cursor, projection)
    assert found is not None  # noqa: S101  # `begin` made sure of one
    return found


def _bring(
    ledger: Ledger, connection: Connection, projection: Projection, generation: Generation, positions: dict[int, int]
) -> None:
    for partition, position in positions.items():
        while advance(ledger, connection, projection, generation, partition=partition, until=position):
            pass


def _compared(reader: Connection, table: Table, old: Generation, new: Generation) -> Difference:
    key = ", ".join(table.key)
    names = old.table(table.name), new.table(table.name)
    row = reader.execute(
        "SELECT count(*) FILTER (WHERE same), count(*) FILTER (WHERE NOT same AND was AND is_),"
        " count(*) FILTER (WHERE was AND NOT is_), count(*) FILTER (WHERE is_ AND NOT was)"
        f" FROM (SELECT o.* IS NOT DISTINCT FROM n.* AS same, o.{table.key[0]} IS NOT NULL AS was,"
        f" n.{table.key[0]} IS NOT NULL AS is_ FROM {names[0]} o FULL JOIN {names[1]} n USING ({key})) d".encode()
    ).fetchone()
    assert row is not None  # noqa: S101  # counts are always there
    equal, changed, only_old, only_new = row
    examples: list[Example] = []
    if changed or only_old or only_new:
        examples = list(_examples(reader, table, *names))
    return Difference(equal=equal, changed=changed, only_old=only_old, only_new=only_new, examples=tuple(examples))


def _examples(reader: Connection, table: Table, old: str, new: str) -> Iterator[Example]:
    key, first = ", ".join(table.key), table.key[0]
    kinds = {
        "changed": f"o.{first} IS NOT NULL AND n.{first} IS NOT NULL AND o.* IS DISTINCT FROM n.*",
        "only_old": f"n.{first} IS NULL",
        "only_new": f"o.{first} IS NULL",
    }
    for kind, condition in kinds.items():
        rows = reader.execute(
            f"SELECT to_jsonb(o), to_jsonb(n) FROM {old} o FULL JOIN {new} n USING ({key}) WHERE {condition}"
            f" ORDER BY {key} LIMIT {EXAMPLES}".encode()
        ).fetchall()
        for was, is_ in rows:
            there = was or is_
            named = {name: there[name] for name in table.key}
            yield Example(
                table=table.name,
                kind=kind,
                key=named,
                old=_told(was, is_, table),
                new=_told(is_, was, table),
                events=_events(reader, named),
            )


def _told(row: dict[str, Any] | None, other: dict[str, Any] | None, table: Table) -> dict[str, Any] | None:
    """Return of a row what differs; all of it if there is no other."""
    if row is None:
        return None
    differing = row if other is None else {name: value for name, value in row.items() if value != other[name]}
    return {
        name: table.show[name](bytes.fromhex(value.removeprefix("\\x"))) if name in table.show and value else value
        for name, value in differing.items()
        if name not in table.key
    }


def _events(reader: Connection, key: dict[str, Any]) -> tuple[EventPlace, ...]:
    if "stream_id" not in key:
        return ()
    rows = reader.execute(_EVENTS, (key["partition"], key["stream_id"], _EVENTS_SHOWN)).fetchall()
    return tuple(EventPlace(position, type_) for position, type_ in rows)


def discard(connection: Connection, projection: Projection, generation: Generation) -> None:
    """Drop a generation that did not become live."""
    generations.drop(connection, projection, generation)


def sweep(connection: Connection, projection: Projection) -> int:
    """Drop retired generations that nobody reads any more, and rebuilds begun by other rules. Return how many."""
    dropped = 0
    with connection.cursor() as cursor:
        retired = generations.of_state(cursor, projection, "retired")
        stale = [
            generation
            for generation in generations.of_state(cursor, projection, "building")
            if generation.rules != projection.rules
        ]
    for generation in retired + stale:
        try:
            generations.drop(connection, projection, generation)
            dropped += 1
        except psycopg.errors.LockNotAvailable:
            continue  # somebody still reads it: the next sweep gets it
    return dropped


_PORTION: Final = b"""
INSERT INTO projection_portions (projection, generation, partition, first_bucket, last_bucket, until_position)
VALUES (%s, %s, %s, %s, %s, %s)
"""
_CLAIM: Final = b"""
SELECT partition, first_bucket, last_bucket, until_position FROM projection_portions
 WHERE projection = %s AND generation = %s AND events IS NULL
 ORDER BY partition, first_bucket FOR UPDATE SKIP LOCKED LIMIT 1
"""
_LEFT: Final = b"""
SELECT 1 FROM projection_portions WHERE projection = %s AND generation = %s AND events IS NULL LIMIT 1
"""
_BUILT: Final = b"""
UPDATE projection_portions SET events = %s
 WHERE projection = %s AND generation = %s AND partition = %s AND first_bucket = %s
"""
_DONE: Final = b"""
SELECT coalesce(sum(events), 0),
       (SELECT coalesce(sum(until_position), 0) FROM (SELECT DISTINCT p.partition, p.until_position
          FROM projection_portions p WHERE p.projection = o.projection AND p.generation = o.generation) d)
  FROM projection_portions o WHERE projection = %s AND generation = %s GROUP BY o.projection, o.generation
"""
#: Every portion is built: reading goes on from where they end.
_PORTIONS_DONE: Final = b"""
UPDATE projection_cursors c SET position = p.until_position, moved_at = clock_timestamp()
  FROM (SELECT projection, generation, partition, max(until_position) AS until_position FROM projection_portions
         GROUP BY 1, 2, 3 HAVING bool_and(events IS NOT NULL)) p
 WHERE c.projection = %s AND c.generation = %s AND p.projection = c.projection AND p.generation = c.generation
   AND p.partition = c.partition AND c.position < p.until_position
"""
_POSITIONS: Final = b"""
SELECT partition, position FROM projection_cursors WHERE projection = %s AND generation = %s ORDER BY partition
"""
#: Partitions in which the first generation is not as far as the second, and how far that is.
_BEHIND: Final = b"""
SELECT o.partition, n.position FROM projection_cursors o JOIN projection_cursors n USING (projection, partition)
 WHERE projection = %s AND o.generation = %s AND n.generation = %s AND o.position < n.position
"""
_STREAMS: Final = b"""
SELECT e.position, e.stream_id, e.version, e.type, e.state, e.recorded_at
  FROM events e
 WHERE e.partition = %s AND e.stream_id >= %s AND e.stream_id <= %s AND e.position <= %s
 ORDER BY e.stream_id, e.version
"""
_HOLD: Final = b"""
SELECT partition, position FROM projection_cursors WHERE projection = %s AND generation = %s
 ORDER BY partition FOR UPDATE
"""
_EVENTS: Final = b"SELECT position, type FROM events WHERE partition = %s AND stream_id = %s ORDER BY version LIMIT %s"
