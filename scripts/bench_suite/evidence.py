"""What evidence costs: the chain on every append, verifying a log, erasing people."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from ledger.ingest.erase import Eraser
from ledger.main import Parts
from ledger.store import recorder, verifying
from scripts.bench_suite import callbacks, database, growth, servers, units

#: Events of the log that is verified.
VERIFIED: Final = 200_000
ERASED: Final = 10_000
_BATCH: Final = 128
_PAIRS: Final = 15
_FUNCTION: Final = "SELECT string_agg(pg_get_functiondef(oid), '') FROM pg_proc WHERE proname = 'ledger_record'"
#: The one statement of `ledger_record` that chains.
_CHAINS: Final = re.compile(r"link := sha256\(.*?\);", re.DOTALL)
_MEMORY: Final = (
    "import re; from ledger.__main__ import main; code = main(['verify', '--json']); "
    "print(code, re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
)


class _NoDigest:
    """Stands in for SHA-256 where no chain is to be computed."""

    def digest(self) -> bytes:
        return bytes(32)


@contextmanager
def unchained(url: str) -> Iterator[None]:
    """Append without a chain, on both sides: the same statement less its hashing."""
    function = str(database.value(url, _FUNCTION))
    without, count = _CHAINS.subn("link := link;", function)
    assert count == 1, "ledger_record does not chain as it used to"
    database.execute(url, without)
    recorder.sha256 = lambda _state: _NoDigest()  # type: ignore[assignment, attr-defined]
    try:
        yield
    finally:
        recorder.sha256 = sha256  # type: ignore[attr-defined]
        database.execute(url, function)


class Chain(NamedTuple):
    chained: float  #: events a second
    unchained: float


def chain(built: Parts, url: str, seconds: float) -> Chain:
    """Append with and without the chain in turns on one database; of all pairs, return the one in the middle.

    A machine's other work hits some pairs and not others, so a sum over them all would say more about that work.
    """
    each = max(0.5, seconds / 10)

    def rate(number: int, chained: bool) -> float:
        bodies = callbacks.bodies(round(15_000 * each), run=f"chain-{number}-{chained}")
        return units.loop(built, units.jobs(built, bodies), _BATCH, each).per_second

    def without(number: int) -> float:
        with unchained(url):
            return rate(number, False)

    pairs = []
    for number in range(_PAIRS):
        if number % 2:
            pairs.append(Chain(rate(number, True), without(number)))
        else:
            unlinked = without(number)
            pairs.append(Chain(rate(number, True), unlinked))
    return sorted(pairs, key=lambda pair: pair.chained / pair.unchained)[_PAIRS // 2]


class Verified(NamedTuple):
    rate: float  #: events a second of the verifying process's own processor time
    wall_rate: float  #: events a second
    hashing_rate: float  #: events a second of processor time, for the three hashes that each needs and nothing else
    memory_bytes: float  #: of the command, at most


def _hashing(events: int = 50_000) -> float:
    """Return how fast a digest of a state, a link and an inner node are computed, of data as large as theirs."""
    sizes, began = [bytes(200), bytes(140), bytes(65)], time.process_time()
    for _ in range(events):
        for data in sizes:
            sha256(data).digest()
    return events / (time.process_time() - began)


def verify(built: Parts, url: str, directory: Path, progress: Callable[[str], None]) -> Verified:
    """Fill a log and verify it: three times in this process, for the rates, and once as the command, for its memory."""
    for first in range(0, VERIFIED, 50_000):
        growth.fill(built, 50_000, first)
        progress(f"{first + 50_000:,} of {VERIFIED:,} events")
    database.execute(url, "VACUUM ANALYZE")
    best = Verified(0, 0, 0, 0)
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        report = verifying.verify(url)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert report.ok, report.fault
        best = max(best, Verified(report.checked / cpu, report.checked / wall, _hashing(), 0))
    environ = servers.ledger_environment(url, directory, evidence="digest")
    done = subprocess.run([sys.executable, "-c", _MEMORY], env=environ, capture_output=True, text=True, check=True)
    return best._replace(memory_bytes=1024.0 * int(done.stdout.split()[-1]))


def erase(built: Parts) -> float:
    """Return the seconds in which so many messages are erased, certificate included."""
    growth.fill(built, 3 * ERASED)
    with built.ledger.reading() as cursor:
        rows = cursor.execute("SELECT stream_id FROM current_status LIMIT %s", (ERASED,)).fetchall()
    streams: list[UUID] = [row[0] for row in rows]
    eraser: Eraser = built.eraser()
    began = time.perf_counter()
    outcome = eraser.erase(eraser.look(streams), by="bench", why="measured")
    took = time.perf_counter() - began
    assert outcome.keys == len(streams), f"{outcome.keys} of {len(streams)}"
    return took * ERASED / len(streams)
