"""The embedded PostgreSQL server: one per data directory, whoever needs it.

DATA_DIR holds `postgres` (the cluster), `postgres.log`, `server.json` (where it answers), `postgres.lock` (held by the
one process that supervises it), `guests.lock` (shared by all who use it) and, where the path is short enough, `socket`.
`serve` and commands use `attach`. Only root or the user who started the server can connect, through the socket alone.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Final, Self

import msgspec
import psycopg

from ledger.store.postgres import account, cluster
from ledger.store.postgres.errors import (
    DataDirectoryInUse,
    DataDirectoryUnusable,
    EmbeddedError,
    InstallationUnusable,
    PostgresDidNotStart,
)
from ledger.store.postgres.supervisor import OnEvent, Supervisor, answers

__all__ = [  # what can be raised here belongs to what is offered here
    "DataDirectoryInUse",
    "DataDirectoryUnusable",
    "EmbeddedError",
    "EmbeddedPostgres",
    "InstallationUnusable",
    "PostgresDidNotStart",
    "attach",
    "running_url",
]

_DATABASE: Final = "ledger"
_POLL_SECONDS: Final = 0.05
#: Between two attempts to take over from a supervisor that ended, when an attempt failed.
_TAKEOVER_SECONDS: Final = 5.0


class _Server(msgspec.Struct, frozen=True):
    """The content of server.json."""

    url: str
    pid: int  #: of the supervising process


def _ignore(_name: str, _fields: dict[str, object]) -> None:
    """Nobody listens."""


class EmbeddedPostgres:
    """A server on one data directory, supervised by this process between `start` and `stop`."""

    def __init__(self, data_dir: Path, *, on_event: OnEvent = _ignore) -> None:
        self._data_dir = data_dir.resolve()
        self._on_event = on_event
        self._lock: int | None = None
        self._supervisor: Supervisor | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """A connection string of the database `ledger`, for psycopg and psql."""
        if self._supervisor is None:
            raise RuntimeError("not started")
        return self._supervisor.url(_DATABASE)

    @property
    def pid(self) -> int | None:
        """The postmaster's pid, None while there is none."""
        return self._supervisor.pid if self._supervisor is not None else None

    @property
    def is_running(self) -> bool:
        """Whether the current postmaster has answered; false between a death and the next answer."""
        return self._supervisor is not None and self._supervisor.is_running

    @property
    def is_supervising(self) -> bool:
        """Whether this object holds the directory's lock."""
        return self._lock is not None

    def start(self, *, timeout_seconds: float = 60) -> None:
        """Create the cluster if there is none, start the server, return when it answers on the database `ledger`.

        Raises DataDirectoryInUse at once when another process supervises this directory, and other EmbeddedErrors.
        """
        if self._lock is not None:
            raise RuntimeError("already started")
        self._lock = _supervisor_lock(self._data_dir)
        try:
            user = account.account_for(self._data_dir)
            self._prepare(user)
            self._supervisor = Supervisor(
                self._data_dir, user, cluster.socket_directory(self._data_dir, user), self._on_event
            )
            self._supervisor.start(timeout_seconds)
            _ensure_database(self._supervisor.url(cluster.SUPERUSER))
            cluster.replace(self._data_dir / "server.json", msgspec.json.encode(_Server(self.url, os.getpid())))
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError):
                raise DataDirectoryUnusable(f"{self._data_dir} cannot be used: {error}") from error
            raise

    def stop(self, *, is_last: bool = True) -> None:
        """Shut the server down, fast but cleanly where it lets us; does nothing if not started.

        Unless `is_last`, somebody will start it again and it must then have the same URL.
        """
        if self._lock is None:
            return
        (self._data_dir / "server.json").unlink(missing_ok=True)
        if self._supervisor is not None:
            began = monotonic()
            way = self._supervisor.stop()
            self._supervisor = None
            self._on_event("postgres_stopped", {"seconds": round(monotonic() - began, 3), "signal": way.name})
        if is_last:
            cluster.remove_socket_directory(self._data_dir)
        os.close(self._lock)  # which unlocks
        self._lock = None

    def _prepare(self, user: account.Account) -> None:
        opened = account.open_way(self._data_dir, user) + account.open_programs(cluster.programs(), user)
        for place in opened:
            self._on_event("directory_opened", {"path": str(place), "to": user.name or user.uid})
        began = monotonic()
        if cluster.initialise(self._data_dir, user):
            self._on_event("postgres_initialised", {"seconds": round(monotonic() - began, 3)})


def running_url(data_dir: Path) -> str | None:
    """Return the URL of the server that runs on this data directory, None if none answers."""
    path = data_dir / "server.json"
    try:
        told = msgspec.json.decode(path.read_bytes(), type=_Server)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    except PermissionError as error:
        raise DataDirectoryUnusable(f"{path} is closed to this user: run as the user who runs the server") from error
    return told.url if answers(told.url) else None


@contextmanager
def attach(
    data_dir: Path, on_event: OnEvent = _ignore, *, timeout_seconds: float = 300, guests_seconds: float = 5
) -> Iterator[str]:
    """Yield the URL of the server that runs on this data directory, or of one started for the duration.

    Of many processes that attach at once, one starts it. That one waits up to `guests_seconds` for the others
    before stopping it; one of those who stay then starts it again, at the same URL.
    """
    server = EmbeddedPostgres(data_dir, on_event=on_event)
    done = threading.Event()
    heir = threading.Thread(target=_inherit, args=(server, done, on_event), name="embedded-heir", daemon=True)
    with _guest_list(data_dir) as guests:
        try:
            url = _find_or_start(server, data_dir, guests, monotonic() + timeout_seconds)
            heir.start()
            yield url
        finally:
            done.set()
            if heir.is_alive():
                heir.join()
            if server.is_supervising:
                server.stop(is_last=_wait_for_guests(guests, guests_seconds))


def _find_or_start(server: EmbeddedPostgres, data_dir: Path, guests: int, deadline: float) -> str:
    while True:
        if _try_lock(guests, fcntl.LOCK_SH):
            url = running_url(data_dir)
            if url is not None:
                return url
            try:
                server.start(timeout_seconds=max(1.0, deadline - monotonic()))
            except DataDirectoryInUse:  # the other one is starting, restarting or about to end
                if monotonic() > deadline:
                    raise
            else:
                return server.url
        elif monotonic() > deadline:
            raise DataDirectoryInUse(f"another process is still stopping the database in {data_dir}")
        sleep(_POLL_SECONDS)


def _inherit(server: EmbeddedPostgres, done: threading.Event, on_event: OnEvent) -> None:
    """Become the supervisor as soon as nobody else is."""
    while not server.is_supervising and not done.wait(_POLL_SECONDS):
        try:
            server.start()
        except DataDirectoryInUse:
            continue
        except EmbeddedError as error:
            on_event("postgres_takeover_failed", {"reason": str(error)})
            done.wait(_TAKEOVER_SECONDS)


def _supervisor_lock(data_dir: Path) -> int:
    """Return the descriptor that holds the directory's lock; no program that we start inherits it."""
    descriptor = _open(data_dir / "postgres.lock")
    if not _try_lock(descriptor, fcntl.LOCK_EX):
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise DataDirectoryInUse(f"process {holder or '?'} already runs the database in {data_dir}")
    os.truncate(descriptor, 0)
    os.write(descriptor, b"%d\n" % os.getpid())
    return descriptor


@contextmanager
def _guest_list(data_dir: Path) -> Iterator[int]:
    """Yield a descriptor whose lock is shared by all who use the server, and exclusive to one who stops it."""
    descriptor = _open(data_dir / "guests.lock")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for_guests(guests: int, seconds: float) -> bool:
    """Wait until we are alone, for a while; tell whether we are. Whoever comes later then waits for us."""
    deadline = monotonic() + seconds
    while not (alone := _try_lock(guests, fcntl.LOCK_EX)) and monotonic() < deadline:
        sleep(_POLL_SECONDS)
    return alone


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DataDirectoryUnusable(
            f"{path} cannot be opened ({error.strerror}): run as the user who owns it"
        ) from error


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ensure_database(url: str) -> None:
    try:
        with psycopg.connect(url, connect_timeout=5, autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", (_DATABASE,)).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {_DATABASE}".encode())
    except psycopg.Error as error:
        raise PostgresDidNotStart(f"the database {_DATABASE} cannot be created: {error}") from error
