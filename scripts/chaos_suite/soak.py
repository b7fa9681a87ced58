"""Everything runs for a long time under a steady load, and nothing grows that should not.

Callbacks come at a fixed rate, whatever the answers; providers are asked, read models follow, an endpoint is told of
every change. Every few seconds memory, latency, lag, dead rows and the database's size are noted. In the end the last
third is compared with the first one after a warm-up, and the log with what was sent. A round is a minute.
"""

import gc
import http.client
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Final

import msgspec
import psutil
import psycopg

from ledger.domain.status import Channel, Style
from projections import feed
from projections.registry import PROJECTIONS
from scripts.chaos_suite import oracle
from scripts.chaos_suite.deployment import Deployment, deployed, parts
from scripts.chaos_suite.scenarios import Options, Result, Scenario, say
from scripts.chaos_suite.traffic import META, Callback, campaign
from tests.outbound.receiver import Receiver, answers, receiving

SENDERS: Final = 6
_RATE_EACH: Final = 15.0  #: callbacks a second of each sender
_SHORT_SECONDS: Final = 24.0
_STEADY_SECONDS: Final = 300.0
_SAMPLES: Final = 60  #: a run, at least a second apart
_TWICE: Final = 0.05
_PATIENCE_SECONDS: Final = 10.0
_SETTLE_SECONDS_MAX: Final = 60.0
#: What the last third may be more than the first: of memory, of latency, of bytes an event.
_MEMORY_FACTOR, _MEMORY_BYTES = 1.10, 24 * 2**20
_P99_FACTOR, _P99_MS = 2.0, 50.0
_GROWTH_FACTOR: Final = 1.5
#: A machine that stands still for some seconds is not the service's fault.
_REFUSED_SHARE: Final = 0.005
#: Dead rows of a table: autovacuum begins at a fifth of its rows, and looks once a minute.
_DEAD_SHARE, _DEAD_ROWS = 0.4, 20_000
_LAG_SECONDS_MAX: Final = 5.0
_TABLES: Final = b"SELECT relname, n_live_tup, n_dead_tup FROM pg_stat_user_tables"
_SIZE: Final = b"SELECT pg_database_size(current_database()), (SELECT sum(position) FROM partition_heads)"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """How things stood at a moment."""

    seconds: float  #: since the load began
    requests: int  #: answered since the last sample
    p50_ms: float
    p99_ms: float
    web_bytes: int  #: of the process that answers and has the most
    worker_bytes: int
    files: int  #: open in all processes
    threads: int
    database_bytes: int
    events: int
    lag_events: int
    dead_rows: int  #: of all tables
    dead_share: float  #: of the table that has the most beyond `_DEAD_ROWS`
    told: int  #: requests that the endpoint has had


Thirds = tuple[Sequence[Sample], Sequence[Sample]]


def run(options: Options) -> Result:
    seconds = _SHORT_SECONDS if options.short and not options.rounds else 60.0 * options.count(short=1, long=30)
    with (
        receiving() as receiver,
        deployed(planted=options.planted, outbound_allow="127.0.0.0/8") as made,
        parts(made.environ, made.postgres.url) as built,
    ):
        receiver.otherwise = answers(200)
        soak = _Soak(made, receiver, Random(options.seed))
        soak.tell_endpoint(built.keys.create(META, Channel.WHATSAPP, Style.UNIFIED)[1])
        soak.load(seconds)
        return soak.finish(oracle.Log(built, made.postgres.url))


class _Soak:
    def __init__(self, made: Deployment, receiver: Receiver, random: Random) -> None:
        self._made, self._receiver, self._random = made, receiver, random
        self._lock = threading.Lock()
        self._latencies: list[float] = []
        self._said = self._refused = 0
        self._told = 0  #: that the endpoint had, and that were forgotten since
        self._samples: list[Sample] = []
        self.result = Result()

    def tell_endpoint(self, key: str) -> None:
        connection = http.client.HTTPConnection(*self._made.address, timeout=_PATIENCE_SECONDS)
        body = msgspec.json.encode({"url": self._receiver.url})
        headers = {"x-octopods-auth": key, "content-type": "application/json"}
        connection.request("POST", "/v1/webhooks", body, headers)
        answer = connection.getresponse()
        if answer.status != 201:
            raise RuntimeError(f"an endpoint was answered {answer.status}: {answer.read().decode()}")
        connection.close()

    # Load -------------------------------------------------------------------------------------------------------------

    def load(self, seconds: float) -> None:
        """Send for so long, and look at everything now and then."""
        over, begun = threading.Event(), time.monotonic()
        between = max(1.0, seconds / _SAMPLES)
        with ThreadPoolExecutor(SENDERS) as threads:
            senders = [
                threads.submit(self._send, number, Random(self._random.random()), over) for number in range(SENDERS)
            ]
            try:
                while (passed := time.monotonic() - begun) < seconds:
                    over.wait(min(between, seconds - passed))
                    self._samples.append(self._sample(time.monotonic() - begun))
                    if len(self._samples) % 10 == 0:
                        last = self._samples[-1]
                        say(f"{last.seconds:.0f} of {seconds:.0f} s: {last.events} events, p99 {last.p99_ms:.1f} ms")
            finally:
                over.set()
            for each in senders:
                each.result()

    def _send(self, number: int, random: Random, over: threading.Event) -> None:
        """Send at a fixed rate. What is not taken is sent again until it is."""
        connection = http.client.HTTPConnection(*self._made.address, timeout=_PATIENCE_SECONDS)
        due = time.monotonic() + random.random() / _RATE_EACH
        for callback in campaign(random, number):
            if over.wait(max(0.0, due - time.monotonic())):
                break
            due += 1 / _RATE_EACH
            while not self._deliver(connection, callback) and not over.wait(0.5):
                pass
            if random.random() < _TWICE:
                self._deliver(connection, callback, again=True)
        connection.close()

    def _deliver(self, connection: http.client.HTTPConnection, callback: Callback, *, again: bool = False) -> bool:
        begun, status = time.monotonic(), 0
        try:
            connection.request("POST", callback.path, callback.body, callback.headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
        with self._lock:
            self._latencies.append(time.monotonic() - begun)
            self._refused += status != 200
            self._said += len(callback.says) if status == 200 and not again else 0
        return status == 200

    def _sample(self, seconds: float) -> Sample:
        with self._lock:
            latencies, self._latencies = sorted(self._latencies), []
        with self._receiver.lock:
            self._told += len(self._receiver.received)
            self._receiver.received.clear()
        web = self._made.web.processes
        worker = psutil.Process(self._made.worker.pid)
        processes = [*web, worker]
        with psycopg.connect(self._made.postgres.url, autocommit=True) as connection, connection.cursor() as cursor:
            tables = cursor.execute(_TABLES).fetchall()
            database_bytes, events = cursor.execute(_SIZE).fetchone() or (0, 0)
            lag = max((each.lag_events for each in feed.progress(cursor, PROJECTIONS)), default=0)
        return Sample(
            seconds=round(seconds, 1),
            requests=len(latencies),
            p50_ms=1_000 * _quantile(latencies, 0.5),
            p99_ms=1_000 * _quantile(latencies, 0.99),
            web_bytes=max(process.memory_info().rss for process in web),
            worker_bytes=worker.memory_info().rss,
            files=sum(process.num_fds() for process in processes),
            threads=sum(process.num_threads() for process in processes),
            database_bytes=database_bytes,
            events=int(events or 0),
            lag_events=lag,
            dead_rows=sum(dead for _, _, dead in tables),
            dead_share=max((dead / max(1, live) for _, live, dead in tables if dead > _DEAD_ROWS), default=0.0),
            told=self._told,
        )

    # What must hold ---------------------------------------------------------------------------------------------------

    def finish(self, log: oracle.Log) -> Result:
        if oracle.caught_up(self._made.postgres.url) is None:
            self.result.violations.append("read models stayed behind")
        self._compare(log)
        self._compare_thirds()
        self.result.violations += self._made.wrong_in_derived()
        return self.result

    def _compare(self, log: oracle.Log) -> None:
        """Compare the log with what was answered, and what the endpoint was told with what it must be told."""
        violations = self.result.violations
        violations += log.read()
        twice = sum(count > 1 for counted in (log.said, log.polled) for count in counted.values())
        if twice or len(log.said) != self._said:
            violations.append(f"{self._said} statuses were taken, {len(log.said)} are on record, {twice} of them twice")
        gc.collect()
        self.result.figures |= {
            "minutes": round(self._samples[-1].seconds / 60, 1),
            "requests": sum(each.requests for each in self._samples),
            "refused": self._refused,
            "acked": self._said,
            "polled": len(log.polled),
            "told": self._samples[-1].told,
        }
        self.result.require("acked", self._samples[-1].seconds * SENDERS * _RATE_EACH / 2)
        self.result.require("told", self._samples[-1].seconds)
        if self._refused > _REFUSED_SHARE * self.result.figures["requests"]:
            violations.append(f"{self._refused} requests were refused")

    def _compare_thirds(self) -> None:
        """Compare the last third with the first one after a warm-up of a fifth."""
        warm = self._samples[len(self._samples) // 5 :]
        third = len(warm) // 3
        first, last = warm[:third], warm[-third:]
        self.result.curve = [msgspec.to_builtins(each) for each in self._samples]
        thirds, memory = (first, last), {"factor": _MEMORY_FACTOR, "more": _MEMORY_BYTES}
        self._hold("memory of web", thirds, lambda each: each.web_bytes, **memory)
        self._hold("memory of the worker", thirds, lambda each: each.worker_bytes, **memory)
        self._hold("open files", thirds, lambda each: each.files, factor=1.1, more=8)
        self._hold("threads", thirds, lambda each: each.threads, factor=1.1, more=4)
        if self._samples[-1].seconds >= _STEADY_SECONDS:  # one percent of less would be a handful of requests
            self._hold("p99 ms", thirds, lambda each: each.p99_ms, factor=_P99_FACTOR, more=_P99_MS)
        grown = [(part[-1].database_bytes - part[0].database_bytes, part[-1].events - part[0].events)
                 for part in (first, last)]  # fmt: skip
        each = [round(size / max(1, events)) for size, events in grown]
        self.result.figures["bytes an event, first and last third"] = {"first": each[0], "last": each[1]}
        if each[1] > _GROWTH_FACTOR * max(each[0], 2_000):
            self.result.violations.append(f"the database grew by {each[0]} bytes an event, and later by {each[1]}")
        worst = max(last, key=lambda each: each.dead_share)
        self.result.figures["dead rows at the end"] = last[-1].dead_rows
        if worst.dead_share > _DEAD_SHARE:
            self.result.violations.append(f"a table had {worst.dead_share:.0%} dead rows after {worst.seconds:.0f} s")
        lag = max(each.lag_events for each in warm)
        self.result.figures["lag at most, events"] = lag
        if lag > _LAG_SECONDS_MAX * 2 * SENDERS * _RATE_EACH:
            self.result.violations.append(f"read models were {lag} events behind")

    def _hold(self, name: str, thirds: Thirds, of: Callable[[Sample], float], *, factor: float, more: float) -> None:
        """The median of a third may become so many times as much, and so much more."""
        before, after = (statistics.median(map(of, third)) for third in thirds)
        self.result.figures[name] = {"first": round(before, 1), "last": round(after, 1)}
        if after > factor * before + more:
            self.result.violations.append(f"{name}: {before:.1f} in the first third, {after:.1f} in the last")


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


SCENARIO: Final[Scenario] = Scenario(
    "soak",
    "everything runs under a steady load, and nothing grows that should not",
    run,
    planted=("leaking",),
)
