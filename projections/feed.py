"""The feed: reads the log in the order of positions and keeps read models up with it.

A page of events is applied and the cursors moved in one transaction, so every event counts once, whatever dies when.
It is read once for all projections that stand at the same place, which is where they are unless one is in trouble.
A partition's cursor is claimed by its row lock (`FOR UPDATE SKIP LOCKED`): any number of feeds share the work, and none
waits for another. Positions have no gaps, so a page never skips an event that is still being committed.

A page that cannot be applied is halved until one event stands alone; that one is parked, visible to whoever looks after
the ledger, and the projection goes on. Trouble with the database is not the event's fault: it is tried again.
"""

import random
import threading
import time
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

import msgspec
import psycopg
import structlog

from ledger.domain.events import AnyEvent, StatusCorrected, StatusObserved
from ledger.store import arrays
from ledger.store.application import Ledger, StoreUnavailable
from ledger.store.mapper import Stored, Turn
from projections import generations
from projections.generations import Connection, Cursor, Generation, Shaped

#: Events in one transaction.
PAGE: Final = 5_000
#: How soon an event is noticed that another process has appended.
LOOK_SECONDS: Final = 0.1
#: How long the feed rests after a page that was not full: what comes meanwhile shares the next transaction.
#: Twice as long as it worked, within these bounds: requests keep most of a process that they share with it.
PACE_SECONDS: Final = (0.05, 0.12)
#: Limits of the feed's own connection.
LIMITS: Final = {
    "statement_timeout": "60s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
    # Tables are small when plans are first made, and large later: no plan may depend on it.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "enable_material": "off",
}
_PAUSE_SECONDS: Final = (0.1, 5.0)
_spread: Final = random.Random()  # noqa: S311  # decides nothing: keeps feeds apart

_log = structlog.get_logger("projections.feed")


class Logged(msgspec.Struct, gc=False):
    """An event as the log has it."""

    partition: int
    position: int
    stream_id: UUID
    version: int
    type: str
    state: bytes
    recorded_at: datetime
    _event: AnyEvent | None = None

    def event(self, ledger: Ledger) -> AnyEvent:
        """Return the event with nothing personal in it. It is read once, however many projections ask."""
        if self._event is None:
            self._event = ledger.mapper.opened(self.stream_id, self.version, self.type, self.state)
        return self._event

    def turn(self, ledger: Ledger) -> Turn | None:
        """Return what the event did to its message's status, for much less than the whole event; None: nothing."""
        if self._event is None:
            return ledger.mapper.turn(self.stream_id, self.version, self.type, self.state)
        return self._event if isinstance(self._event, StatusObserved | StatusCorrected) else None

    def unsealed(self, ledger: Ledger, wrapped: bytes | None) -> AnyEvent:
        """Return the event with what is personal in it, given its message's key; None: the message was erased."""
        event = self.event(ledger)
        if wrapped is None:
            return event
        stored = Stored(self.stream_id, self.version, self.type, self.state)
        return ledger.mapper.unsealed(event, stored, ledger.master_key.unwrap(wrapped, self.stream_id))


class Work(Protocol):
    """One transaction's work on one generation's tables."""

    def take(self, events: Sequence[Logged]) -> None:
        """Apply events of one partition. Those of one stream come in the order of versions, and none is left out."""

    def finish(self) -> None:
        """Write what has been put together. Nothing is taken afterwards."""


class Projection(Shaped, Protocol):
    """A read model, or several that are derived together.

    What `Work` leaves behind must not depend on how events are cut into pages, nor on the order of streams.
    """

    def work(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> Work: ...


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a generation of a projection has come in one partition."""

    projection: str
    generation: int
    state: str
    rules: str
    partition: int
    position: int
    head: int
    lag_events: int
    lag_seconds: float  #: age of the oldest event that has not been applied; 0 if there is none
    rate: float  #: events a second, lately
    trend: str  #: of the lag: falling, rising or steady
    parked: int


class Feed:
    """Follows the log for all projections, in one thread. `run` blocks; `step` and `drain` take turns."""

    def __init__(self, ledger: Ledger, projections: Sequence[Projection], *, page: int = PAGE) -> None:
        self._ledger = ledger
        self._projections = projections
        self._page = page
        self._sizes: dict[str, int] = {}  #: of pages, of projections to which events could not be applied
        self._connection: Connection | None = None
        self._wanted = threading.Event()

    def wake(self) -> None:
        """Say that something was appended. Callable from any thread."""
        self._wanted.set()

    def run(self, stopping: threading.Event) -> None:
        """Follow until told to stop. Survives whatever happens to the database."""
        pause = _PAUSE_SECONDS[0]
        while not stopping.is_set():
            try:
                self._wanted.clear()
                began = time.monotonic()
                applied = self.step()
                if not applied:
                    self._wanted.wait(LOOK_SECONDS)
                elif applied < self._page:
                    least, most = PACE_SECONDS
                    stopping.wait(min(most, max(least, 2 * (time.monotonic() - began))))
                pause = _PAUSE_SECONDS[0]
            except (psycopg.Error, StoreUnavailable) as error:
                _log.warning("projections_postponed", error=type(error).__name__)
                self.close()
                stopping.wait(_spread.uniform(pause / 2, pause))
                pause = min(2 * pause, _PAUSE_SECONDS[1])
        self.close()

    def drain(self) -> int:
        """Apply everything that is on record and return how many events that were, over all projections."""
        total = 0
        while applied := self.step():
            total += applied
        return total

    def step(self) -> int:
        """Apply up to one page for every projection. Return how many events were dealt with; 0: all are at the head."""
        connection = self._opened()
        together = [projection for projection in self._projections if projection.name not in self._sizes]
        applied = sum(self._advance(connection, each) for each in self._projections if each.name in self._sizes)
        while together:
            try:
                return applied + advance_together(self._ledger, connection, together, size=self._page)
            except NotApplied as failed:
                self._sizes[failed.generation.projection] = max(1, self._page // 2)
                applied += sum(self._advance(connection, each) for each in together if each.name in self._sizes)
                together = [each for each in together if each.name != failed.generation.projection]
        return applied

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> Connection:
        if self._connection is None:
            connection = self._ledger.connect(**LIMITS)
            try:
                for projection in self._projections:
                    generations.ensure(connection, projection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _advance(self, connection: Connection, projection: Projection) -> int:
        """Apply a page for one that is in trouble: ever smaller ones, down to the event that is parked, then larger."""
        size = self._sizes[projection.name]
        try:
            applied = advance(self._ledger, connection, projection, size=size)
        except NotApplied as failed:
            if size == 1:
                return _park(connection, failed)
            self._sizes[projection.name] = size // 2
            return self._advance(connection, projection)
        if applied:
            self._sizes[projection.name] = 2 * size
        if not applied or 2 * size >= self._page:
            del self._sizes[projection.name]
        return applied


class NotApplied(Exception):
    """The events from a position on cannot be applied. The cause says why."""

    def __init__(self, generation: Generation, partition: int, position: int) -> None:
        super().__init__(f"{generation.projection}: events from {partition}/{position} on cannot be applied")
        self.generation = generation
        self.partition = partition
        self.position = position


def advance(
    ledger: Ledger,
    connection: Connection,
    projection: Projection,
    generation: Generation | None = None,
    *,
    size: int = PAGE,
    partition: int | None = None,
    until: int | None = None,
) -> int:
    """Apply the next page of some partition that lags behind, and that nobody else is at, in one transaction.

    `generation`: the live one unless given; with one, `partition` and `until` (the last position to apply) narrow it
    down. Returns how many events there were. Raises NotApplied if one of them cannot be applied, with nothing changed.
    """
    with connection.transaction(), connection.cursor(binary=True) as cursor:
        if generation is None:
            cursor.execute(_CLAIM_LIVE, ([projection.name], [projection.shape]), prepare=True)
        else:
            cursor.execute(_CLAIM, (projection.name, generation.number, partition, partition, until), prepare=True)
        row = cursor.fetchone()
        if row is None:
            return 0
        claimed = _Claimed(*row)
        page = _page(cursor, claimed, until, size)
        _apply(ledger, cursor, projection, claimed, page)
        return len(page)


def advance_together(
    ledger: Ledger, connection: Connection, projections: Sequence[Projection], *, size: int = PAGE
) -> int:
    """Apply the next page to all live generations that stand at the same place of some partition, in one transaction.

    The one that is furthest behind comes first, and goes no further than the next one, so that they soon are together:
    a page is read once then. Returns how many events that were, over all projections. Raises NotApplied if one of them
    cannot be applied, with nothing changed.
    """
    named = {projection.name: projection for projection in projections}
    shapes = [projection.shape for projection in projections]
    with connection.transaction(), connection.cursor(binary=True) as cursor:
        cursor.execute(_CLAIM_LIVE, ([*named], shapes), prepare=True)
        row = cursor.fetchone()
        if row is None:
            return 0
        first = _Claimed(*row)
        others = [name for name in named if name != first.projection]
        cursor.execute(_CLAIM_BESIDE, (first.partition, others, shapes, first.position), prepare=True)
        claimed = {first.projection: first} | {other.projection: other for other in (_Claimed(*row) for row in cursor)}
        page = _page(cursor, first, first.next, size)
        for name, projection in named.items():
            if name in claimed:
                _apply(ledger, cursor, projection, claimed[name], page)
        return len(page) * len(claimed)


class _Claimed(NamedTuple):
    """A cursor that is ours until the transaction ends."""

    projection: str
    number: int
    rules: str
    partition: int
    position: int
    head: int
    next: int | None = None  #: where the next projection stands in this partition


def keys_of(cursor: Cursor, partition: int, stream_ids: Collection[UUID]) -> dict[UUID, bytes]:
    """Return the wrapped keys of messages, less of those that were erased."""
    if not stream_ids:
        return {}
    return dict(cursor.execute(_KEYS, (arrays.uuids([*stream_ids]), partition), prepare=True).fetchall())


def _page(cursor: Cursor, claimed: _Claimed, until: int | None, size: int) -> list[Logged]:
    cursor.execute(_PAGE, (claimed.partition, claimed.position, until, size), prepare=True)
    return [Logged(claimed.partition, *row) for row in cursor]


def _apply(ledger: Ledger, cursor: Cursor, projection: Projection, claimed: _Claimed, page: list[Logged]) -> None:
    """Apply a page and move the cursor past it. Raises NotApplied."""
    generation = Generation(projection.name, claimed.number, claimed.rules)
    try:
        work = projection.work(ledger, cursor, generation)
        work.take(page)
        work.finish()
    except psycopg.DataError as error:
        raise NotApplied(generation, claimed.partition, claimed.position + 1) from error
    except psycopg.Error:
        raise
    except Exception as error:
        raise NotApplied(generation, claimed.partition, claimed.position + 1) from error
    last = page[-1]
    moved = {
        "position": last.position,
        "recorded_at": last.recorded_at,
        "events": float(len(page)),
        "lag": claimed.head - last.position,
        "projection": projection.name,
        "generation": generation.number,
        "partition": claimed.partition,
    }
    cursor.execute(_MOVE, moved, prepare=True)


def _park(connection: Connection, failed: NotApplied) -> int:
    """Put one event aside and go past it."""
    cause = failed.__cause__
    error = _described(cause)
    where = (failed.generation.projection, failed.generation.number, failed.partition)
    with connection.transaction(), connection.cursor() as cursor:
        moved = cursor.execute(_PASS, (failed.position, *where, failed.position - 1)).rowcount
        if moved:
            cursor.execute(_KEEP_ASIDE, (*where, failed.position, error))
            projection, _, partition = where
            _log.error(
                "event_parked", projection=projection, partition=partition, position=failed.position, error=error
            )
    return moved


def _described(error: BaseException | None) -> str:
    """Say what failed and where in the code, never with what: an exception's text may quote the event."""
    if error is None:
        return "unknown"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"


def progress(cursor: Cursor, projections: Sequence[Shaped]) -> list[Progress]:
    """Return how far the live and building generations of projections have come, partition by partition."""
    rows: list[Any] = cursor.execute(_PROGRESS, ([projection.name for projection in projections],)).fetchall()
    return [
        Progress(
            projection=name,
            generation=generation,
            state=state,
            rules=rules,
            partition=partition,
            position=position,
            head=head,
            lag_events=head - position,
            lag_seconds=max(0.0, lag_seconds or 0.0),
            rate=rate,
            trend=_trend(head - position, lag_before),
            parked=parked,
        )
        for name, generation, state, rules, partition, position, head, lag_seconds, rate, lag_before, parked in rows
    ]


def _trend(lag: int, before: int) -> str:
    """Compare the lag with what it was some seconds ago; a tenth, or a page's tenth, is noise."""
    noise = max(PAGE // 10, before // 10)
    return "rising" if lag > before + noise else "falling" if lag < before - noise else "steady"


#: The live cursor that is furthest behind, of those that nobody holds.
_CLAIM_LIVE: Final = b"""
SELECT c.projection, c.generation, g.rules, c.partition, c.position, h.position,
       (SELECT min(n.position) FROM unnest(a.names, a.shapes) AS m (projection, shape)
          JOIN projection_generations og USING (projection, shape)
          JOIN projection_cursors n ON n.projection = og.projection AND n.generation = og.generation
         WHERE og.state = 'live' AND n.partition = c.partition AND n.position > c.position)
  FROM (SELECT %s::text[] AS names, %s::integer[] AS shapes) AS a
 CROSS JOIN LATERAL unnest(a.names, a.shapes) AS p (projection, shape)
  JOIN projection_generations g ON g.projection = p.projection AND g.shape = p.shape AND g.state = 'live'
  JOIN projection_cursors c ON c.projection = g.projection AND c.generation = g.generation
  JOIN partition_heads h ON h.partition = c.partition
 WHERE c.position < h.position
 ORDER BY c.position - h.position
   FOR UPDATE OF c SKIP LOCKED LIMIT 1
"""
#: The other live cursors at the same place.
_CLAIM_BESIDE: Final = b"""
SELECT c.projection, c.generation, g.rules, c.partition, c.position, h.position
  FROM partition_heads h
  JOIN projection_cursors c ON c.partition = h.partition
  JOIN projection_generations g ON g.projection = c.projection AND g.generation = c.generation AND g.state = 'live'
 WHERE h.partition = %s AND g.projection = ANY(%s) AND g.shape = ANY(%s) AND c.position = %s
   FOR UPDATE OF c SKIP LOCKED
"""
_CLAIM: Final = b"""
SELECT c.projection, c.generation, g.rules, c.partition, c.position, h.position
  FROM projection_generations g
  JOIN projection_cursors c ON c.projection = g.projection AND c.generation = g.generation
  JOIN partition_heads h ON h.partition = c.partition
 WHERE g.projection = %s AND g.generation = %s AND (%s::smallint IS NULL OR c.partition = %s)
   AND c.position < coalesce(%s::bigint, h.position)
   FOR UPDATE OF c SKIP LOCKED LIMIT 1
"""
_PAGE: Final = b"""
SELECT e.position, e.stream_id, e.version, e.type, e.state, e.recorded_at
  FROM events e
 WHERE e.partition = %s AND e.position > %s AND e.position <= coalesce(%s::bigint, 9223372036854775807)
 ORDER BY e.position LIMIT %s
"""
_KEYS: Final = b"""
SELECT n.stream_id, k.wrapped FROM unnest(%s) AS n (stream_id)
 CROSS JOIN LATERAL (SELECT * FROM message_keys k WHERE k.partition = %s AND k.stream_id = n.stream_id LIMIT 1) k
"""
#: `rate` is smoothed over ten seconds; every ten the lag is noted.
_MOVE: Final = b"""
UPDATE projection_cursors c
   SET position = %(position)s, recorded_at = %(recorded_at)s, moved_at = clock_timestamp(),
       rate = rate + (%(events)s / greatest(extract(epoch FROM clock_timestamp() - moved_at), 0.000001) - rate)
                     * (1 - exp(-extract(epoch FROM clock_timestamp() - moved_at) / 10)),
       lag_before = CASE WHEN clock_timestamp() - noted_at > interval '10s' THEN %(lag)s ELSE lag_before END,
       noted_at = CASE WHEN clock_timestamp() - noted_at > interval '10s' THEN clock_timestamp() ELSE noted_at END
 WHERE projection = %(projection)s AND generation = %(generation)s AND partition = %(partition)s
"""
_PASS: Final = b"""
UPDATE projection_cursors SET position = %s, moved_at = clock_timestamp()
 WHERE projection = %s AND generation = %s AND partition = %s AND position = %s
"""
_KEEP_ASIDE: Final = b"""
INSERT INTO parked_events (projection, generation, partition, position, error) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
_PROGRESS: Final = b"""
SELECT g.projection, g.generation, g.state, g.rules, c.partition, c.position, h.position,
       (SELECT extract(epoch FROM clock_timestamp() - e.recorded_at)::float8 FROM events e
         WHERE e.partition = c.partition AND e.position = c.position + 1),
       CASE WHEN c.position = h.position THEN c.rate * exp(-extract(epoch FROM clock_timestamp() - c.moved_at) / 10)
            ELSE c.rate END::float8,
       c.lag_before,
       (SELECT count(*) FROM parked_events p
         WHERE p.projection = c.projection AND p.generation = c.generation AND p.partition = c.partition)
  FROM projection_generations g
  JOIN projection_cursors c ON c.projection = g.projection AND c.generation = g.generation
  JOIN partition_heads h ON h.partition = c.partition
 WHERE g.projection = ANY(%s) AND g.state <> 'retired'
 ORDER BY g.projection, g.generation, c.partition
"""
