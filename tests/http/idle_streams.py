"""Opens streams that have nothing to say, and tells what they cost the server. Run as a program, with their number:

.venv/bin/python -m tests.http.idle_streams 5000
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psutil

from ledger.store.embedded import EmbeddedPostgres
from tests.http.sse import Stream, settled
from tests.http.test_api import registered
from tests.plugins.service import Service, Starter, starting

MESSAGES = 50


def opened(service: Service, number: int) -> list[Stream]:
    """Open streams, four of five of them of single messages."""
    key = service.new_key("meta-main", "whatsapp")[1]
    ids = [registered(service.client(key)) for _ in range(MESSAGES)]
    paths = [f"/v1/messages/{ids[n % MESSAGES]}/events" if n % 5 else "/v1/events" for n in range(number)]
    with ThreadPoolExecutor(16) as pool:
        streams = list(pool.map(lambda path: _open(service, path, key), paths))
    settled(service, number)
    return streams


def _open(service: Service, path: str, key: str) -> Stream:
    """Open a stream; come back if the server has no time."""
    while (stream := Stream(service, path, key)).status == 503:
        stream.close()
    assert stream.status == 200
    return stream


def megabytes(service: Service) -> float:
    """Return how much memory the server's process holds."""
    size: float = psutil.Process(service.process.pid).memory_info().rss
    return size / 1024 / 1024


def main(number: int) -> None:
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    with _started() as start:
        service = start()
        before, began = megabytes(service), time.monotonic()
        streams = opened(service, number)
        _tell(f"{number} streams opened in {time.monotonic() - began:.1f} s")
        _tell(f"{before:.0f} MB before, {megabytes(service):.0f} MB with them")
        began = time.monotonic()
        service.stop()
        _tell(f"the server ended within {time.monotonic() - began:.1f} s")
        for stream in streams:
            stream.close()


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")


@contextmanager
def _started() -> Iterator[Callable[[], Service]]:
    numbers = count()
    with tempfile.TemporaryDirectory(prefix="status-ledger-") as name, EmbeddedPostgres(Path(name) / "data") as server:

        def directory() -> Path:
            made = Path(name) / f"service-{next(numbers)}"
            made.mkdir()
            return made

        start: Starter
        with starting(directory) as start:
            yield lambda: start(server.url)


if __name__ == "__main__":
    main(int(sys.argv[1]))
