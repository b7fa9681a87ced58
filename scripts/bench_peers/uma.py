"""UmaDB: an event store in Rust that groups concurrent appends into one durable commit by itself.

Its server and its Python client come with the wheel `umadb` (`scripts/bench` installs it where there is one). Each
caller is a thread with a client of its own; an append is refused if the observation is on record, as ours is.
"""

import importlib.util
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_SERVER: Final = "from umadb.umadb_server_cli import main; main()"
_START_SECONDS_MAX: Final = 10.0


def is_installed() -> bool:
    return importlib.util.find_spec("umadb") is not None


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """Run a server on a fresh database and yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = directory / f"uma-{port}"
    path.mkdir()
    with (directory / "uma.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, "--listen", f"127.0.0.1:{port}", "--db-path", str(path)],
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + _START_SECONDS_MAX
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the UmaDB server did not start")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def concurrent(url: str, items: deque[tuple[str, bytes]], callers: int, seconds: float) -> float:
    """Return appends per second of so many callers; an item is a name of its own and the bytes to append."""
    umadb: Any = importlib.import_module("umadb")
    counts = [0] * callers
    start = threading.Barrier(callers + 1)

    def call(number: int) -> None:
        client = umadb.Client(url)
        start.wait()
        until = time.perf_counter() + seconds
        while items and time.perf_counter() < until:
            name, data = items.popleft()
            item = umadb.QueryItem(types=["observed"], tags=[name])
            condition = umadb.AppendCondition(fail_if_events_match=umadb.Query([item]))
            client.append([umadb.Event("observed", data, [name])], condition)
            counts[number] += 1

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join(seconds + 30)
    return sum(counts) / (time.perf_counter() - began)
