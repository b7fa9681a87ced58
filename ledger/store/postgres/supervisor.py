"""Keeps one PostgreSQL server running on a cluster that nobody else supervises (the caller holds the lock).

The server is a direct child, so that its end is noticed and collected here. It dies with us: on Linux the kernel asks
it for a fast shutdown when the thread that started it ends, which kill -9 of the process includes.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]  # publishes no types
import psycopg

from ledger.store.postgres import account, cluster, holders, postmaster
from ledger.store.postgres.errors import DataDirectoryUnusable, EmbeddedError, PostgresDidNotStart

#: Called from several threads; must not raise.
OnEvent = Callable[[str, dict[str, object]], None]

_PAUSE_SECONDS: Final = (0.2, 5.0)
#: A server that answered this long was healthy: its death is followed by an immediate start.
_HEALTHY_SECONDS: Final = 1.0
#: So many deaths in a row before the first answer end `start`.
_ATTEMPTS_MAX: Final = 3
_POLL_SECONDS: Final = 0.02
_LOG_BYTES_MAX: Final = 16 * 1024 * 1024
_LOG_CHECK_SECONDS: Final = 60.0
#: How to end the server, and how long each way gets. A quitting postmaster itself gives its children 5 s.
_ENDINGS: Final = (
    (signal.SIGINT, holders.SHUTDOWN_SECONDS_MAX),
    (signal.SIGQUIT, 7.0),
    (signal.SIGKILL, 5.0),
)


class Supervisor:
    """One server, from `start` to `stop`. Not reusable."""

    def __init__(self, data_dir: Path, user: account.Account, socket_dir: Path, on_event: OnEvent) -> None:
        self._data_dir = data_dir
        self._pgdata = data_dir / "postgres"
        self._log = data_dir / "postgres.log"
        self._user = user
        self._socket_dir = socket_dir
        self._on_event = on_event
        self._thread = threading.Thread(target=self._supervise, name="embedded-postgres", daemon=True)
        self._stopping = threading.Event()
        #: Guards what follows; notified when any of it changes.
        self._changed = threading.Condition()
        self._child: subprocess.Popen[bytes] | None = None
        self._answers = False
        self._deaths = 0  #: in a row
        self._trouble: EmbeddedError | None = None

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.pid if child is not None else None

    @property
    def is_running(self) -> bool:
        return self._answers

    def url(self, database: str) -> str:
        """Return a connection string for psycopg and psql."""
        host = quote(os.fsencode(self._socket_dir), safe="")
        return f"postgresql://{cluster.SUPERUSER}@/{database}?host={host}&port={cluster.PORT}"

    def start(self, timeout_seconds: float) -> None:
        """Begin, and return when the server answers. Raises an EmbeddedError if it does not; then call `stop`."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._answers or self._deaths >= _ATTEMPTS_MAX, timeout_seconds)
            if not self._answers:
                raise self._trouble or self._failure(f"no answer within {timeout_seconds:g} s")

    def stop(self) -> signal.Signals:
        """Shut the server down, fast but cleanly where it lets us; return the signal that did it."""
        with self._changed:
            self._stopping.set()
        for number, seconds in _ENDINGS:
            child = self._child
            if child is not None:
                child.send_signal(number)
            self._thread.join(seconds)
            if not self._thread.is_alive():
                break
        if number == signal.SIGKILL:
            holders.evict(self._pgdata, holders.mark(self._pgdata), self._say_signal, threading.Event())
        return number

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            lived = 0.0
            try:
                child = self._launch()
                if child is not None:
                    lived = self._watch(child)
            except EmbeddedError as error:
                self._trouble = error
            except (OSError, psutil.Error) as error:
                self._trouble = self._failure(str(error))
            with self._changed:
                self._deaths = _deaths(self._deaths, lived)
                self._changed.notify_all()
            if not self._stopping.is_set():
                pause = _pause(self._deaths)
                self._on_event("postgres_down", {"reason": str(self._trouble), "restart_in_seconds": pause})
                self._stopping.wait(pause)

    def _launch(self) -> subprocess.Popen[bytes] | None:
        """Start the server on a directory in which nothing lives; None when told to stop meanwhile."""
        marked = holders.mark(self._pgdata)
        self._clear(marked)
        self._open_way()  # each time: somebody may have closed it since
        user = (self._user.uid, self._user.gid) if self._user.is_other else (-1, -1)
        command = [
            *(sys.executable, "-I", "-S", str(Path(postmaster.__file__).resolve())),
            *(str(os.getpid()), *map(str, user)),
            *cluster.command(self._data_dir, self._socket_dir, self._user, marked),
        ]
        self._limit_log()
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            with self._changed:
                if self._stopping.is_set():
                    return None
                self._child = subprocess.Popen(  # noqa: S603  # our own interpreter, module and arguments
                    command,
                    cwd="/",
                    env=cluster.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for us: the server ends after those who use it
                )
                return self._child
        finally:
            os.close(log)

    def _clear(self, marked: str) -> None:
        """See off what a predecessor left, processes before files. PostgreSQL's own check of shared memory remains."""
        holders.reap_adopted()
        foreign = holders.stranger(self._pgdata, marked)
        if foreign is not None:
            raise DataDirectoryUnusable(f"PostgreSQL server {foreign}, not ours, runs on {self._pgdata}: stop it")
        if not holders.evict(self._pgdata, marked, self._say_signal, self._stopping):
            raise DataDirectoryUnusable(f"processes {holders.alive(marked)} do not leave {self._pgdata}: end them")
        socket = self._socket_dir / cluster.SOCKET_NAME
        stale = (self._pgdata / "postmaster.pid", socket, socket.with_name(f"{socket.name}.lock"))
        found = [path for path in stale if path.exists()]
        for path in found:
            path.unlink()
        if found:
            self._on_event("stale_files_removed", {"files": [path.name for path in found]})

    def _open_way(self) -> None:
        opened = account.open_way(self._data_dir, self._user)
        opened += account.open_programs(cluster.programs(), self._user)
        for place in opened:
            self._on_event("directory_opened", {"path": str(place), "to": self._user.name or self._user.uid})

    def _watch(self, child: subprocess.Popen[bytes]) -> float:
        """Wait for the server's first answer and for its end; return for how many seconds it answered."""
        began = monotonic()
        url = self.url(cluster.SUPERUSER)
        answered = False
        while child.poll() is None and not self._stopping.is_set() and not (answered := answers(url)):
            self._stopping.wait(_POLL_SECONDS)
        answered_at = monotonic()
        if answered:
            self._tell(answers=True)
            self._on_event("postgres_ready", {"pid": child.pid, "seconds": round(answered_at - began, 3)})
        while not _ended(child, _LOG_CHECK_SECONDS):
            self._limit_log()
        code = child.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self._trouble = self._failure(f"PostgreSQL {how}")
        with self._changed:
            self._child = None
        self._tell(answers=False)
        return monotonic() - answered_at if answered else 0.0

    def _tell(self, *, answers: bool) -> None:
        with self._changed:
            self._answers = answers
            self._changed.notify_all()

    def _say_signal(self, number: signal.Signals, pids: list[int]) -> None:
        self._on_event("postgres_leftovers_signalled", {"signal": number.name, "pids": pids})

    def _failure(self, what: str) -> PostgresDidNotStart:
        try:
            with self._log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
                tail = file.read().decode("utf-8", "replace").splitlines()[-3:]
        except OSError:  # no file yet, or no descriptor left to read it with
            tail = []
        return PostgresDidNotStart(f"{what}; {self._log} ends: {' | '.join(tail) or '(nothing)'}")

    def _limit_log(self) -> None:
        """Keep one older file. Lines written between copy and cut are lost."""
        try:
            if self._log.stat().st_size > _LOG_BYTES_MAX:
                with suppress(OSError):  # a full disk is a reason to cut the log, not to stop watching the server
                    shutil.copyfile(self._log, self._log.with_suffix(".log.1"))
                os.truncate(self._log, 0)
        except FileNotFoundError:
            return


def answers(url: str) -> bool:
    """Tell whether a live server executes a statement at this URL."""
    try:
        with psycopg.connect(url, connect_timeout=2, autocommit=True) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _deaths(before: int, answered_seconds: float) -> int:
    """Return the deaths in a row after one more. A server that answered starts well, so it need not wait for long."""
    if answered_seconds >= _HEALTHY_SECONDS:
        return 1
    return min(before + 1, 2) if answered_seconds > 0 else before + 1


def _pause(deaths: int) -> float:
    """Return how long to wait before the next start: not at all at first, then ever longer."""
    first, most = _PAUSE_SECONDS
    return 0.0 if deaths <= 1 else min(most, first * 2.0 ** min(deaths - 2, 10))


def _ended(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the child's end and tell whether it came. Popen's own wait with a time-out polls 20 times a second."""
    if sys.platform == "linux":
        try:
            descriptor = os.pidfd_open(child.pid)
        except OSError:  # a kernel before 5.3, or a sandbox
            pass
        else:
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                return bool(poll.poll(seconds * 1000))
            finally:
                os.close(descriptor)
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
