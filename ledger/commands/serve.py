"""`serve`: the service, in one process or several.

The first process owns the embedded database and the listening socket. With one worker it also serves; with more it
starts that many children on the same socket and restarts any that dies. SIGTERM and SIGINT drain: no new connections,
every request answered, exit code 0.
"""

import argparse
import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import msgspec
import structlog
import uvicorn

from ledger import logs, main
from ledger.commands import rebuilding, signing
from ledger.commands.common import DONE, FAILED, CommandFailed, migrate
from ledger.commands.signals import Signals
from ledger.config import Settings
from ledger.store import idempotency, refusals, safety, traffic
from ledger.store.application import Ledger, StoreUnavailable

#: A drain that takes longer is cut.
DRAIN_SECONDS_MAX: Final = 8
_BACKLOG: Final = 2048
_RESTART_SECONDS: Final = (0.1, 5.0)
_MAINTENANCE_SECONDS: Final = 600.0
#: How a child learns of its parent's socket and database.
_SOCKET, _DATABASE, _METRICS = "_STATUS_LEDGER_SOCKET", "_STATUS_LEDGER_DATABASE", "PROMETHEUS_MULTIPROC_DIR"
_PARENT: Final = "_STATUS_LEDGER_PARENT"
#: Tells a child that it is the one that asks providers and tells destinations.
_CALLS: Final = "_STATUS_LEDGER_CALLS"
#: Connections of a poller: one for its writer, some for its threads.
_POLLER_CONNECTIONS: Final = 4


def add_to(commands: Any) -> None:
    serve = commands.add_parser("serve", help="run the service")
    serve.add_argument("--host", help="default 127.0.0.1 (LEDGER_HOST)")
    serve.add_argument("--port", type=int, help="default 8080 (LEDGER_PORT)")
    serve.add_argument("--workers", type=int, help="processes that answer requests (LEDGER_WORKERS)")
    serve.add_argument(
        "--role", choices=["all", "web", "work"], default="all", help="web answers requests, work does upkeep"
    )
    serve.add_argument("--no-migrate", action="store_true", help="refuse to start instead of applying migrations")
    serve.set_defaults(run=_serve)


def _serve(told: argparse.Namespace) -> int:
    settings = main.read(_environment(told))
    logs.configure(settings.log_format, settings.log_level)
    log = structlog.get_logger("ledger.serve")
    settings = main.with_secrets(settings, lambda name, fields: log.warning(name, **fields))
    if _SOCKET in os.environ:
        return _serve_as_child(settings, told.role)
    with main.database(settings, lambda name, fields: log.info(name, **fields), guests_seconds=0) as url:
        if not told.no_migrate:
            migrate(url, settings.partitions)
        safety.require(url, settings.partitions)
        _replay_erasures(settings, url)
        if told.role == "work":
            return _work(settings, url)
        with _listen(settings) as listener:
            if settings.workers == 1:
                return _serve_here(settings, url, listener, told.role)
            return _supervise(settings, url, listener, told.role)


def _replay_erasures(settings: Settings, url: str) -> None:
    """Erase again, before anything is served, who was erased by a list that this database does not know of."""
    if not settings.erasures_file.exists():
        return
    parts = main.build(settings, url, pool_size=2)
    try:
        eraser = parts.eraser()
        for order in eraser.missing():
            outcome = eraser.replay(order)
            if outcome is not None:
                log = structlog.get_logger("ledger.serve")
                log.warning("erasure_replayed", erasure=str(order.erasure_id), streams=outcome.streams)
    except (OSError, msgspec.DecodeError) as error:
        raise CommandFailed(f"{settings.erasures_file} cannot be read ({type(error).__name__})") from None
    finally:
        parts.close()


def _environment(told: argparse.Namespace) -> dict[str, str]:
    """Arguments count as settings, so that everything derived from host and port agrees with them."""
    given = {"LEDGER_HOST": told.host, "LEDGER_PORT": told.port, "LEDGER_WORKERS": told.workers}
    return {**os.environ, **{name: str(value) for name, value in given.items() if value is not None}}


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise CommandFailed(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    listener.listen(_BACKLOG)
    listener.set_inheritable(True)
    return listener


def _announce(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    print(f"status-ledger is ready on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)


# One process ----------------------------------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """Leaves signals to us and says when it answers."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], on_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_drain = on_drain

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        await self._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def drain(self) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        self._on_drain()


def _serve_here(settings: Settings, url: str, listener: socket.socket, role: str) -> int:

    main.tune()
    parts = main.build(settings, url)
    server: _Server | None = None
    application = main.application(
        parts, multiprocess=_METRICS in os.environ, draining=lambda: server is not None and server.should_exit
    )
    config = uvicorn.Config(
        application,
        http="ledger.http.protocol:LedgerProtocol",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing that a caller says about its address or scheme is believed
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
        backlog=_BACKLOG,
    )
    child = _SOCKET in os.environ
    works = role == "all" and not child
    server = _Server(config, (lambda: None) if child else lambda: _announce(listener), application.drain)
    stopped = threading.Event()
    upkeep = _start_upkeep(parts, stopped) if works else []
    calls = works or _CALLS in os.environ
    if calls:
        upkeep += _start_poller(settings, url, stopped)
    try:
        with _outbound(settings, url, calls), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listener]))
    finally:
        stopped.set()
        for thread in upkeep:
            thread.join(DRAIN_SECONDS_MAX)
        parts.close()
    return DONE if server.started else FAILED


# Several processes ----------------------------------------------------------------------------------------------------


def _supervise(settings: Settings, url: str, listener: socket.socket, role: str) -> int:
    """Keep `workers` children serving until told to stop."""
    metrics = settings.data_dir / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True)
    environment = {
        **os.environ,
        _SOCKET: str(listener.fileno()),
        _DATABASE: url,
        _PARENT: str(os.getpid()),
        _METRICS: str(metrics),
        "LEDGER_HOST": settings.host,
        "LEDGER_PORT": str(settings.port),
        "LEDGER_WORKERS": "1",
    }
    log = structlog.get_logger("ledger.serve")
    stopping, signals = threading.Event(), Signals()
    command = [sys.executable, "-m", "ledger", "serve", "--no-migrate", "--role", "web"]
    # One of them calls others: what it counts is shared as all children's is.
    calling = {**environment, _CALLS: "1"} if role == "all" else environment
    children: list[_Child] = [
        _Child(command, environment if number else calling, listener.fileno()) for number in range(settings.workers)
    ]
    parts = main.build(settings, url, pool_size=2)
    upkeep = _start_upkeep(parts, stopping) if role == "all" else []
    announced = False
    while not signals.wait(0.1):
        for child in children:
            if child.revive():
                log.warning("worker_restarted")
        if not announced and _answers(listener):
            _announce(listener)
            announced = True
    stopping.set()
    for child in children:
        child.drain()
    code = max(child.ended() for child in children)
    for thread in upkeep:
        thread.join(DRAIN_SECONDS_MAX)
    parts.close()
    return DONE if code == 0 else FAILED


class _Child:
    """One serving process, restarted with growing pauses when it dies soon after its start."""

    def __init__(self, command: list[str], environment: dict[str, str], descriptor: int) -> None:
        self._command = command
        self._environment = environment
        self._descriptor = descriptor
        self._pause = _RESTART_SECONDS[0]
        self._start()

    def _start(self) -> None:
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            self._command, env=self._environment, pass_fds=(self._descriptor,), start_new_session=True
        )

    def revive(self) -> bool:
        """Start again if the process has died and its pause is over; tell whether that was done."""
        if self._process.poll() is None:
            return False
        lived = time.monotonic() - self._started_at
        if lived < self._pause:
            return False
        self._pause = min(_RESTART_SECONDS[1], self._pause * 2) if lived < 10 else _RESTART_SECONDS[0]
        self._start()
        return True

    def drain(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()

    def ended(self) -> int:
        """Wait for the end and return the exit code."""
        try:
            code = self._process.wait(DRAIN_SECONDS_MAX + 2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return FAILED
        # One that was just being started ends by the signal: it had nothing to drain.
        return DONE if code == -signal.SIGTERM else abs(code)


def _serve_as_child(settings: Settings, role: str) -> int:
    listener = socket.socket(fileno=int(os.environ[_SOCKET]))
    threading.Thread(target=_die_with_parent, args=(int(os.environ[_PARENT]),), daemon=True).start()
    return _serve_here(settings, os.environ[_DATABASE], listener, role)


def _die_with_parent(parent: int) -> None:
    """Drain once the parent is gone; it may have been before this process came to look."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _answers(listener: socket.socket) -> bool:
    """Tell whether somebody answers on the socket."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    try:
        with socket.create_connection((reachable, port), timeout=1) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


# Upkeep ---------------------------------------------------------------------------------------------------------------


def _work(settings: Settings, url: str) -> int:
    stopping, signals = threading.Event(), Signals()
    parts = main.build(settings, url, pool_size=2)
    upkeep = _start_upkeep(parts, stopping) + _start_poller(settings, url, stopping)
    print("status-ledger is working", flush=True)
    with main.outbound(settings, url):
        signals.wait()
        stopping.set()
        for thread in upkeep:
            thread.join(DRAIN_SECONDS_MAX)
    parts.close()
    return DONE


def _outbound(settings: Settings, url: str, works: bool) -> AbstractContextManager[None]:
    return main.outbound(settings, url) if works else nullcontext()


def _start_upkeep(parts: main.Parts, stopping: threading.Event) -> list[threading.Thread]:
    """Start what follows the log and what clears away, each in a thread that ends when told to stop."""
    threads = [
        threading.Thread(target=parts.feed.run, args=(stopping,), name="feed", daemon=True),
        threading.Thread(target=_maintain, args=(parts.ledger, stopping), name="upkeep", daemon=True),
    ]
    for thread in threads:
        thread.start()
    return [
        *threads,
        signing.start(parts.settings, parts.ledger, stopping),
        rebuilding.start(parts.ledger, os.environ, stopping),
    ]


def _start_poller(settings: Settings, url: str, stopping: threading.Event) -> list[threading.Thread]:
    """Ask providers in a thread, with parts of its own, until told to stop; none if no account can be asked about."""
    if not main.polls(settings):
        return []

    def run() -> None:
        while not stopping.is_set():
            try:
                parts = main.build(settings, url, pool_size=_POLLER_CONNECTIONS)
            except StoreUnavailable:  # gone since this process started, which did find it
                structlog.get_logger("ledger.polling").warning("poll_postponed")
                stopping.wait(_RESTART_SECONDS[1])
                continue
            try:
                main.poller(parts).run(stopping)
            finally:
                parts.close()

    thread = threading.Thread(target=run, name="poller", daemon=True)
    thread.start()
    return [thread]


def _maintain(ledger: Ledger, stopping: threading.Event) -> None:
    """Forget idempotency claims that have run out, and traffic and refusals that are too old."""
    log = structlog.get_logger("ledger.upkeep")
    while not stopping.is_set():
        try:
            purged = idempotency.purge(ledger)
            if purged:
                log.info("idempotency_claims_purged", count=purged)
            purged = traffic.purge(ledger)
            if purged:
                log.info("traffic_purged", minutes=purged)
            refusals.purge(ledger)
        except StoreUnavailable:
            log.warning("upkeep_postponed")
        stopping.wait(_MAINTENANCE_SECONDS)
