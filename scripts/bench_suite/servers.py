"""Servers under test: started for one measurement, ended by their process id."""

import base64
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from scripts.bench_suite import callbacks, mixed

ROOT: Final = Path(__file__).parents[2]
#: What every server prints before its URL.
READY: Final = " is ready on "
_START_SECONDS_MAX: Final = 30.0
_STOP_SECONDS_MAX: Final = 12.0

_ACCOUNTS: Final = f"""
[accounts.{callbacks.ACCOUNT}]
provider = "meta"
channel = "whatsapp"
secrets = ["{callbacks.SECRET}"]
"""


class Server:
    """A running server and its worker processes."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self._process = process
        self.url = url

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    @property
    def processes(self) -> list[psutil.Process]:
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    def cpu_seconds(self) -> float:
        times = [process.cpu_times() for process in self.processes]
        return sum(each.user + each.system for each in times)

    def rss_bytes(self) -> int:
        """Return the resident memory of the process that serves; of the largest, if there are several."""
        return max(process.memory_info().rss for process in self.processes)


@contextmanager
def ledger(
    database_url: str,
    directory: Path,
    *,
    workers: int = 1,
    module: str = "ledger",
    role: str = "web",
    **settings: str,
) -> Iterator[Server]:
    """Run the product as users do; `module` may name one that changes something about it first.

    With role `web` it takes callbacks and nothing follows the log.
    """
    with running(
        [module, "serve", "--port", "0", "--workers", str(workers), "--no-migrate", "--role", role],
        ledger_environment(database_url, directory, **settings),
        directory,
    ) as server:
        yield server


def ledger_environment(database_url: str, directory: Path, **settings: str) -> dict[str, str]:
    """Return a complete environment: nothing of the caller's own settings gets in."""
    accounts = directory / "accounts.toml"
    accounts.write_text(f"{_ACCOUNTS}\n{mixed.accounts()}", "utf-8")
    told = {
        "DATABASE_URL": database_url,
        "MASTER_KEY": base64.b64encode(b"m" * 32).decode(),
        "DEPLOYMENT_SECRET": base64.b64encode(b"d" * 32).decode(),
        "DATA_DIR": str(directory / "data"),
        "CONFIG": str(accounts),
        "RATE_LIMIT": "off",
        **{name.upper(): value for name, value in settings.items()},
    }
    return {f"LEDGER_{name}": value for name, value in told.items()}


@contextmanager
def peer(name: str, database_url: str, directory: Path, *, workers: int = 1, **options: int) -> Iterator[Server]:
    """Run one of `scripts/bench_peers` on the same web server with the same settings."""
    told = [part for option, value in options.items() for part in (f"--{option}", str(value))]
    with running(
        ["scripts.bench_peers.serve", name, "--workers", str(workers), *told],
        {"BENCH_DATABASE_URL": database_url},
        directory,
    ) as server:
        yield server


@contextmanager
def running(arguments: Sequence[str], environ: dict[str, str], directory: Path) -> Iterator[Server]:
    """Start `python -m ARGUMENTS`, wait until it says where it answers, and end it afterwards."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    log = directory / "server.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**kept, "PYTHONPATH": str(ROOT), **environ},
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield Server(process, _ready(process, log))
    finally:
        _stop(process)


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    assert process.stdout is not None
    printed, until = "", time.monotonic() + _START_SECONDS_MAX
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while READY not in printed or not printed.endswith("\n"):
            chunk = b""
            if selector.select(max(0.0, until - time.monotonic())):
                chunk = os.read(process.stdout.fileno(), 65_536)
            if not chunk:
                raise RuntimeError(f"a server did not start:\n{log.read_text('utf-8', 'replace')[-2_000:]}")
            printed += chunk.decode()
    return printed.rpartition(READY)[2].strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()
