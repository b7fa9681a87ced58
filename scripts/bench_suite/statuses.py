"""A status a message, and counts by status and hour: what `bench_peers.runner` keeps, kept by our feed.

For comparing the two mechanisms at the same work. The real read models keep much more.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from ledger.store import arrays
from ledger.store.application import Ledger
from projections.counts import hour_of
from projections.feed import Logged
from projections.generations import Cursor, Generation, Table

_STATUSES: Final = Table(
    name="bench_statuses",
    columns="stream_id uuid NOT NULL, partition smallint NOT NULL, status text NOT NULL",
    key=("partition", "stream_id"),
    fillfactor=70,
)
_COUNTS: Final = Table(
    name="bench_counts",
    columns="hour bigint NOT NULL, partition smallint NOT NULL, status text NOT NULL, messages integer NOT NULL",
    key=("partition", "hour", "status"),
    fillfactor=70,
)


class Statuses:
    """See `projections.feed.Projection`."""

    name = "bench_statuses"
    shape = 1
    rules = "1"
    tables: Sequence[Table] = (_STATUSES, _COUNTS)

    def work(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> "StatusesWork":
        return StatusesWork(ledger, cursor, generation)


class StatusesWork:
    """See `projections.feed.Work`."""

    def __init__(self, ledger: Ledger, cursor: Cursor, generation: Generation) -> None:
        self._ledger = ledger
        self._cursor = cursor
        self._generation = generation
        self._partition = 0
        self._statuses: dict[UUID, str] = {}
        self._counts: Counter[tuple[int, str]] = Counter()

    def take(self, events: Sequence[Logged]) -> None:
        self._partition = events[0].partition
        for logged in events:
            turn = logged.turn(self._ledger)
            if turn is not None:
                self._statuses[logged.stream_id] = turn.status_after
                self._counts[hour_of(logged.recorded_at), turn.status_after] += 1

    def finish(self) -> None:
        if not self._statuses:
            return
        kept = (self._partition, arrays.uuids([*self._statuses]), arrays.texts([*self._statuses.values()]))
        self._cursor.execute(self._generation.sql(_KEEP), kept, prepare=True)
        hours, statuses = zip(*self._counts, strict=True)
        counted = (arrays.bigints(hours), arrays.texts(statuses), arrays.integers([*self._counts.values()]))
        self._cursor.execute(self._generation.sql(_COUNT), (self._partition, *counted), prepare=True)


_KEEP: Final = """
INSERT INTO {bench_statuses} (partition, stream_id, status) SELECT %s, * FROM unnest(%s, %s)
ON CONFLICT (partition, stream_id) DO UPDATE SET status = excluded.status
"""
_COUNT: Final = """
INSERT INTO {bench_counts} AS c (partition, hour, status, messages) SELECT %s, * FROM unnest(%s, %s, %s)
ON CONFLICT (partition, hour, status) DO UPDATE SET messages = c.messages + excluded.messages
"""
