"""Read models: how fast the log is followed and they are rebuilt, how far they lag behind, how long a report takes."""

import multiprocessing
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ledger.http.reports import RANGE_DEFAULT
from ledger.main import Parts
from projections import delivery, failure_reasons, feed, generations, latency, rebuild
from projections.counts import Counts, Sketches
from projections.feed import Feed, Projection
from projections.reports import Reports
from projections.scope import Scope
from scripts.bench_suite import callbacks, units

_REPORTS: Final = Reports()
#: Events in a piece of a rebuild: there are a few for every process.
PORTION: Final = 20_000
#: Messages that the aggregates of the report queries stand for, over 30 days, two providers and twenty countries.
MESSAGES: Final = 10_000_000
_FAILED: Final = 300_000
_PROVIDERS: Final = ("meta", "infobip")
_COUNTRIES: Final = (
    "DE", "FR", "GB", "ES", "IT", "PL", "NL", "BE", "AT", "CH",
    "SE", "NO", "DK", "FI", "IE", "PT", "CZ", "HU", "RO", "GR",
)  # fmt: skip
_ASKED: Final = 15


def follow(built: Parts, projections: Sequence[Projection]) -> float:
    """Return how many events a second the feed applies to all of these when it has a log to catch up with."""
    follower = Feed(built.ledger, projections)
    try:
        began = time.perf_counter()
        applied = follower.drain()
        return applied / len(projections) / (time.perf_counter() - began)
    finally:
        follower.close()


def rebuilt(built: Parts, url: str, directory: Path, processes: int, projection: Projection) -> float:
    """Return how many events a second a rebuild folds, in so many processes that have started up."""
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_ready, range(processes)))
        with rebuild.connect(built.ledger) as connection:
            began = time.perf_counter()
            generation = rebuild.begin(connection, projection, portion=PORTION)
            events = sum(pool.map(_build, [url] * processes, [directory] * processes, [projection] * processes))
            rebuild.catch_up(built.ledger, connection, projection, generation)
            rebuild.exchange(built.ledger, connection, projection, generation)
            return events / (time.perf_counter() - began)


def _ready(number: int) -> int:
    time.sleep(0.2)  # long enough that every process gets one
    return number


def _build(url: str, directory: Path, projection: Projection) -> int:
    events = 0
    with units.parts(url, directory) as built, rebuild.connect(built.ledger) as connection:
        generation = rebuild.begun(connection, projection)
        while generation is not None:
            built_now = rebuild.build(built.ledger, connection, projection, generation)
            if built_now is None:
                break
            events += built_now
    return events


def lags(built: Parts, until: float) -> Iterator[float]:
    """Yield the age in seconds of the oldest event that has not been applied, again and again until a time."""
    with built.ledger.connect() as connection, connection.cursor() as cursor:
        while time.perf_counter() < until:
            found = feed.progress(cursor, [_REPORTS])
            yield max((each.lag_seconds for each in found), default=0.0)
            time.sleep(0.02)


# Report queries -------------------------------------------------------------------------------------------------------


def fill_aggregates(built: Parts) -> None:
    """Write the rows that ten million messages of one account over 30 days amount to."""
    chance = random.Random(1)
    counted, failures, sketches = Counts(), Counts(), Sketches()
    now = int(time.time()) // 3_600
    cells = 30 * 24 * len(_PROVIDERS) * len(_COUNTRIES)
    messages = MESSAGES // cells
    for hour in range(now - 30 * 24, now):
        for provider in _PROVIDERS:
            for country in _COUNTRIES:
                cell = (hour, callbacks.ACCOUNT, "whatsapp", provider, country)
                delivered = messages * chance.randint(80, 95) // 100
                row = dict.fromkeys(delivery.COUNTED, 0)
                row |= {"messages": messages, "sent": messages, "delivered": delivered, "read": delivered // 2}
                counted.add(cell, tuple(row.values()))
                for measure in latency.MEASURES[:2]:
                    for _ in range(20):
                        sketches.add((*cell, measure), chance.randint(100, 300))
            reason = ("provider", "recipient", str(131_000 + chance.randint(0, 30)), "A failure", "yes")
            failures.add((hour, callbacks.ACCOUNT, "whatsapp", provider, "DE", *reason), (messages // 20,))
    with built.ledger.connect(**feed.LIMITS) as connection:
        generation = generations.ensure(connection, _REPORTS)
        with connection.transaction(), connection.cursor() as cursor:
            delivery.SHAPE.write(cursor, generation, 0, counted)
            delivery.DAYS.write(cursor, generation, 0, counted.by_day())
            failure_reasons.SHAPE.write(cursor, generation, 0, failures)
            latency.SHAPE.write(cursor, generation, 0, sketches)
            latency.DAYS.write(cursor, generation, 0, sketches.by_day())
            cursor.execute(generation.sql(_FACTS), (callbacks.ACCOUNT, _FAILED))
        connection.execute("VACUUM ANALYZE")


_FACTS: Final = """
INSERT INTO {message_facts} (failed_at, message_id, stream_id, partition, account, channel, provider, category, code,
                             title, recipient, state)
SELECT clock_timestamp() - n * interval '5 s', n, gen_random_uuid(), 0, %s, 'whatsapp', 'meta', 'recipient',
       (131000 + n %% 31)::text, 'A failure', decode(md5((n %% 200000)::text), 'hex'), ''
  FROM generate_series(1, %s) n
"""


def ask(built: Parts) -> dict[str, float]:
    """Return the median time of each report over 30 days, in milliseconds."""
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    scope = Scope(
        accounts=(callbacks.ACCOUNT,),
        channel="whatsapp",
        since=until - timedelta(days=30),
        until=until,
        group_by=("provider", "day"),
    )
    assert scope.until - scope.since > RANGE_DEFAULT
    now = datetime.now(UTC)
    reporting = built.reporting
    asked: dict[str, Any] = {
        "delivery": lambda: reporting.delivery(scope),
        "failures": lambda: reporting.failures(scope, now),
        "latency": lambda: reporting.latency(scope),
        "stuck": lambda: reporting.stuck(scope, now, limit=50),
        "providers": lambda: reporting.providers(scope, now),
    }
    found = {}
    for name, question in asked.items():
        times = []
        for _ in range(_ASKED):
            began = time.perf_counter()
            question()
            times.append(time.perf_counter() - began)
        found[f"{name}_ms"] = 1e3 * statistics.median(times)
    return found
