"""The server's time for every page when very many messages are on record.

    python -m scripts.bench_suite.pages [MESSAGES]

measures through the running service, on an embedded database of its own. All messages but one are copies, with nothing
personal in them; the reports have the aggregates that ten million messages of a month amount to, and 300,000 failures.
"""

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from ledger.domain.status import Channel, Style
from ledger.main import Parts
from scripts.bench_suite import callbacks, database, exporting, following, servers, units

_ASKED: Final = 30
_PATHS: Final = (
    "/",
    "/?q=status:failed",
    "/?q=status:delivered+since:7d",
    "/?q=%2B15550100",
    "/messages/{message}",
    "/failures",
    "/failures?range=30d",
    "/reports",
    "/reports?range=30d",
    "/operations",
)


class Timed(NamedTuple):
    path: str
    p50_ms: float
    longest_ms: float
    bytes: int


def pages(built: Parts, url: str, directory: Path, messages: int) -> Iterator[Timed]:
    """Fill the database, then ask for every page again and again, one request at a time."""
    exporting.fill(built, url, messages)
    following.fill_aggregates(built)
    message_id = database.value(url, "SELECT c.message_id FROM current_status c JOIN message_keys USING (stream_id)")
    _, secret = built.keys.create(callbacks.ACCOUNT, Channel.WHATSAPP, Style.UNIFIED)
    with servers.ledger(url, directory) as server, _signed_in(server.url, secret) as client:
        for path in _PATHS:
            asked = path.format(message=message_id)
            times, answer = [], client.get(asked)
            for _ in range(_ASKED):
                began = time.perf_counter()
                answer = client.get(asked).raise_for_status()
                times.append((time.perf_counter() - began) * 1e3)
            times.sort()
            yield Timed(path, times[len(times) // 2], times[-1], len(answer.content))


@contextmanager
def _signed_in(url: str, secret: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        found = re.search(r'name="csrf" value="([^"]+)"', client.get("/sign-in").text)
        assert found is not None
        answer = client.post("/sign-in", data={"csrf": found[1], "name": "", "secret": secret})
        assert answer.status_code == 303
        yield client


def main(messages: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with (
            database.databases(None, directory / "postgres") as databases,
            databases.ledger() as url,
            units.parts(url, directory) as built,
        ):
            for timed in pages(built, url, directory, messages):
                print(
                    f"{timed.path:32} p50 {timed.p50_ms:7.1f} ms   longest {timed.longest_ms:7.1f} ms   {timed.bytes} B"
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000)
