"""The power is cut, again and again, and everything acknowledged before must be there.

`kill -9` proves nothing about a disk: what a process has written is in the operating system's memory. Here the database
is on a file system within a file, on another one that can copy a file without copying its content. Such a copy, taken
at a random moment under load, is what the disk would hold if the power had failed then: what was only in memory is not
in it. PostgreSQL is started on the copy, and the log is compared with what clients had been answered before.

An optimistic disk is assumed: whatever has been handed to it stays.
"""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Final

import psycopg

from ledger.store.embedded import EmbeddedPostgres
from scripts.chaos_suite import oracle
from scripts.chaos_suite.deployment import Deployment, deployed, directory, parts
from scripts.chaos_suite.scenarios import LeftOut, Options, Result, Scenario, say
from scripts.chaos_suite.traffic import Client, Journal, Said

CLIENTS: Final = 8
_LOAD_SECONDS: Final = (0.4, 1.6)
#: Of the disk, and of the file system that it is a file of. Neither takes more than is written.
_DISK_MEGABYTES, _OUTER_MEGABYTES = 1_024, 3_072
_NEEDED: Final = ("mkfs.xfs", "mkfs.ext4", "mount")
_ACKED_A_ROUND: Final = 20
_UNSAFE: Final = "no-fsync"


def run(options: Options) -> Result:
    if os.geteuid() != 0:
        raise LeftOut("mounting file systems needs root")
    missing = [program for program in _NEEDED if shutil.which(program) is None]
    if missing:
        raise LeftOut(f"needs {', '.join(missing)}: xfsprogs and e2fsprogs have them")
    rounds = options.count(short=2, long=100)
    with ExitStack() as stack:
        place = stack.enter_context(directory())
        disk = stack.enter_context(_disk(place))
        made = stack.enter_context(deployed(data_dir=disk.mounted / "postgres"))
        if options.planted == _UNSAFE:
            _forget_to_sync(made.postgres.url)
        power = _Power(made, disk, Random(options.seed))
        for number in range(1, rounds + 1):
            power.round(number)
            if number % 10 == 0 or number == rounds:
                say(f"{number} of {rounds} rounds: {len(power.journal.acked)} acknowledged")
            if power.result.violations:
                break
        return power.finish(number)


class _Disk:
    """A file system within a file."""

    def __init__(self, outer: Path, mounted: Path) -> None:
        self.outer, self.mounted = outer, mounted
        self.image = outer / "disk"

    @contextmanager
    def as_if_cut_off(self) -> Iterator[Path]:
        """Yield what would be on the disk if the power had failed now."""
        copy, mounted = self.outer / "copy", self.outer.parent / "after"
        _run("cp", "--reflink=always", self.image, copy)
        mounted.mkdir(exist_ok=True)
        _run("mount", "-o", "loop", copy, mounted)
        try:
            yield mounted
        finally:
            _run("umount", mounted)
            copy.unlink()


@contextmanager
def _disk(place: Path) -> Iterator[_Disk]:
    outer, mounted = place / "outer", place / "disk"
    outer.mkdir()
    mounted.mkdir()
    image = place / "outer.img"
    _run("truncate", "-s", f"{_OUTER_MEGABYTES}M", image)
    _run("mkfs.xfs", "-q", "-m", "reflink=1", image)
    with _mounted(image, outer):
        disk = _Disk(outer, mounted)
        _run("truncate", "-s", f"{_DISK_MEGABYTES}M", disk.image)
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", disk.image)
        with _mounted(disk.image, mounted):
            mounted.chmod(0o755)
            yield disk


@contextmanager
def _mounted(image: Path, at: Path) -> Iterator[None]:
    try:
        _run("mount", "-o", "loop", image, at)
    except subprocess.CalledProcessError as problem:
        raise LeftOut(f"a file cannot be mounted here: {problem.stderr.strip()}") from problem
    try:
        yield
    finally:
        _run("umount", at)


def _run(*arguments: str | Path) -> None:
    subprocess.run([str(each) for each in arguments], check=True, capture_output=True, text=True)


def _forget_to_sync(url: str) -> None:
    """Plant the error: a running service does not look at this setting again."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


class _Power:
    def __init__(self, made: Deployment, disk: _Disk, random: Random) -> None:
        self._made, self._disk, self._random = made, disk, random
        self.journal = Journal()
        self._clients = [Client(made.address, self.journal, Random(random.random()), n) for n in range(CLIENTS)]
        self._under_way = 0  #: on the disk, and acknowledged later or never
        self._lost = self._twice = 0
        self.result = Result()

    def round(self, number: int) -> None:
        """Load, and cut the power of a copy in the middle of it."""
        going = threading.Event()
        going.set()
        with ThreadPoolExecutor(CLIENTS) as threads:
            runs = [threads.submit(client.run, going, 0.0) for client in self._clients]
            threading.Event().wait(self._random.uniform(*_LOAD_SECONDS))
            with self.journal.lock:
                acked = set(self.journal.acked)
            with self._disk.as_if_cut_off() as mounted:
                going.clear()
                for each in runs:
                    each.result()
                self._judge(number, acked, mounted)

    def _judge(self, number: int, acked: set[Said], mounted: Path) -> None:
        with EmbeddedPostgres(mounted / "postgres") as postgres, parts(self._made.environ, postgres.url) as built:
            log = oracle.Log(built, postgres.url)
            wrong = log.read()
            found, figures = log.compare(self.journal.sent, acked)
        self._lost, self._twice = self._lost + figures["lost"], self._twice + figures["twice"]
        self._under_way += figures["stored, not acked"]
        self.result.violations += [f"round {number}: {each}" for each in wrong + found + self.journal.wrong]

    def finish(self, rounds: int) -> Result:
        for client in self._clients:
            client.close()
        self.result.figures = {
            "rounds": rounds,
            "acked": len(self.journal.acked),
            "lost": self._lost,
            "twice": self._twice,
            "stored, not acked before the cut": self._under_way,
            "answers": dict(sorted(self.journal.answers.items())),
        }
        self.result.require("acked", _ACKED_A_ROUND * rounds)
        return self.result


SCENARIO: Final = Scenario(
    "power",
    "the power is cut at random moments under load: PostgreSQL starts from what the disk holds",
    run,
    planted=(_UNSAFE,),
)
