"""Twice the load that can be borne: what is still recorded, what the rest is told, how soon it is over.

Requests carry 100 statuses each. With one status a request, receiving a request is most of its cost, refused or not:
no server can keep 0.9 of its throughput then (`docs/performance.md`).
"""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

import msgspec

from scripts.bench_suite import callbacks, database, load, servers

_CONNECTIONS_AT_PEAK: Final = 32
_CONNECTIONS: Final = 512
_PROMPT_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 30.0


class Overload(msgspec.Struct, frozen=True, kw_only=True):
    """Rates are statuses a second."""

    peak: float  #: as fast as 32 connections go
    offered: float
    kept: float  #: recorded meanwhile
    refused: int  #: requests answered 503
    unannounced: int  #: of those, without Retry-After
    others: int  #: answers that were neither 200 nor 503
    failed: int  #: requests without an answer
    p99_ms: float
    waiting_max: int  #: statements in the queue
    rss_before: int
    rss_most: int
    recovery_seconds: float  #: until nothing waited and a callback was answered promptly


def run(server: servers.Server, url: str, batches: callbacks.Callbacks, seconds: float) -> Overload:
    """Find the peak, offer twice as much, let go, and find the peak again: the machine may have changed its pace."""
    sender = load.Sender(server.url, batches)
    sender.send(_CONNECTIONS_AT_PEAK, 1, strict=False)
    first = _peak(sender, url, seconds)
    time.sleep(1)
    rss_before, before = server.rss_bytes(), _recorded(url)
    with _watching(server) as seen:
        sample = sender.send(_CONNECTIONS, seconds, rate=2 * first / batches.statuses, strict=False)
        ended, kept = time.perf_counter(), _recorded(url) - before
        recovery = _recovery(server, ended)
    return Overload(
        peak=(first + _peak(sender, url, seconds)) / 2,
        offered=sample.rate * batches.statuses,
        kept=kept / sample.seconds,
        refused=sample.refused,
        unannounced=sample.unannounced,
        others=sample.others,
        failed=sample.failed,
        p99_ms=sample.p99_ms,
        waiting_max=max((waiting for waiting, _ in seen), default=0),
        rss_before=rss_before,
        rss_most=max((rss for _, rss in seen), default=rss_before),
        recovery_seconds=recovery,
    )


def _peak(sender: load.Sender, url: str, seconds: float) -> float:
    before = _recorded(url)
    sample = sender.send(_CONNECTIONS_AT_PEAK, seconds, strict=False)
    return (_recorded(url) - before) / sample.seconds


def _recorded(url: str) -> int:
    return int(database.value(url, "SELECT sum(position) FROM partition_heads"))


@contextmanager
def _watching(server: servers.Server) -> Iterator[list[tuple[int, int]]]:
    """Collect (statements waiting, resident memory) several times a second."""
    seen, stop = list[tuple[int, int]](), threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            seen.append((_waiting(server) or 0, server.rss_bytes()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(10)


def _waiting(server: servers.Server) -> int | None:
    """Return the statements in the queue as the server tells, None if it does not answer in time."""
    text = _answer(urllib.request.Request(f"{server.url}/metrics"), 3)
    lines = [line for line in (text or "").splitlines() if line.startswith("ledger_queue_statements ")]
    return int(float(lines[0].split()[1])) if lines else None


def _recovery(server: servers.Server, ended: float) -> float:
    """Return the seconds from the end of the load until a callback is answered promptly and nothing waits."""
    number = 0
    while True:
        number += 1
        began = time.perf_counter()
        body = next(callbacks.bodies(1, run=f"probe-{number}"))
        headers = {"content-type": "application/json", callbacks.SIGNATURE: f"sha256={callbacks.sign(body)}"}
        answer = _answer(urllib.request.Request(f"{server.url}{callbacks.PATH}", body, headers), 6)
        prompt = answer is not None and time.perf_counter() - began < _PROMPT_SECONDS
        if began - ended > _PATIENCE_SECONDS or (prompt and _waiting(server) == 0):
            return time.perf_counter() - ended
        time.sleep(0.02)


def _answer(request: urllib.request.Request, seconds: float) -> str | None:
    """Return the body of a 200; None for anything else."""
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            text: str = answer.read().decode()
            return text if answer.status == HTTPStatus.OK else None
    except (urllib.error.URLError, TimeoutError, OSError):
        return None
