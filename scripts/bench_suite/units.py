"""The unit of work without HTTP: load, decide, append, upsert, in one transaction a batch.

It is driven through the writer's public side. `deliver` runs on the writer's own loop and hands in the next N jobs
before it returns, so the next batch is exactly these N and nothing but the unit is timed. As many batches are on their
way as the writer has fibers: one is decided while the database works for the other.
"""

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ledger import main
from ledger.http.edge import Edge
from ledger.ingest.accept import Intake, intakes
from ledger.ingest.writer import Job, Writer
from ledger.main import Parts
from ledger.providers import PROVIDERS
from ledger.store.application import Ledger
from ledger.wire.contract import Headers, Webhook
from projections import current_status
from scripts.bench_suite import callbacks, servers


class Pace(NamedTuple):
    """What a loop of batches amounts to."""

    per_second: float  #: events
    batch_ms: float  #: p50 of a batch
    longest_ms: float


@contextmanager
def parts(database_url: str, directory: Path, **settings: str) -> Iterator[Parts]:
    """Yield the product's parts over a database."""
    main.tune()
    told = main.with_secrets(main.read(servers.ledger_environment(database_url, directory, **settings)))
    built = main.build(told, database_url)
    try:
        yield built
    finally:
        built.close()


def intake(built: Parts) -> Intake:
    settings = built.settings
    return intakes(settings.accounts, PROVIDERS, built.names, keeps_items=settings.keeps_items)[callbacks.ACCOUNT]


def jobs(built: Parts, bodies: Iterable[bytes]) -> deque[Job]:
    """Return the job of every body, authenticated and parsed. They are kept out of the collector's sight."""
    accept, url = intake(built).accept, f"http://127.0.0.1{callbacks.PATH}"
    made: deque[Job] = deque()
    for body in bodies:
        signature = f"sha256={callbacks.sign(body)}".encode()
        headers = Headers([(b"content-type", b"application/json"), (callbacks.SIGNATURE.encode(), signature)])
        webhook = Webhook(method="POST", url=url, query=b"", headers=headers, body=body)
        made.append(accept(webhook, datetime.now(UTC), "application/json").job)
    gc.collect()
    gc.freeze()
    return made


def loop(built: Parts, waiting: deque[Job], batch: int, seconds: float, ledger: Ledger | None = None) -> Pace:
    """Write batches of N jobs one after another until the time is over or the jobs are."""
    ended, times = threading.Event(), [time.perf_counter()]
    failure: list[Exception] = []

    def hand_in() -> None:
        for _ in range(min(batch, len(waiting))):
            writer.submit(waiting.popleft())

    def deliver(written: list[Job]) -> None:
        times.append(time.perf_counter())
        failure.extend(job.error for job in written if job.error is not None)
        if failure or not waiting or times[-1] - times[0] > seconds:
            ended.set()
        else:
            hand_in()

    project = partial(current_status.row, built.names)
    writer = Writer(ledger or built.ledger, project, deliver)
    hand_in()
    writer.start()
    while len(waiting) and writer.waiting:  # the second batch is not to join the first
        time.sleep(0.001)
    hand_in()
    ended.wait(seconds + 30)
    writer.close()
    gc.unfreeze()
    if failure:
        raise failure[0]
    # The first batches prepare statements and open pages.
    warm = times[min(10, len(times) // 4) :]
    took = [later - earlier for earlier, later in pairwise(warm)]
    return Pace(batch * len(took) / (warm[-1] - warm[0]), 1e3 * median(took), 1e3 * max(took))


def concurrent(built: Parts, waiting: deque[Job], callers: int, seconds: float) -> float:
    """Return appends per second of so many callers, each waiting for its own to be on record before the next."""

    async def call(edge: Edge, until: float) -> int:
        done = 0
        while waiting and time.perf_counter() < until:
            await edge.write(waiting.popleft())
            done += 1
        return done

    async def run() -> float:
        edge = Edge(built.writer)
        edge.open()
        try:
            await call(edge, time.perf_counter() + 0.3)
            began = time.perf_counter()
            counts = await asyncio.gather(*(call(edge, began + seconds) for _ in range(callers)))
            return sum(counts) / (time.perf_counter() - began)
        finally:
            await edge.close()

    try:
        return asyncio.run(run())
    finally:
        gc.unfreeze()
