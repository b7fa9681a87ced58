"""The database fails in every way that can be made here, one after the other, under load.

Faults on the way to it are made by a proxy, the others by PostgreSQL itself. While a fault lasts, whoever is not
answered 200 is told to come back, in time; afterwards the same processes go on by themselves, and the log is as clients
know it.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import psycopg

from scripts.chaos_suite import oracle
from scripts.chaos_suite.deployment import Deployment, deployed, directory, parts
from scripts.chaos_suite.scenarios import Options, Result, Scenario, say
from scripts.chaos_suite.traffic import Client, Journal
from tests.ingest.fault_proxy import Fault, FaultProxy

CLIENTS: Final = 8
#: An answer leaves within 5 s; the rest is for a machine that has other things to do.
ANSWER_SECONDS_MAX: Final = 8.0
_CALM_SECONDS: Final = 0.5
_SETTLE_SECONDS_MAX: Final = 40.0
#: What only the answer to an append has among its columns.
_APPENDED: Final = b"positions\x00"
_DISK_MEGABYTES: Final = 320

Act = Callable[[Deployment, float], None]


class Trouble(msgspec.Struct, frozen=True):
    """A fault: `act` makes it, lets it last for so many seconds, and ends it."""

    name: str
    act: Act
    seconds: float
    refuses: bool  #: while it lasts, nothing can be taken: there must be answers 503


def _proxy(made: Deployment) -> FaultProxy:
    assert made.proxy is not None
    return made.proxy


def _last(seconds: float) -> None:
    threading.Event().wait(seconds)


@contextmanager
def _administrator(made: Deployment) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(made.postgres.url, autocommit=True) as connection:
        yield connection


def _latency(made: Deployment, seconds: float) -> None:
    proxy = _proxy(made)
    proxy.delay_seconds = 0.05
    _last(seconds)
    proxy.delay_seconds = 0.0


def _resets(made: Deployment, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _proxy(made).cut()
        _last(0.15)


def _terminations(made: Deployment, seconds: float) -> None:
    until = time.monotonic() + seconds
    with _administrator(made) as connection:
        while time.monotonic() < until:
            connection.execute(_TERMINATE)
            _last(0.15)


def _black_hole(made: Deployment, seconds: float) -> None:
    with _proxy(made).hold():
        _last(seconds)


def _unreachable(made: Deployment, seconds: float) -> None:
    _proxy(made).down()
    _last(seconds)
    _proxy(made).up()


def _lost_commits(made: Deployment, seconds: float) -> None:
    """Lose the answer to every append that is on its way when the last loss is over."""
    proxy, until = _proxy(made), time.monotonic() + seconds
    proxy.column = _APPENDED
    while time.monotonic() < until:
        lost = proxy.lost
        proxy.lose(Fault.LOSE_ANSWER)
        oracle.wait(lambda lost=lost: proxy.lost > lost, max(0.0, until - time.monotonic()))
        _last(0.05)
    proxy.lose(Fault.NONE)
    proxy.column = b""


def _exhausted(made: Deployment, seconds: float) -> None:
    """Take every connection that PostgreSQL gives, the service's own ones too."""
    with ExitStack() as stack:
        until = None
        administrator = stack.enter_context(_administrator(made))
        while until is None or time.monotonic() < until:
            try:
                while True:
                    stack.enter_context(psycopg.connect(made.postgres.url))
            except psycopg.OperationalError:
                until = until or time.monotonic() + seconds
                administrator.execute(_TERMINATE)


def _locked(made: Deployment, seconds: float) -> None:
    with _administrator(made) as connection, connection.transaction():
        connection.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        _last(seconds)


def _restart(made: Deployment, _seconds: float) -> None:
    made.stop_postgres()
    oracle.wait(lambda: not made.postgres.is_running, _SETTLE_SECONDS_MAX)
    oracle.wait(lambda: made.postgres.is_running, _SETTLE_SECONDS_MAX)


def _read_only(made: Deployment, seconds: float) -> None:
    """Be what a primary is after another one took over: alive, and read-only."""
    with _administrator(made) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        _last(seconds)
        connection.execute("SET transaction_read_only = off")
        connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        connection.execute("SELECT pg_reload_conf()")


def _disk_full(made: Deployment, seconds: float) -> None:
    """Fill the disk, and ask for a new file of the write-ahead log, which there is no room for."""
    ballast = made.disk / "ballast"
    subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], capture_output=True, check=False)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with _administrator(made) as connection:
                connection.execute("SELECT pg_switch_wal()")
        except psycopg.Error:
            pass
        _last(0.1)
    ballast.unlink()


_TERMINATE: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'status-ledger'"
TROUBLES: Final = (
    Trouble("latency", _latency, 1.5, refuses=False),
    Trouble("reset", _resets, 1.5, refuses=False),
    Trouble("terminated", _terminations, 1.5, refuses=False),
    Trouble("commit answer lost", _lost_commits, 2.5, refuses=False),
    Trouble("black hole", _black_hole, 6.0, refuses=True),
    Trouble("unreachable", _unreachable, 3.0, refuses=True),
    Trouble("no connection free", _exhausted, 3.0, refuses=True),
    Trouble("locked", _locked, 2.5, refuses=True),
    Trouble("restart", _restart, 0.0, refuses=False),
    Trouble("read-only", _read_only, 2.5, refuses=True),
)
DISK_FULL: Final = Trouble("disk full", _disk_full, 4.0, refuses=True)


def run(options: Options) -> Result:
    rounds = options.count(short=1, long=10)
    result = Result(figures={"rounds": rounds})
    with (
        deployed(through_proxy=True, planted=options.planted) as made,
        parts(made.environ, made.postgres.url) as built,
    ):
        fire = _Fire(made, oracle.Log(built, made.postgres.url), result, Random(options.seed))
        for number in range(1, rounds + 1):
            for trouble in TROUBLES:
                fire.suffer(trouble)
            say(f"{number} of {rounds} rounds: {len(fire.journal.acked)} acknowledged")
        lost = _proxy(made).lost
        fire.finish()
    result.figures["commit answers lost"] = lost
    result.require("commit answers lost", 3 * rounds)
    _fill_a_disk(options, result)
    return result


def _fill_a_disk(options: Options, result: Result) -> None:
    """The same on a small disk that gets full."""
    if os.geteuid() != 0:
        result.figures["disk full"] = "left out: mounting a small disk needs root"
        return
    with (
        directory() as place,
        _small_disk(place / "disk") as disk,
        deployed(data_dir=disk / "postgres", planted=options.planted) as made,
        parts(made.environ, made.postgres.url) as built,
    ):
        made.disk = disk
        fire = _Fire(made, oracle.Log(built, made.postgres.url), result, Random(options.seed))
        for _ in range(1 if options.short else 5):
            fire.suffer(DISK_FULL)
        fire.finish()


@contextmanager
def _small_disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    size = f"size={_DISK_MEGABYTES}m,mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "chaos", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


class _Fire:
    """Clients, and what they suffer."""

    def __init__(self, made: Deployment, log: oracle.Log, result: Result, random: Random) -> None:
        self._made, self._log, self._result = made, log, result
        self.journal = Journal()
        self._clients = [Client(made.address, self.journal, Random(random.random()), n) for n in range(CLIENTS)]
        self._processes = {process.pid for process in made.web.processes}

    def suffer(self, trouble: Trouble) -> None:
        """Let the fault last under load, then wait until all is as if it had not been; compare."""
        going = threading.Event()
        going.set()
        before, self.journal.slowest_seconds = self.journal.answers.copy(), 0.0
        with ThreadPoolExecutor(CLIENTS) as threads:
            runs = [threads.submit(client.run, going, _SETTLE_SECONDS_MAX) for client in self._clients]
            _last(_CALM_SECONDS)
            trouble.act(self._made, trouble.seconds)
            self.journal.note_kill(trouble.name)
            recovered = oracle.wait(lambda: not self.journal.is_waiting, _SETTLE_SECONDS_MAX)
            _last(_CALM_SECONDS)
            going.clear()
            left = sum(each.result() for each in runs)
        wrong = (
            [] if recovered and not left else [f"not recovered within {_SETTLE_SECONDS_MAX:.0f} s: {left} not taken"]
        )
        self._judge(trouble, self.journal.answers - before, wrong)

    def _judge(self, trouble: Trouble, answers: dict[str, int], wrong: list[str]) -> None:
        journal, url = self.journal, self._made.postgres.url
        slowest = journal.slowest_seconds
        if slowest > ANSWER_SECONDS_MAX:
            wrong.append(f"an answer came after {slowest:.1f} s")
        if {process.pid for process in self._made.web.processes} != self._processes:
            wrong.append("a process that answers did not survive")
        if self._made.worker.starts > 1:
            wrong.append("the worker did not survive")
        behind = oracle.caught_up(url)
        if behind is None:
            wrong.append("read models stayed behind")
        wrong += self._log.read()
        found, figures = self._log.compare(journal.sent, journal.acked)
        told = {status: answers[status] for status in sorted(answers)}
        recovery = max(journal.recovery.get(trouble.name, [0.0]))
        self._result.violations += [f"{trouble.name}: {each}" for each in wrong + found + journal.wrong]
        self._result.figures[trouble.name] = {
            **told,
            "slowest s": round(slowest, 2),
            "first 200 after s": round(recovery, 2),
            "read models after s": round(behind or 0.0, 2),
        }
        for status in ("200", "503") if trouble.refuses else ("200",):
            if not answers.get(status):
                self._result.shortfalls.append(f"{trouble.name}: no answer {status}")
        self._total = {"acked": len(journal.acked), **figures}

    def finish(self) -> None:
        """Compare read models with new ones, verify the chain, and sum up."""
        self._result.violations += self._made.wrong_in_derived()
        for client in self._clients:
            client.close()
        for name, count in self._total.items():
            self._result.figures[name] = self._result.figures.get(name, 0) + count


SCENARIO: Final = Scenario(
    "database",
    "the database is slow, cut off, silent, full, locked, read-only, restarted, under load",
    run,
    planted=("answers-first",),
)
