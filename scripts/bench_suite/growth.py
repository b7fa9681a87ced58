"""What grows with the ledger: the time of an append, the bytes of an event, the memory of a worker."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ledger.main import Parts
from scripts.bench_suite import callbacks, database, load, servers, units

#: Events a batch while tables are filled; the product's own limit.
_FILL: Final = 500
#: Statuses that one round of filling writes, and messages that it is sure to have opened.
_CHUNK, _OPENED = 50_000, 10_000
_TIMED: Final = 100
_APPENDS: Final = 200


class Append(NamedTuple):
    """p50 of an append of 100 events, in milliseconds."""

    new: float  #: one event each to messages not heard of before
    existing: float  #: one event each to messages all over the ledger


def fill(built: Parts, events: int, first: int = 0) -> None:
    """Record so many statuses."""
    bodies = callbacks.bodies(events, run="fill", first=first)
    units.loop(built, units.jobs(built, bodies), min(_FILL, events), 3_600)


def appends(built: Parts, url: str, sizes: tuple[int, ...], progress: Callable[[str], None]) -> dict[int, Append]:
    """Fill the ledger to each size and time appends of 100 events there."""
    filled, found = 0, {}
    for size in sizes:
        while filled < size:
            fill(built, _CHUNK, filled)
            filled += _CHUNK
            progress(f"{filled:,} of {sizes[-1]:,} events")
        # What autovacuum would have done by now on a ledger that grew to this size in days.
        database.execute(url, "VACUUM ANALYZE")
        new = callbacks.bodies(_TIMED * _APPENDS, run=f"new-{size}")
        existing = callbacks.further(_numbers(filled), run="fill")
        found[size] = Append(_timed(built, new), _timed(built, existing))
    return found


def _timed(built: Parts, bodies: Iterator[bytes]) -> float:
    return units.loop(built, units.jobs(built, bodies), _TIMED, 120).batch_ms


def _numbers(filled: int) -> Iterator[int]:
    """Yield the numbers of messages on record, evenly from everywhere."""
    chunks = filled // _CHUNK
    for number in range(_TIMED * _APPENDS):
        chunk, place = number % chunks, number // chunks * 7_919 % _OPENED
        yield chunk * _CHUNK + place


def bytes_an_event(built: Parts, url: str, events: int) -> dict[str, float]:
    """Return bytes, indexes included, of a recorded event and of a message."""
    fill(built, events)
    database.execute(url, "VACUUM ANALYZE")
    counted = database.value(url, "SELECT count(*) FROM events")
    messages = database.value(url, "SELECT count(*) FROM current_status")
    size = {
        name: int(database.value(url, "SELECT pg_total_relation_size(%s::regclass)", name))
        for name in ("events", "current_status", "message_keys")
    }
    return {
        "event": size["events"] / counted,
        "state": float(database.value(url, "SELECT avg(length(state)) FROM events")),
        "message": (size["current_status"] + size["message_keys"]) / messages,
    }


def memory(
    server: servers.Server, url: str, directory: Path, sizes: tuple[int, ...], progress: Callable[[str], None]
) -> dict[int, int]:
    """Return the worker's resident memory after so many callbacks."""
    found: dict[int, int] = {}
    first, recorded = 0, 0
    for size in sizes:
        while recorded < size:
            chunk = callbacks.write(directory / "memory", 150_000, first=first)
            first += chunk.requests
            seconds = min(10, max(1, (size - recorded) // 10_000))
            load.Sender(server.url, chunk).send(64, seconds)
            recorded = int(database.value(url, "SELECT sum(position) FROM partition_heads"))
            progress(f"{recorded:,} of {sizes[-1]:,} callbacks")
        time.sleep(1)
        found[size] = server.rss_bytes()
    return found
