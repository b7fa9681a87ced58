"""Who should be asked about, and why: one row a message, followed from events in the order of recording.

Shape: `TABLES` and `ledger.domain.polling.Pending`. A message has a row while there is something to ask. The write path
of callbacks does nothing for it, and a message whose outcome comes within a page of the feed never has a row at all.
The transaction that moves the live generation also queues what has a new reason (`ledger.store.polls.enqueue`): the
queue is the poller's memory, which is not derived and which no rebuild touches.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from ledger.domain.polling import Pending, Why, follow
from ledger.domain.status import Status
from ledger.store import arrays, polls
from ledger.store.application import Ledger
from projections import generations
from projections.feed import Logged
from projections.generations import Cursor, Generation, Table

TABLES: Final = (
    Table(
        name="poll_schedule",
        key=("partition", "stream_id"),
        columns=(
            "stream_id uuid NOT NULL,"
            " since timestamptz NOT NULL,"  # recording time of the event that gave the reason to ask
            " version integer NOT NULL,"
            " partition smallint NOT NULL,"
            " closed boolean NOT NULL,"  # the provider said that nothing more will come
            " account text NOT NULL,"
            " status text NOT NULL,"
            " why text"  # a word of `Why`; null: there is nothing to ask, and `closed` to remember
        ),
        fillfactor=80,
    ),
)


class PollSchedule:
    """The projection, as the feed and a rebuild know it."""

    name = "poll_schedule"
    shape = 1
    rules = "1"
    tables = TABLES

    def work(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> "ScheduleWork":
        return ScheduleWork(ledger, cursor, generation)


class ScheduleWork:
    """One transaction's work."""

    def __init__(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> None:
        self._ledger = ledger
        self._cursor = cursor
        self._generation = generation
        self._before: dict[polls.Stream, Pending] = {}
        self._after: dict[polls.Stream, Pending | None] = {}
        self._accounts: dict[polls.Stream, str] = {}

    def take(self, events: Sequence[Logged]) -> None:
        """Follow events; only what is not sealed in them is looked at, so an erased message is followed as before."""
        self._load({(logged.partition, logged.stream_id) for logged in events} - self._after.keys())
        for logged in events:
            stream = (logged.partition, logged.stream_id)
            event = logged.event(self._ledger)
            self._accounts[stream] = event.account
            self._after[stream] = follow(self._after[stream], event, logged.version, logged.recorded_at)

    def finish(self) -> None:
        before, cursor = self._before, self._cursor
        kept = [
            (stream, self._accounts[stream], row)
            for stream, row in self._after.items()
            if row is not None and row != before.get(stream)
        ]
        gone = [stream for stream, row in self._after.items() if row is None and stream in before]
        if kept:
            cursor.execute(self._generation.sql(_SAVE), _columns(kept), prepare=True)
        if gone:
            cursor.execute(self._generation.sql(_REMOVE), _places(gone), prepare=True)
        if (kept or gone) and self._is_live():
            silent = [stream for stream, _, row in kept if row.why is None]
            polls.enqueue(cursor, kept, gone + silent)

    def _load(self, streams: set[polls.Stream]) -> None:
        if not streams:
            return
        self._after |= dict.fromkeys(streams)
        self._cursor.execute(self._generation.sql(_LOAD), _places(streams), prepare=True)
        for partition, stream_id, version, status, why, since, closed in self._cursor.fetchall():
            row = Pending(version, Status(status), why and Why(why), since, closed)
            self._before[partition, stream_id] = self._after[partition, stream_id] = row

    def _is_live(self) -> bool:
        told = (self._generation.projection, self._generation.number)
        return self._cursor.execute(_IS_LIVE, told, prepare=True).fetchone() is not None


def _places(streams: Iterable[polls.Stream]) -> dict[str, arrays.Column]:
    return polls.places(sorted(streams, key=polls.order))


def _columns(rows: Sequence[tuple[polls.Stream, str, Pending]]) -> dict[str, arrays.Column]:
    told = sorted(rows, key=lambda row: polls.order(row[0]))
    pending = [row for *_, row in told]
    return {
        **polls.places([stream for stream, *_ in told]),
        "accounts": arrays.texts([account for _, account, _ in told]),
        "versions": arrays.integers([row.version for row in pending]),
        "statuses": arrays.texts([row.status.value for row in pending]),
        "whys": arrays.texts([row.why and row.why.value for row in pending]),
        "since": arrays.instants([row.since for row in pending]),
        "closed": arrays.booleans([row.closed for row in pending]),
    }


def mend_queue(ledger: Ledger) -> tuple[int, int]:
    """Queue what the schedule has and the queue lacks, and the other way round. Returns how many were added, removed.

    They agree unless somebody else has written to either, or the database's clock has jumped. Raises StoreUnavailable.
    """
    with ledger.reading() as cursor, cursor.connection.transaction():
        found = generations.live(cursor, PollSchedule())
        if found is None:
            return 0, 0
        cursor.execute("SET LOCAL statement_timeout = '10min'")
        return polls.mend(cursor, found.table("poll_schedule"))


_IS_LIVE: Final = b"""
SELECT FROM projection_generations WHERE projection = %s AND generation = %s AND state = 'live'
"""
#: `LATERAL` and `LIMIT` leave the planner one way: from the streams to their rows.
_LOAD: Final = """
SELECT r.partition, r.stream_id, r.version, r.status, r.why, r.since, r.closed
  FROM unnest(%(partitions)s, %(streams)s) AS s (partition, stream_id)
 CROSS JOIN LATERAL (SELECT * FROM {poll_schedule} r WHERE r.partition = s.partition AND r.stream_id = s.stream_id
                      LIMIT 1) r
"""
_SAVE: Final = """
INSERT INTO {poll_schedule} (partition, stream_id, account, version, status, why, since, closed)
SELECT * FROM unnest(%(partitions)s, %(streams)s, %(accounts)s, %(versions)s, %(statuses)s, %(whys)s, %(since)s,
                     %(closed)s)
ON CONFLICT (partition, stream_id) DO UPDATE
   SET version = excluded.version, status = excluded.status, why = excluded.why, since = excluded.since,
       closed = excluded.closed
"""
_REMOVE: Final = """
DELETE FROM {poll_schedule} WHERE ctid = ANY (ARRAY(
    SELECT r.place FROM unnest(%(partitions)s, %(streams)s) AS s (partition, stream_id)
     CROSS JOIN LATERAL (SELECT r.ctid AS place FROM {poll_schedule} r
                          WHERE r.partition = s.partition AND r.stream_id = s.stream_id LIMIT 1 FOR UPDATE) r))
"""
