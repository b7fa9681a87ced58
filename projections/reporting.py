"""Answers reports: one snapshot of the database an answer, with the positions it was made at."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from ledger.store.application import Ledger, TableMissing
from projections import attention, delivery, failure_reasons, generations, latency, providers, stuck
from projections.attention import Placed
from projections.current_status import RECIPIENT
from projections.delivery import Funnel
from projections.failure_reasons import Affected, FailureGroup, Reason
from projections.generations import Generation
from projections.latency import Latency
from projections.providers import ProviderHealth
from projections.reports import Reports
from projections.scope import Scope, View
from projections.stuck import Stuck

T = TypeVar("T")

#: Failures by hour or day, of a channel and reason.
Series = dict[tuple[str, Reason], dict[str, int]]

_REPORTS: Final = Reports()
_TRIES: Final = 3


class NotBuilt(Exception):
    """There is no generation of the reports yet: no process that keeps them has run on this database."""


class Position(msgspec.Struct, frozen=True):
    """How far a partition had been read: everything up to `position` is in the answer, nothing after it."""

    position: int
    head: int  #: where the log was
    recorded_at: datetime | None  #: of the last event in the answer


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer was made from."""

    generation: int
    rules: str  #: the catalogue that explained the failures
    positions: dict[str, Position]


class Reporting:
    """Every method raises StoreUnavailable and NotBuilt."""

    def __init__(self, ledger: Ledger, *, expected_seconds: Mapping[str, int], accounts: Mapping[str, str]) -> None:
        """`expected_seconds` and `accounts` (the provider of each) as configured, by account."""
        self._ledger = ledger
        self._expected_seconds = expected_seconds
        self._accounts = accounts

    def delivery(self, scope: Scope) -> tuple[Made, list[Funnel]]:
        return self._ask(lambda view: delivery.query(view, scope))

    def failures(self, scope: Scope, now: datetime) -> tuple[Made, list[FailureGroup]]:
        return self._ask(lambda view: failure_reasons.query(view, scope, now))

    def failure_series(self, scope: Scope, by: str, now: datetime) -> tuple[Made, tuple[list[FailureGroup], Series]]:
        """Return the reasons by channel, and how many failures each had in every hour or day."""
        grouped = msgspec.structs.replace(scope, group_by=("channel",))
        return self._ask(
            lambda view: (failure_reasons.query(view, grouped, now), failure_reasons.series(view, scope, by))
        )

    def affected(
        self, scope: Scope, reason: Reason, *, limit: int, before: tuple[datetime, int] | None = None
    ) -> tuple[Made, list[Affected]]:
        return self._ask(lambda view: failure_reasons.affected(view, scope, reason, limit=limit, before=before))

    def latency(self, scope: Scope) -> tuple[Made, list[Latency]]:
        return self._ask(lambda view: latency.query(view, scope))

    def stuck(
        self, scope: Scope, now: datetime, *, limit: int, after: tuple[datetime, int] | None = None
    ) -> tuple[Made, Stuck]:
        expected = self._expected_seconds
        return self._ask(lambda view: stuck.query(view, scope, now, expected, limit=limit, after=after))

    def providers(self, scope: Scope, now: datetime) -> tuple[Made, list[ProviderHealth]]:
        return self._ask(lambda view: providers.query(view, scope, now, self._accounts))

    def attention(self, scope: Scope) -> tuple[Made, list[Placed]]:
        return self._ask(lambda view: attention.query(view, scope))

    def resolve(self, account: str, channel: str, item: str, seen_through: datetime, *, by: str, why: str) -> datetime:
        """Note that somebody has dealt with an item, as far as it was seen. Return when that was noted."""
        with self._ledger.reading() as cursor:
            row = cursor.execute(_RESOLVE, (account, channel, item, seen_through, by, why)).fetchone()
        assert row is not None  # noqa: S101  # the statement returns one row
        resolved_at: datetime = row[0]
        return resolved_at

    def is_recurring(self, account: str, channel: str, recipient: str) -> bool:
        """Tell whether errors recur for a recipient; no while there are no reports."""
        lookup = self._ledger.names.lookup(account, RECIPIENT, recipient)
        try:
            return self._ask(lambda view: failure_reasons.is_recurring(view, account, channel, lookup))[1]
        except NotBuilt:
            return False

    def _ask(self, query: Callable[[View], T]) -> tuple[Made, T]:
        """Ask the live generation; the next one if that was dropped between looking it up and reading it."""
        for _ in range(_TRIES):
            try:
                answer = self._asked(query)
            except TableMissing:
                continue
            if answer is None:
                break
            return answer
        raise NotBuilt("the reports have not been built yet")

    def _asked(self, query: Callable[[View], T]) -> tuple[Made, T] | None:
        with self._ledger.viewing() as cursor:
            generation = generations.live(cursor, _REPORTS)
            if generation is None:
                return None
            view = View(cursor, generation, self._ledger.partitions)
            positions = _positions(view, generation)
            return Made(generation=generation.number, rules=generation.rules, positions=positions), query(view)


def _positions(view: View, generation: Generation) -> dict[str, Position]:
    rows = view.rows(_POSITIONS, (generation.projection, generation.number))
    return {str(partition): Position(position, head, recorded_at) for partition, position, head, recorded_at in rows}


_POSITIONS: Final = """
SELECT c.partition, c.position, h.position, c.recorded_at
  FROM projection_cursors c JOIN partition_heads h USING (partition)
 WHERE c.projection = %s AND c.generation = %s ORDER BY c.partition
"""
_RESOLVE: Final = b"""
INSERT INTO attention_resolutions AS r (account, channel, item, seen_through, resolved_by, why)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (account, channel, item) DO UPDATE SET
    seen_through = greatest(r.seen_through, excluded.seen_through), resolved_by = excluded.resolved_by,
    why = excluded.why, resolved_at = clock_timestamp()
RETURNING resolved_at
"""
