"""The service as it is run: PostgreSQL, two processes that answer, and one that follows the log and asks providers.

PostgreSQL is a child of this process, kept running by the product's own supervisor. The web processes are kept running
by `serve --workers 2`; the worker by this module, as an operator's init system would.
"""

import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from ledger import main
from ledger.main import Parts
from ledger.store import migrations
from ledger.store.embedded import EmbeddedPostgres
from scripts.bench_suite.servers import Server, running
from scripts.chaos_suite import traffic
from scripts.chaos_suite.oracle import wait
from tests.ingest.fault_proxy import FaultProxy, proxied
from tests.plugins.service import ROOT, environment, toml
from tests.polling.provider import ACCOUNT, TOKEN, Twilio

PLANTED: Final = Path(__file__).parent / "planted"
_START_SECONDS_MAX, _END_SECONDS_MAX, _COMMAND_SECONDS_MAX = 30.0, 15.0, 600.0


@contextmanager
def directory() -> Iterator[Path]:
    """Yield a directory that the database's own user can reach."""
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        made = Path(name)
        made.chmod(0o755)
        yield made


def environ(
    database_url: str, home: Path, poll_url: str, planted: str | None = None, **settings: str
) -> dict[str, str]:
    """Return the environment of every process of a service whose files are in `home`."""
    home.mkdir(exist_ok=True)
    poll = {"account": ACCOUNT, "secret": TOKEN, "base_url": poll_url, "rate": 200.0, "walks": False}
    (home / "accounts.toml").write_text(toml(traffic.accounts(poll)), "utf-8")
    made = environment(database_url, home, **settings)
    if planted is not None and (PLANTED / planted.replace("-", "_")).is_dir():
        made["PYTHONPATH"] = f"{PLANTED / planted.replace('-', '_')}:{ROOT}"
    return made


class Worker:
    """`serve --role work`, started again whenever it ends."""

    def __init__(self, environ: Mapping[str, str], home: Path) -> None:
        self._environ, self._home = dict(environ), home
        self._ending = threading.Event()
        self.starts = 0
        self._start()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _start(self) -> None:
        with (self._home / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ledger", "serve", "--role", "work", "--no-migrate"],
                env=self._environ,
                cwd=self._home,
                stdout=log,
                stderr=log,
            )
        self.starts += 1

    def _keep(self) -> None:
        while not self._ending.is_set():
            self._process.wait()
            if not self._ending.wait(0.1):
                self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_working(self) -> bool:
        return "status-ledger is working" in (self._home / "worker.log").read_text("utf-8", "replace")

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._ending.set()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join()


class Deployment:
    """Everything that runs, and how to kill each part of it."""

    def __init__(self, postgres: EmbeddedPostgres, web: Server, worker: Worker, provider: Twilio, home: Path) -> None:
        self.postgres, self.web, self.worker, self.provider, self.home = postgres, web, worker, provider, home
        self.environ: dict[str, str] = {}
        self.proxy: FaultProxy | None = None
        self.disk = home  #: that the database is on

    @property
    def address(self) -> tuple[str, int]:
        return self.web.address

    def kill_web(self, which: int) -> bool:
        """Kill one of the processes that answer; tell whether there was one."""
        children = self.web.processes[1:]
        if not children:
            return False
        with_suppressed_absence(children[which % len(children)].kill)
        return True

    def kill_worker(self) -> bool:
        self.worker.kill()
        return True

    def stop_postgres(self) -> bool:
        """Let PostgreSQL stop at once, as `pg_ctl stop -m immediate` does: as if the machine had failed."""
        return self._signal_postgres(signal.SIGQUIT, children=False)

    def kill_postgres(self) -> bool:
        """Kill PostgreSQL's first process and all of its children."""
        return self._signal_postgres(signal.SIGKILL, children=True)

    def _signal_postgres(self, number: signal.Signals, *, children: bool) -> bool:
        pid = self.postgres.pid
        if pid is None or not self.postgres.is_running:
            return False
        try:
            first = psutil.Process(pid)
            victims = [first, *(first.children() if children else ())]
        except psutil.NoSuchProcess:
            return False
        for victim in victims:
            with_suppressed_absence(lambda victim=victim: victim.send_signal(number))
        return True

    def wrong_in_derived(self) -> list[str]:
        return wrong_in_derived(self.environ, self.home)


def wrong_in_derived(environ: Mapping[str, str], home: Path) -> list[str]:
    """Compare every read model with one made anew from the events, and verify the chain; return what does not fit."""
    return [
        *failed(environ, home, "rebuild", "all", "--dry-run", "--json"),
        *failed(environ, home, "verify", "--json"),
    ]


def failed(environ: Mapping[str, str], home: Path, *arguments: str) -> list[str]:
    """Run a command of the product, in an environment of a service; return how it ended, unless well."""
    done = subprocess.run(
        [sys.executable, "-m", "ledger", *arguments],
        env=environ,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND_SECONDS_MAX,
    )
    told = f"{' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return [told] if done.returncode else []


def with_suppressed_absence(act: Any) -> None:
    """Do something to a process that may be gone."""
    try:
        act()
    except psutil.NoSuchProcess:
        return


class _Delivered(dict[str, Any]):
    """What a provider knows of messages: all are delivered, and that was at one time."""

    def __contains__(self, _sid: object) -> bool:
        return True

    def __missing__(self, _sid: str) -> dict[str, str]:
        at = "Thu, 15 Oct 2026 12:00:00 +0000"
        return {"status": "delivered", "date_sent": at, "date_updated": at}


@contextmanager
def deployed(
    *,
    workers: int = 2,
    planted: str | None = None,
    through_proxy: bool = False,
    data_dir: Path | None = None,
    **settings: str,
) -> Iterator[Deployment]:
    """Run everything; the service reaches its database through a proxy if wanted. `planted` names a directory here."""
    with ExitStack() as stack:
        home = stack.enter_context(directory())
        postgres = stack.enter_context(EmbeddedPostgres(data_dir or home / "postgres"))
        migrations.migrate(postgres.url)
        provider = Twilio()
        provider.truth = _Delivered()
        stack.callback(provider.close)
        proxy = stack.enter_context(proxied(postgres.url)) if through_proxy else None
        told = environ(proxy.url if proxy else postgres.url, home / "service", provider.url, planted, **settings)
        arguments = ["ledger", "serve", "--port", "0", "--workers", str(workers), "--role", "web", "--no-migrate"]
        web = stack.enter_context(running(arguments, told, home / "service"))
        worker = Worker(told, home / "service")
        stack.callback(worker.close)
        if not wait(worker.is_working, _START_SECONDS_MAX):
            raise RuntimeError("the worker did not start")
        made = Deployment(postgres, web, worker, provider, home / "service")
        made.environ, made.proxy = told, proxy
        yield made


@contextmanager
def parts(told: Mapping[str, str], url: str) -> Iterator[Parts]:
    """Yield the product's parts over the service's database, to read what is sealed in it."""
    built = main.build(main.read(told), url, pool_size=1)
    try:
        yield built
    finally:
        built.close()
