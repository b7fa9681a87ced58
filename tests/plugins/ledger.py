"""Ledgers, databases of every shape, and writers that tests can wait for."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import Any, LiteralString, NamedTuple, TypeVar

import psycopg
import pytest
from psycopg import sql

from ledger.domain.identity import Names
from ledger.ingest.writer import Done, Job, Statement, Writer
from ledger.store import migrations
from ledger.store.application import Ledger
from ledger.store.captures import Capture
from ledger.store.sealing import MasterKey
from ledger.wire.contract import Secret
from projections import current_status
from tests.builders import NAMES
from tests.plugins.postgres import on_database

MASTER_KEY = MasterKey(Secret(bytes(range(32))))
#: How long a test waits for what must happen before it gives up. Nothing is ever asserted about less.
PATIENCE_SECONDS = 30

LedgerType = TypeVar("LedgerType", bound=Ledger)


#: Threads that a test lets at one ledger at once.
THREADS = 6


class Shape(NamedTuple):
    """How a database is divided: by our own partitions, and natively by hash on top of that."""

    partitions: int
    hash_partitions: int = 0

    def __str__(self) -> str:
        return f"P{self.partitions}{'-hashed' if self.hash_partitions else ''}"


#: One order, a few, many, and many with every key checked by PostgreSQL to carry the partition.
SHAPES = (Shape(1), Shape(4), Shape(16), Shape(16, hash_partitions=16))

_number = itertools.count(1)


def steady(ledger: Ledger) -> Ledger:
    """Open all of a ledger's connections now, for tests in which hypothesis draws while the ledger is in use.

    A pool that grows draws random numbers in a thread of its own, and hypothesis takes that for a mistake of the test.
    """
    pool = ledger.recorder.datastore.pool
    pool.resize(pool.max_size, pool.max_size)
    pool.wait(PATIENCE_SECONDS)
    return ledger


class Pen:
    """A running writer that hands every job back to the one who waits for it."""

    def __init__(self, ledger: Ledger, **options: Any) -> None:
        self.ledger = ledger
        self.writer = Writer(ledger, partial(current_status.row, ledger.names), self._deliver, **options)
        self.writer.start()

    def submit(self, job: Job) -> Job:
        job.waiter = threading.Event()
        self.writer.submit(job)
        return job

    def end(self, job: Job) -> Job:
        """Wait until a submitted job has ended, one way or the other."""
        assert isinstance(job.waiter, threading.Event)
        assert job.waiter.wait(PATIENCE_SECONDS), "the job was never handed back"
        return job

    def finish(self, job: Job) -> Done:
        """Wait for a submitted job. Raises its error."""
        self.end(job)
        if job.error is not None:
            raise job.error
        assert job.done is not None
        return job.done

    def do(self, job: Job) -> Done:
        """Submit a job and wait for it. Raises its error."""
        return self.finish(self.submit(job))

    def write(self, *statements: Statement, captures: Sequence[Capture] = ()) -> Done:
        return self.do(Job(statements, captures))

    @staticmethod
    def _deliver(jobs: list[Job]) -> None:
        for job in jobs:
            if isinstance(job.waiter, threading.Event):
                job.waiter.set()


def write_at_once(ledger: Ledger, jobs: Iterable[Job]) -> list[Job]:
    """Write jobs as one batch, and return them ended: all are submitted before the writer starts."""
    ended: list[Job] = []
    writer = Writer(ledger, partial(current_status.row, ledger.names), ended.extend)
    for job in jobs:
        writer.submit(job)
    writer.start()
    writer.close()
    return ended


class OpenLedger:
    """Opens ledgers of any type over any database; all are closed when the test ends."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(
        self,
        url: str,
        *,
        partitions: int = 1,
        names: Names = NAMES,
        master_key: MasterKey = MASTER_KEY,
        type_: type[LedgerType] = Ledger,  # type: ignore[assignment]  # a default for a type variable
        pool_size: int = THREADS,
    ) -> LedgerType:
        ledger = type_(url, partitions=partitions, names=names, master_key=master_key, pool_size=pool_size)
        self._stack.callback(ledger.close)
        return ledger


@pytest.fixture
def open_ledger() -> Iterator[OpenLedger]:
    with ExitStack() as stack:
        yield OpenLedger(stack)


@pytest.fixture
def ledger(database_url: str, open_ledger: OpenLedger) -> Ledger:
    """A ledger of one partition over this test's own database."""
    return open_ledger(database_url)


@pytest.fixture(scope="session")
def shared_ledger(shaped_ledgers: Callable[[Shape], Ledger]) -> Ledger:
    """The shared ledger of one partition, for properties as well."""
    return steady(shaped_ledgers(Shape(1)))


@pytest.fixture(scope="module")
def module_ledger(postgres_url: str, shape_template: Callable[[Shape], str]) -> Iterator[Ledger]:
    """A ledger of one partition that the tests of a module fill once and then only read."""
    with ExitStack() as stack:
        name = f"made_{next(_number)}"
        _execute(postgres_url, "CREATE DATABASE {} TEMPLATE {}", name, shape_template(Shape(1)))
        yield OpenLedger(stack)(on_database(postgres_url, name))


@pytest.fixture(scope="session")
def shared_pen(shared_ledger: Ledger) -> Iterator[Pen]:
    """The writer of `shared_ledger`."""
    pen = Pen(shared_ledger)
    yield pen
    pen.writer.close()


@pytest.fixture
def start_writer() -> Iterator[Callable[..., Pen]]:
    """Starts writers over ledgers; all are drained and stopped before the ledgers close."""
    pens: list[Pen] = []

    def start(ledger: Ledger, **options: Any) -> Pen:
        pens.append(Pen(ledger, **options))
        return pens[-1]

    yield start
    for pen in pens:
        pen.writer.close()


@pytest.fixture
def pen(ledger: Ledger, start_writer: Callable[..., Pen]) -> Pen:
    """The writer of `ledger`."""
    return start_writer(ledger)


@pytest.fixture
def messages(ledger: Ledger) -> current_status.CurrentStatus:
    return current_status.CurrentStatus(ledger)


@pytest.fixture
def make_database(postgres_url: str) -> Iterator[Callable[..., str]]:
    """Makes databases on the run's server, without any table or as a clone; all are dropped when the test ends."""
    made: list[str] = []

    def make(template: str = "template1") -> str:
        made.append(f"made_{next(_number)}")
        _execute(postgres_url, "CREATE DATABASE {} TEMPLATE {}", made[-1], template)
        return on_database(postgres_url, made[-1])

    yield make
    for name in made:
        _execute(postgres_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture(scope="session")
def shape_template(postgres_url: str) -> Callable[[Shape], str]:
    """Returns the name of a migrated database of a shape, made when it is first asked for."""

    @cache
    def template(shape: Shape) -> str:
        name = f"template_{shape}".lower().replace("-", "_")
        _execute(postgres_url, "CREATE DATABASE {}", name)
        url = on_database(postgres_url, name)
        migrations.migrate(url, partitions=shape.partitions, hash_partitions=shape.hash_partitions)
        return name

    return template


@pytest.fixture(scope="session")
def shaped_ledgers(postgres_url: str, shape_template: Callable[[Shape], str]) -> Iterator[Callable[[Shape], Ledger]]:
    """Returns one ledger of each shape, for tests that need nothing but names of their own in it."""
    with ExitStack() as stack:

        @cache
        def ledger(shape: Shape) -> Ledger:
            name = f"shared_{shape}".lower().replace("-", "_")
            _execute(postgres_url, "CREATE DATABASE {} TEMPLATE {}", name, shape_template(shape))
            return OpenLedger(stack)(on_database(postgres_url, name), partitions=shape.partitions)

        yield ledger


@pytest.fixture(scope="session")
def followed_ledgers(postgres_url: str, shape_template: Callable[[Shape], str]) -> Iterator[Callable[[Shape], Ledger]]:
    """Returns one ledger of each shape for tests that follow the log: what is in the others is not always events."""
    with ExitStack() as stack:

        @cache
        def ledger(shape: Shape) -> Ledger:
            name = f"followed_{shape}".lower().replace("-", "_")
            _execute(postgres_url, "CREATE DATABASE {} TEMPLATE {}", name, shape_template(shape))
            return steady(OpenLedger(stack)(on_database(postgres_url, name), partitions=shape.partitions))

        yield ledger


@pytest.fixture(params=SHAPES, ids=str)
def shape(request: pytest.FixtureRequest) -> Shape:
    return request.param


@pytest.fixture
def shaped_ledger(shape: Shape, shaped_ledgers: Callable[[Shape], Ledger]) -> Ledger:
    """The shared ledger of each shape in turn."""
    return shaped_ledgers(shape)


@pytest.fixture
def shaped_url(shape: Shape, shape_template: Callable[[Shape], str], make_database: Callable[..., str]) -> str:
    """A migrated database of the test's own, of each shape in turn."""
    return make_database(shape_template(shape))


def _execute(url: str, statement: LiteralString, *names: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
