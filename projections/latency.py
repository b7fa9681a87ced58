"""How long things take: sent to delivered, delivered to read, and what the provider says until we hear it.

The first two are a message's and count in the hour in which it began. The third, the delay of a callback, counts by the
report, in the hour of its receipt, and for no country.

Only times of one kind are compared: both as told by clocks that are believed, or both by our own where neither was
told. A duration below zero is a sign of clocks that disagree: it is counted as skewed and left out.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from ledger.domain.events import StatusObserved
from projections import sketch
from projections.counts import SKEWED, SketchShape
from projections.facts import Facts
from projections.scope import Scope, View

DELIVERY: Final = "sent_to_delivered"
READING: Final = "delivered_to_read"
CALLBACK: Final = "callback_delay"
MEASURES: Final = (DELIVERY, READING, CALLBACK)
SHAPE: Final = SketchShape("latency", ("hour", "account", "channel", "provider", "country", "measure"))
#: The same by UTC day: a month of hours is more sketches than can be merged while somebody waits.
DAYS: Final = SketchShape("latency_days", ("hour", "account", "channel", "provider", "country", "measure"))
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def measured(facts: Facts) -> Iterator[tuple[str, int]]:
    """Yield (measure, bucket or SKEWED) for what can be said of a message."""
    spans = (
        (DELIVERY, facts.sent_at, facts.delivered_at, facts.sent_received_at, facts.delivered_received_at),
        (READING, facts.delivered_at, facts.read_at, facts.delivered_received_at, facts.read_received_at),
    )
    for measure, told_from, told_to, received_from, received_to in spans:
        if told_from is not None and told_to is not None:
            yield measure, _bucket(told_from, told_to)
        elif told_from is None and told_to is None and received_from is not None and received_to is not None:
            yield measure, _bucket(received_from, received_to)


def delay(event: StatusObserved) -> int:
    """Return the bucket of the time from what a callback tells of to its receipt, or SKEWED."""
    if event.occurred_at is None or not event.believed:
        return SKEWED
    return _bucket(event.occurred_at, event.received_at)


def _bucket(begin: datetime, end: datetime) -> int:
    milliseconds = (end - begin).total_seconds() * 1_000
    return SKEWED if milliseconds < 0 else sketch.bucket(milliseconds)


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Durations of one measure in one group, in milliseconds; good to 2 %."""

    group: dict[str, str]
    measure: str
    durations: int
    skewed: int  #: left out: the clocks disagree
    p50: float | None
    p90: float | None
    p99: float | None


def query(view: View, scope: Scope) -> list[Latency]:
    """Return every measure of every group."""
    merged: dict[tuple[tuple[tuple[str, str], ...], str], list[int]] = {}
    sums = "sum(t.durations)::bigint, sum(t.skewed)::bigint, array_agg(t.sketch)"
    for table, part in scope.parts(SHAPE.name, DAYS.name):
        for group, (measure, durations, skewed, sketches) in view.grouped(part, table, sums, ("measure",)):
            known = merged.setdefault((tuple(group.items()), measure), [0, 0, 0])
            known[0] += durations
            known[1] += skewed
            known[2] += sum(map(sketch.unpack, sketches))
    merged = dict(sorted(merged.items()))
    return [_latency(dict(group), measure, told) for (group, measure), told in merged.items()]


def _latency(group: dict[str, str], measure: str, told: list[int]) -> Latency:
    p50, p90, p99 = (_rounded(found) for found in sketch.quantiles(told[2], list(QUANTILES.values())))
    return Latency(group=group, measure=measure, durations=told[0], skewed=told[1], p50=p50, p90=p90, p99=p99)


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else float(f"{milliseconds:.4g}")


def learned(view: View, scope: Scope, share: float, least: int) -> dict[Any, float]:
    """Return, by (account, channel, provider), in how many seconds this share is delivered, where enough have been."""
    where, parameters = scope.conditions(has_country=False)
    rows = view.rows(
        "SELECT t.account, t.channel, t.provider, array_agg(t.sketch) FROM {latency_days} t"
        f" WHERE {where} AND t.measure = %s GROUP BY 1, 2, 3 HAVING sum(t.durations) >= %s",
        (*parameters, DELIVERY, least),
    )
    found = {}
    for *origin, sketches in rows:
        (milliseconds,) = sketch.quantiles(sum(map(sketch.unpack, sketches)), [share])
        if milliseconds is not None:
            found[tuple(origin)] = milliseconds / 1_000
    return found
