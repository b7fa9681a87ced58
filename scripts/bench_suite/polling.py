"""The poller: what a claim costs when very many messages are open, and how many questions one core asks.

    python -m scripts.bench_suite.polling [OPEN_MESSAGES]

measures both alone, on an embedded database of its own.
"""

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import psutil
import psycopg

from ledger.domain.observation import Claim, Observation, Source
from ledger.domain.status import Channel, Status
from ledger.ingest.accept import Intake
from ledger.ingest.writer import Job, Writer
from ledger.polling.account import AccountPoller, Recorder
from ledger.polling.asking import Asker
from ledger.polling.client import Client
from ledger.polling.worker import deliver
from ledger.providers import PROVIDERS
from ledger.store.polls import CLAIM_MAX, Polls, Settled
from ledger.wire.contract import Account, Polling, Secret
from projections import current_status
from projections.feed import Feed
from projections.poll_schedule import PollSchedule
from scripts.bench_suite import database, units

ACCOUNT: Final = "twilio-bench"
_CLAIMS: Final = 60
#: Claims under way meanwhile: what they hold comes first in the index, and has to be passed over. A poller takes all of
#: an account's concurrency, so what others hold is the claim of one that was killed; several that share it hold more.
_HELD, _CROWDED = 1, 4
_OTHER_ACCOUNTS: Final = 9
_MESSAGES: Final = 3_000
_CONCURRENCY: Final = 8

_INDEXES: Final = "SELECT indexdef FROM pg_indexes WHERE tablename = 'poll_asks'"
#: Open messages of ten accounts, due from an hour ago until two hours ahead.
_FILL: Final = """
INSERT INTO poll_asks (next_at, since, stream_id, partition, account, why)
SELECT clock_timestamp() + (n %% 10800 - 3600) * interval '1 second', clock_timestamp() - interval '1 day',
       md5(n::text)::uuid, 0, CASE n %% 10 WHEN 0 THEN 'twilio-bench' ELSE 'other-' || n %% 10 END, 'no_outcome'
  FROM generate_series(%s::bigint, %s::bigint) n
"""
#: The selection in `poll_claim`.
_SELECTION: Final = f"""
SELECT d.partition, d.stream_id, d.why, d.since, d.next_at FROM poll_asks d
 WHERE d.account = '{ACCOUNT}' AND d.next_at <= now()
   AND d.stream_id NOT IN (SELECT unnest(b.streams) FROM poll_batches b WHERE b.account = '{ACCOUNT}')
 ORDER BY d.next_at DESC LIMIT {CLAIM_MAX}
"""


class Claims(NamedTuple):
    """Milliseconds of a claim of 500, of settling it, and of the selection in it."""

    claim_ms: float
    claim_p99_ms: float
    crowded_ms: float  #: while others hold four times as many
    settle_ms: float
    select_ms: float
    index_only: bool


def claims(built: units.Parts, url: str, open_messages: int) -> Claims:
    """Fill the queue and claim from it, each time as much as may be."""
    fill(url, open_messages)
    return claim_all(built, url)


def fill(url: str, open_messages: int) -> None:
    """Queue so many messages."""
    with psycopg.connect(url, autocommit=True) as connection:
        indexes = connection.execute(_INDEXES).fetchall()
        connection.execute("ALTER TABLE poll_asks DROP CONSTRAINT poll_asks_pkey")
        connection.execute("DROP INDEX poll_asks_due")
        step = 1_000_000
        for first in range(1, open_messages + 1, step):
            connection.execute(_FILL, (first, min(first + step - 1, open_messages)))
        for (statement,) in indexes:  # made at once, which is quicker
            connection.execute(str(statement).encode())
        connection.execute("VACUUM (ANALYZE) poll_asks")


def claim_all(built: units.Parts, url: str) -> Claims:
    """Claim and settle, while others hold the newest messages."""
    claimed, settled = _rounds(Polls(built.ledger), _HELD)
    crowded, _ = _rounds(Polls(built.ledger), _CROWDED)
    with psycopg.connect(url, autocommit=True) as connection:
        plan = explained(connection)
    p99 = claimed[int(len(claimed) * 0.99)]
    return Claims(median(claimed), p99, median(crowded), median(settled), *plan)


def _rounds(polls: Polls, held: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of claims and of settling them, sorted, the first few left out."""
    polling = Polling(base_url="http://127.0.0.1", secret=Secret("x"), rate=1e6, concurrency=64)
    others = [polls.claim(ACCOUNT, polling, width=1).batch for _ in range(held)]
    claimed, settled = [], []
    for _ in range(_CLAIMS):
        begun = time.perf_counter()
        batch = polls.claim(ACCOUNT, polling, width=1)
        done = time.perf_counter()
        if len(batch.messages) != CLAIM_MAX:
            raise RuntimeError(f"{len(batch.messages)} messages were claimed")
        polls.settle(batch.batch, [Settled(each, asked=True, after=86_400.0) for each in batch.messages])
        claimed.append((done - begun) * 1e3)
        settled.append((time.perf_counter() - done) * 1e3)
    for each in others:
        polls.leave(each)
    return sorted(claimed[5:]), sorted(settled[5:])


def explained(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[float, bool]:
    """Return the time of the selection alone, and whether it reads nothing of the queue but its index."""
    for method in ("seqscan", "hashjoin", "mergejoin", "bitmapscan"):
        connection.execute(f"SET enable_{method} = off".encode())  # as poll_claim does
    times = []
    for _ in range(20):
        row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_SELECTION}".encode()).fetchone()
        assert row is not None
        told = row[0][0]  # type: ignore[index]
        times.append(float(told["Execution Time"]))
    scans = [node["Node Type"] for node in _nodes(told["Plan"]) if node.get("Relation Name") == "poll_asks"]
    return median(times), scans == ["Index Only Scan"]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)


# Questions ------------------------------------------------------------------------------------------------------------


class _Answers(BaseHTTPRequestHandler):
    """Says of every message that it is sent, as Twilio does."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        sid = self.path.rpartition("/")[2].removesuffix(".json")
        body = json.dumps({"sid": sid, "status": "sent", "direction": "outbound-api", "to": "+12025550111"}).encode()
        self.send_response_only(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve() -> None:
    """Answer until the input is closed; the port is printed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


@contextmanager
def _provider() -> Iterator[str]:
    command = [sys.executable, "-c", "from scripts.bench_suite.polling import serve; serve()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None  # noqa: PT018
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


class Rate(NamedTuple):
    rate: float  #: questions a second
    cpu_us: float  #: of the poller's process for each


def questions(built: units.Parts, url: str) -> Rate:
    """Ask about messages whose status stays the same, as most do, as fast as one process can."""
    provider = PROVIDERS["twilio"]
    assert provider.polls is not None
    writer = Writer(built.ledger, partial(current_status.row, built.names), deliver)
    writer.start()
    with _provider() as base_url:
        polling = Polling(
            base_url=base_url, secret=Secret("x"), account="AC1", rate=1e5, concurrency=_CONCURRENCY, walks=False
        )
        account = Account(
            name=ACCOUNT, provider="twilio", channel=Channel.SMS, secrets=(), public_url=base_url, poll=polling
        )
        intake = Intake(account, provider, built.names, keeps_items=True)
        _send(intake, writer)
        feed = Feed(built.ledger, [PollSchedule()])
        feed.drain()
        feed.close()
        database.execute(url, "UPDATE poll_asks SET next_at = clock_timestamp() - interval '1 second'")
        client = Client(polling)
        poller = AccountPoller(
            Asker(intake, provider.polls, polling, client, now=lambda: datetime.now(UTC)),
            Polls(built.ledger),
            built.ledger,
            Recorder(writer.submit),
            account=ACCOUNT,
            wait=threading.Event().wait,
            chance=random.Random(1),
        )
        process = psutil.Process()
        begun, used = time.perf_counter(), sum(process.cpu_times()[:2])
        while poller.round() == 0.0:
            pass
        took = time.perf_counter() - begun
        cpu = sum(process.cpu_times()[:2]) - used
        asked = database.value(url, "SELECT sum(asked) FROM poll_asks")
        poller.close()
        client.close()
    writer.close()
    return Rate(float(asked) / took, cpu / float(asked) * 1e6)


def _send(intake: Intake, writer: Writer) -> None:
    receipt = intake.receipt(Source.CALLBACK, datetime.now(UTC), b"")
    statements = [
        intake.statement(
            Observation(
                reference=f"SM{number:032x}",
                provider_message_id=f"SM{number:032x}",
                provider_status="sent",
                claim=Claim(Status.SENT),
            ),
            receipt,
        )
        for number in range(_MESSAGES)
    ]
    Recorder(writer.submit, 60).record([Job(statements[at : at + 500]) for at in range(0, len(statements), 500)])


def main(open_messages: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with database.databases(None, directory / "postgres") as databases:
            with databases.ledger() as url, units.parts(url, directory) as built:
                print(questions(built, url))
            with databases.ledger() as url, units.parts(url, directory) as built:
                print(claims(built, url, open_messages))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
