"""The longest an append waits while the events table is being vacuumed."""

import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import psycopg

from ledger.main import Parts
from scripts.bench_peers import hook, stock
from scripts.bench_suite import callbacks, database, growth, units

SECONDS: Final = 6.0
_EVENTS: Final = 120_000
_STOCK_EVENTS: Final = 20_000
#: What PostgreSQL counts for a page that is read and dirtied.
_COST_OF_PAGE: Final = 22
_NAP_SECONDS: Final = 0.010


class Stall(NamedTuple):
    vacuum_seconds: float
    longest_seconds: float  #: of an append while it ran
    before_seconds: float  #: the longest append in the seconds before
    appends: int  #: while it ran


#: Appends until told to stop and returns (end, length) of every append.
Appender = Callable[[threading.Event], list[tuple[float, float]]]


def ledger(built: Parts, url: str) -> Stall:
    growth.fill(built, _EVENTS)
    waiting = units.jobs(built, callbacks.bodies(60_000, run="single"))

    def append(stop: threading.Event) -> list[tuple[float, float]]:
        answered, took = threading.Event(), []
        writer = built.writer(lambda _: answered.set())
        writer.start()
        try:
            while not stop.is_set() and waiting:
                job = waiting.popleft()
                answered.clear()
                began = time.perf_counter()
                writer.submit(job)
                answered.wait()
                took.append((time.perf_counter(), time.perf_counter() - began))
                if job.error is not None:
                    raise job.error
        finally:
            writer.close()
        return took

    return _slowed(url, "events", append)


def stock_library(url: str) -> Stall:
    """The same on the stock library, which locks its table for every insert."""
    stock.prepare(url)
    application = stock.Messages(stock.environment(url, 2, create=False))
    items = callbacks.statuses(_STOCK_EVENTS + 40_000)

    def append_some(count: int) -> None:
        application.record([_status(next(items)) for _ in range(count)], "")

    for _ in range(_STOCK_EVENTS // 10):
        append_some(10)

    def append(stop: threading.Event) -> list[tuple[float, float]]:
        took = []
        while not stop.is_set():
            began = time.perf_counter()
            append_some(1)
            took.append((time.perf_counter(), time.perf_counter() - began))
        return took

    try:
        return _slowed(url, "messages_events", append)
    finally:
        application.close()


def _status(item: str) -> hook.Status:
    return hook.statuses((callbacks.BODY % item).encode())[0]


def _slowed(url: str, table: str, append: Appender) -> Stall:
    """Append in a thread, and beside it vacuum the table at a pace that takes about six seconds."""
    stop, took, failures = threading.Event(), list[tuple[float, float]](), list[BaseException]()

    def run() -> None:
        try:
            took.extend(append(stop))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    with psycopg.connect(url, autocommit=True) as connection:
        thread.start()
        time.sleep(2)
        began, ended = _vacuum(connection, table)
        time.sleep(0.5)
    stop.set()
    thread.join(60)
    if failures:
        raise failures[0]
    during = [length for at, length in took if at >= began and at - length <= ended]
    before = [length for at, length in took if at < began]
    return Stall(ended - began, max(during), max(before), len(during))


def _vacuum(connection: psycopg.Connection[Any], table: str) -> tuple[float, float]:
    pages = int(database.query(connection, "SELECT pg_relation_size(%s::regclass) / 8192", table))
    limit = max(1, min(10_000, round(pages * _COST_OF_PAGE * _NAP_SECONDS / SECONDS)))
    for statement in (f"SET vacuum_cost_delay = '{_NAP_SECONDS}s'", f"SET vacuum_cost_limit = {limit}"):
        connection.execute(statement.encode())
    began = time.perf_counter()
    connection.execute(f"VACUUM (FREEZE) {table}".encode())
    return began, time.perf_counter()
