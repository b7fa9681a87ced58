"""The figures: which two numbers each one compares, and what it should reach. The table of `docs/performance.md`."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

#: Probe -> the numbers of each round.
Rounds = Mapping[str, Sequence[Mapping[str, float]]]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `value` and `limit` name a number as `probe.number`; without a limit the value counts."""

    name: str
    title: str
    against: str
    value: str
    limit: str | None = None
    reach: float | None = None  #: None: for information
    at_most: bool = False  #: reach is an upper bound
    unit: str = "/s"
    quick: bool = True
    long: bool = False

    @property
    def probes(self) -> list[str]:
        return [told.partition(".")[0] for told in (self.value, self.limit) if told is not None]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A figure as measured: medians over the rounds, and the range of the ratio."""

    name: str
    title: str
    against: str
    unit: str
    value: float
    limit: float | None
    ratio: float
    low: float
    high: float
    reach: float | None
    at_most: bool
    reached: bool | None


def evaluate(figure: Figure, rounds: Rounds) -> Result:
    """Compare within each round, then take the median of the ratios."""
    values = _numbers(figure.value, rounds)
    limits = _numbers(figure.limit, rounds) if figure.limit is not None else [1.0] * len(values)
    ratios = [value / limit for value, limit in zip(values, limits, strict=True)]
    ratio = median(ratios)
    reached = None
    if figure.reach is not None:
        reached = ratio <= figure.reach if figure.at_most else ratio >= figure.reach
    return Result(
        name=figure.name,
        title=figure.title,
        against=figure.against,
        unit=figure.unit,
        value=median(values),
        limit=median(limits) if figure.limit is not None else None,
        ratio=ratio,
        low=min(ratios),
        high=max(ratios),
        reach=figure.reach,
        at_most=figure.at_most,
        reached=reached,
    )


def _numbers(told: str, rounds: Rounds) -> list[float]:
    probe, _, number = told.partition(".")
    return [found[number] for found in rounds[probe]]


_STOCK: Final = "stock eventsourcing application, one transaction a request"

FIGURES: Final = (
    Figure(
        name="durable_1",
        title="durable callbacks, 1 worker, 64 connections",
        against=_STOCK,
        value="ledger_1.rate",
        limit="stock_1.rate",
        reach=12,
    ),
    Figure(
        name="durable_2",
        title="durable callbacks, 2 workers, 256 connections",
        against=f"{_STOCK}, 2 workers",
        value="ledger_2.rate",
        limit="stock_2.rate",
        reach=18,
    ),
    Figure(
        name="durable_2_of_1",
        title="durable callbacks, 2 workers, 256 connections",
        against=f"{_STOCK}, 1 worker, 64 connections",
        value="ledger_2.rate",
        limit="stock_1.rate",
    ),
    Figure(
        name="no_storage",
        title="durable callbacks, 1 worker, 64 connections",
        against="verify and decode only, same server",
        value="ledger_1.rate",
        limit="no_storage.rate",
        reach=0.70,
    ),
    Figure(
        name="upsert",
        title="durable callbacks, 1 worker, 64 connections",
        against="hand-written upsert of the status, no history",
        value="ledger_1.rate",
        limit="upsert.rate",
        reach=3,
    ),
    Figure(
        name="hello",
        title="verify and decode only, 1 worker, 64 connections",
        against="starlette route that reads the body",
        value="no_storage.rate",
        limit="hello.rate",
    ),
    Figure(
        name="batches",
        title="statuses in bodies of 100, 1 worker, 64 connections",
        against="one binary-array insert of the same rows, 1,000 a transaction",
        value="batches.rate",
        limit="array_rows.rate",
        reach=0.35,
    ),
    Figure(
        name="ten_providers",
        title="durable callbacks of ten providers in turns, 1 worker, 64 connections",
        against="of Meta alone, by turns",
        value="ten_providers.mixed_rate",
        limit="ten_providers.alone_rate",
        reach=0.9,
    ),
    Figure(
        name="mixing",
        title="durable callbacks of ten providers in turns, 1 worker, 64 connections",
        against="of one provider at a time, the same ten, by turns",
        value="ten_providers.mixed_again_rate",
        limit="ten_providers.in_runs_rate",
        reach=0.9,
    ),
    Figure(
        name="p50_alone",
        title="p50 of a single caller",
        against=_STOCK,
        value="ledger_1.alone_p50_ms",
        limit="stock_1.alone_p50_ms",
        unit=" ms",
        reach=0.6,
        at_most=True,
    ),
    Figure(
        name="p99_64",
        title="p99 at 64 connections",
        against=_STOCK,
        value="ledger_1.p99_ms",
        limit="stock_1.p99_ms",
        unit=" ms",
        reach=0.15,
        at_most=True,
    ),
    Figure(
        name="unit_32",
        title="unit of work, 32 events a batch",
        against="pgbench, single-row durable insert, 1 client",
        value="unit_32.rate",
        limit="single_rows.rate",
        reach=4,
    ),
    Figure(
        name="unit_128",
        title="unit of work, 128 events a batch",
        against="pgbench, single-row durable insert, 1 client",
        value="unit_128.rate",
        limit="single_rows.rate",
        reach=7,
    ),
    Figure(
        name="library_32",
        title="unit of work through the library, 32 a batch",
        against="bare psycopg, the same SQL",
        value="unit_32.rate",
        limit="bare_32.rate",
        reach=0.95,
    ),
    Figure(
        name="library_128",
        title="unit of work through the library, 128 a batch",
        against="bare psycopg, the same SQL",
        value="unit_128.rate",
        limit="bare_128.rate",
        reach=0.95,
        quick=False,
    ),
    Figure(
        name="concurrent",
        title="appends by 32 concurrent callers",
        against="UmaDB, 32 concurrent callers",
        value="concurrent.rate",
        limit="umadb.rate",
        reach=2,
        quick=False,
    ),
    Figure(
        name="reads",
        title="GET /v1/messages/{id}, 64 connections",
        against="starlette, one SELECT by primary key",
        value="reads.rate",
        limit="select.rate",
        reach=0.6,
    ),
    Figure(
        name="growth_new",
        title="append of 100 to new messages at 5 million events, p50",
        against="at 100 thousand events",
        value="growth.new_large_ms",
        limit="growth.new_small_ms",
        unit=" ms",
        reach=2.5,
        at_most=True,
        quick=False,
        long=True,
    ),
    Figure(
        name="growth_existing",
        title="append of 100 to existing messages at 5 million events, p50",
        against="at 100 thousand events",
        value="growth.existing_large_ms",
        limit="growth.existing_small_ms",
        unit=" ms",
        reach=1.6,
        at_most=True,
        quick=False,
        long=True,
    ),
    Figure(
        name="poll_claim",
        title="leasing 500 messages to ask about at 10 million open ones, p50",
        against="(milliseconds)",
        value="poll_claims.claim_ms",
        unit=" ms",
        quick=False,
        long=True,
    ),
    Figure(
        name="poll_select",
        title="finding the 500 newest that are due, from the index alone",
        against="(milliseconds)",
        value="poll_claims.select_ms",
        reach=5,
        at_most=True,
        unit=" ms",
        quick=False,
        long=True,
    ),
    Figure(
        name="poll_rate",
        title="questions to a provider, 1 process, 8 at once",
        against="(a second)",
        value="poll_rate.rate",
        quick=False,
    ),
    Figure(
        name="vacuum",
        title="longest append while a vacuum of events runs for ~6 s",
        against="(seconds)",
        value="vacuum.longest_seconds",
        unit=" s",
        reach=0.1,
        at_most=True,
        quick=False,
    ),
    Figure(
        name="vacuum_stock",
        title="the same on the stock application",
        against="(seconds)",
        value="vacuum_stock.longest_seconds",
        unit=" s",
        quick=False,
    ),
    Figure(
        name="memory",
        title="memory of a worker after all callbacks",
        against="after a tenth of them",
        value="memory.large_bytes",
        limit="memory.small_bytes",
        unit=" B",
        reach=1.1,
        at_most=True,
        quick=False,
        long=True,
    ),
    Figure(
        name="feed",
        title="events applied to a status and a count, catching up",
        against="the library's ProjectionRunner, a status and a count",
        value="read_models.follow",
        limit="stock_runner.rate",
        reach=50,
        quick=False,
    ),
    Figure(
        name="feed_all",
        title="events applied to all four projections",
        against="the library's ProjectionRunner, a status and a count",
        value="read_models.follow_all",
        limit="stock_runner.rate",
        quick=False,
    ),
    Figure(
        name="rebuild",
        title="events rebuilt into a status and a count",
        against="the library's ProjectionRunner, a status and a count",
        value="read_models.rebuild",
        limit="stock_runner.rate",
        reach=150,
        quick=False,
    ),
    Figure(
        name="rebuild_reports",
        title="events rebuilt into the reports' twelve tables",
        against="the library's ProjectionRunner, a status and a count",
        value="read_models.rebuild_reports",
        limit="stock_runner.rate",
        quick=False,
    ),
    Figure(
        name="followed",
        title="durable callbacks while the same process keeps all read models",
        against="callbacks alone",
        value="ledger_followed.rate",
        limit="ledger_1.rate",
        reach=0.6,
    ),
    Figure(
        name="lag",
        title="p99 of the read models' lag meanwhile",
        against="(seconds)",
        value="ledger_followed.lag_p99_seconds",
        unit=" s",
        reach=1,
        at_most=True,
    ),
    Figure(
        name="reports",
        title="slowest report over 30 days of 10 million messages",
        against="(milliseconds)",
        value="report_queries.slowest_ms",
        unit=" ms",
        reach=50,
        at_most=True,
        quick=False,
    ),
    Figure(
        name="bytes_per_event",
        title="bytes an event with indexes, evidence digest",
        against="(bytes)",
        value="size.event",
        unit=" B",
        reach=420,
        at_most=True,
        quick=False,
    ),
    Figure(
        name="bytes_per_event_full",
        title="bytes an event with indexes, evidence full",
        against="(bytes)",
        value="size_full.event",
        unit=" B",
        quick=False,
    ),
    Figure(
        name="overload_kept",
        title="statuses recorded while twice the peak is offered",
        against="peak",
        value="overload.kept",
        limit="overload.peak",
        reach=0.9,
        quick=False,
    ),
    Figure(
        name="overload_queue",
        title="most statements waiting meanwhile",
        against="(LEDGER_QUEUE_MAX)",
        value="overload.waiting_max",
        unit="",
        reach=10_000,
        at_most=True,
        quick=False,
    ),
    Figure(
        name="overload_memory",
        title="memory of the worker meanwhile",
        against="before",
        value="overload.rss_most",
        limit="overload.rss_before",
        unit=" B",
        quick=False,
    ),
    Figure(
        name="overload_recovery",
        title="until callbacks are answered promptly again",
        against="(seconds)",
        value="overload.recovery_seconds",
        unit=" s",
        reach=1,
        at_most=True,
        quick=False,
    ),
    Figure(
        name="chain",
        title="unit of work with the chain, 128 events a batch",
        against="without it, in turns on one database",
        value="chain.chained",
        limit="chain.unchained",
        reach=0.95,
    ),
    Figure(
        name="verify",
        title="events verified a second of processor time",
        against="(a second)",
        value="verify.rate",
        reach=300_000,
        quick=False,
    ),
    Figure(
        name="verify_hashing",
        title="events verified a second of processor time",
        against="the three hashes of each and nothing else",
        value="verify.rate",
        limit="verify.hashing_rate",
        reach=0.4,
        quick=False,
    ),
    Figure(
        name="verify_wall",
        title="events verified a second, on a machine of its own",
        against="(a second)",
        value="verify.wall_rate",
        quick=False,
    ),
    Figure(
        name="verify_memory",
        title="memory of `verify`",
        against="(bytes)",
        value="verify.memory_bytes",
        unit=" B",
        reach=64 * 1024 * 1024,
        at_most=True,
        quick=False,
    ),
    Figure(
        name="erase",
        title="erasure of 10,000 messages, with its certificate",
        against="(seconds)",
        value="erase.seconds",
        unit=" s",
        reach=10,
        at_most=True,
        quick=False,
    ),
)
assert len({figure.name for figure in FIGURES}) == len(FIGURES)
