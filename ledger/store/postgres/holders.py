"""Which processes still live in a data directory, and how to see them off.

PostgreSQL trusts the pid in `postmaster.pid` as long as any process has it, a zombie or a stranger included, and does
not start while backends of its predecessor live. Both happen after kill -9, so we look for ourselves.

Processes are told by a mark in their command line (PostgreSQL shows `cluster_name` in every process title): unlike a
working directory it can be read without the right to trace other users' processes, which root in a container lacks.
Silent breach: a server started without the mark is invisible here.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Final

import psutil  # type: ignore[import-untyped]  # publishes no types

OnSignal = Callable[[signal.Signals, list[int]], None]

_NAME: Final = "postgres"
_POLL_SECONDS: Final = 0.02
#: A fast shutdown writes a checkpoint first.
SHUTDOWN_SECONDS_MAX: Final = 10.0
#: An orphaned backend notices by itself as soon as it waits for anything.
_ORPHAN_SECONDS_MAX: Final = 1.0
_QUIT_SECONDS_MAX: Final = 5.0
_KILL_SECONDS_MAX: Final = 5.0


def mark(pgdata: Path) -> str:
    """Return what every process of the server on this directory carries in its command line.

    A removed directory keeps its inode while a process works in it, so two living servers never share a mark.
    """
    status = pgdata.stat()
    return f"status-ledger[{status.st_dev:x}:{status.st_ino:x}]"


def alive(marked: str) -> list[int]:
    """Return the pids of living server processes with the mark; zombies hold nothing and do not count."""
    found = []
    for process in _servers():
        try:
            if any(marked in argument for argument in process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def stranger(pgdata: Path, marked: str) -> int | None:
    """Return the pid of a server on this directory that somebody else started, None if there is none."""
    pid = pid_on_file(pgdata)
    if pid is None or pid in alive(marked):
        return None
    for process in _servers():
        if process.pid != pid:
            continue
        try:
            return pid if _works_in(process, pgdata) else None
        except psutil.Error:
            return None
    return None


def pid_on_file(pgdata: Path) -> int | None:
    """Return the pid in postmaster.pid, None if the file is missing or unreadable as one."""
    try:
        with (pgdata / "postmaster.pid").open("rb") as file:
            return int(file.readline(32))
    except (FileNotFoundError, ValueError):
        return None


def evict(pgdata: Path, marked: str, on_signal: OnSignal, cancelled: Event) -> bool:
    """Wait until nothing with the mark lives, asking ever less politely; tell whether that was reached.

    A living postmaster is shut down fast. Orphans get a moment, then what a postmaster would send them after a crash:
    SIGQUIT, and SIGKILL as the last resort. Never SIGINT to an orphan: a checkpointer would take it for a shutdown.
    """
    living = alive(marked)
    postmaster = [pid for pid in living if pid == pid_on_file(pgdata)]
    if postmaster:
        _send(signal.SIGINT, postmaster, on_signal)
        living = _wait(marked, SHUTDOWN_SECONDS_MAX, cancelled)
    elif living:
        living = _wait(marked, _ORPHAN_SECONDS_MAX, cancelled)
    for number, seconds in ((signal.SIGQUIT, _QUIT_SECONDS_MAX), (signal.SIGKILL, _KILL_SECONDS_MAX)):
        if living and not cancelled.is_set():
            _send(number, living, on_signal)
            living = _wait(marked, seconds, cancelled)
    return not living


def reap_adopted() -> None:
    """Collect dead server processes whose parent died, if we are the one they fall to: PID 1 of a container."""
    if os.getpid() != 1:
        return
    for process in psutil.process_iter():
        try:
            if process.name() == _NAME and process.ppid() == 1 and process.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(process.pid, os.WNOHANG)
        except (psutil.Error, ChildProcessError):
            continue


def _servers() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.name() == _NAME and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def _works_in(process: psutil.Process, pgdata: Path) -> bool:
    try:
        return os.path.samefile(process.cwd(), pgdata)
    except (OSError, psutil.AccessDenied):
        return str(pgdata) in process.cmdline()


def _send(number: signal.Signals, pids: list[int], on_signal: OnSignal) -> None:
    on_signal(number, pids)
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _wait(marked: str, seconds: float, cancelled: Event) -> list[int]:
    deadline = monotonic() + seconds
    while (living := alive(marked)) and monotonic() < deadline and not cancelled.wait(_POLL_SECONDS):
        pass
    return living
