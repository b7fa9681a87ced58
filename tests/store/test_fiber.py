"""Synchronous code on an event loop: the loop goes on while a fiber waits, and fibers wait in turn."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg
import pytest
from eventsourcing.persistence import OperationalError

from ledger.store import fiber
from ledger.store.application import Ledger, StoreUnavailable
from ledger.store.fiber import Gathering, LoopThread, current, sleep, spawn
from tests.plugins.ledger import PATIENCE_SECONDS, OpenLedger

T = TypeVar("T")

LOCK = b"SELECT pg_advisory_lock(4711)"
UNLOCK = b"SELECT pg_advisory_unlock(4711)"


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    thread = LoopThread("loop-of-a-test")
    yield thread.loop
    thread.close()


class Task:
    """A function on its way in a fiber."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> None:
        self._function = function
        self._ended = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        loop.call_soon_threadsafe(spawn, loop, self._run)

    def _run(self) -> None:
        try:
            self._result = self._function()
        except Exception as error:
            self._error = error
        self._ended.set()

    def result(self) -> Any:
        assert self._ended.wait(PATIENCE_SECONDS), "the fiber never ended"
        if self._error is not None:
            raise self._error
        return self._result


def on(loop: asyncio.AbstractEventLoop, function: Callable[[], T]) -> T:
    """Call a function on the loop, and not in a fiber."""
    ended: list[T] = []
    called = threading.Event()

    def call() -> None:
        ended.append(function())
        called.set()

    loop.call_soon_threadsafe(call)
    assert called.wait(PATIENCE_SECONDS), "the loop does not go on"
    return ended[0]


def ask(ledger: Ledger, statement: bytes) -> Any:
    with ledger.reading() as cursor:
        return cursor.execute(statement).fetchone()


def test_the_loop_goes_on_while_a_fiber_waits_for_the_database(
    ledger: Ledger, database_url: str, loop: asyncio.AbstractEventLoop
) -> None:
    """It waits for a lock that only the loop itself can release."""
    with psycopg.connect(database_url, autocommit=True) as holder:
        holder.execute(LOCK)

        waiting = Task(loop, lambda: ask(ledger, LOCK))
        on(loop, lambda: holder.execute(UNLOCK))

        assert waiting.result() is not None


def test_outside_a_fiber_a_connection_blocks_as_ever(ledger: Ledger) -> None:
    assert current() is None
    assert ask(ledger, b"SELECT 1") == (1,)


def test_large_statements_and_answers_pass_through_a_fiber(ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
    """More than a socket's buffers hold, so that writing has to be waited for as well."""
    text = "x" * 20_000_000

    def echo() -> Any:
        with ledger.reading() as cursor:
            return cursor.execute(b"SELECT %s::text", (text,)).fetchone()

    assert Task(loop, echo).result() == (text,)


def test_fibers_wait_in_turn_for_connections(
    database_url: str, open_ledger: OpenLedger, loop: asyncio.AbstractEventLoop
) -> None:
    narrow = open_ledger(database_url, pool_size=2)

    tasks = [Task(loop, lambda: ask(narrow, b"SELECT 1")) for _ in range(50)]

    assert [task.result() for task in tasks] == [(1,)] * 50


def test_a_fiber_that_gets_no_connection_in_time_is_told_so(
    database_url: str, open_ledger: OpenLedger, loop: asyncio.AbstractEventLoop
) -> None:
    narrow = open_ledger(database_url, pool_size=1)
    with psycopg.connect(database_url, autocommit=True) as holder:
        holder.execute(LOCK)
        first = Task(loop, lambda: ask(narrow, LOCK))
        second = Task(loop, lambda: ask(narrow, b"SELECT 1"))

        with pytest.raises(StoreUnavailable):
            second.result()
        holder.execute(UNLOCK)

    assert first.result() is not None
    assert Task(loop, lambda: ask(narrow, b"SELECT 1")).result() == (1,)


def test_a_statement_that_is_never_answered_is_given_up_with_its_connection(
    database_url: str, open_ledger: OpenLedger, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fiber, "ANSWER_SECONDS_MAX", 0.1)
    narrow = open_ledger(database_url, pool_size=1)
    with psycopg.connect(database_url, autocommit=True) as holder:
        holder.execute(LOCK)

        with pytest.raises(StoreUnavailable) as raised:
            Task(loop, lambda: ask(narrow, LOCK)).result()

    assert isinstance(raised.value.__cause__, OperationalError)
    assert Task(loop, lambda: ask(narrow, b"SELECT 1")).result() == (1,)


def test_a_fiber_sleeps_without_stopping_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Each sleeps until the other has slept: none could if sleeping blocked the loop."""
    slept: list[int] = []

    def take_turns(number: int) -> None:
        while len(slept) < 10:
            if len(slept) % 2 == number:
                slept.append(number)
            sleep(0)

    tasks = [Task(loop, lambda number=number: take_turns(number)) for number in (0, 1)]  # type: ignore[misc]
    for task in tasks:
        task.result()

    assert slept == [0, 1] * 5


def test_what_is_bound_to_the_context_is_seen_in_a_fiber(loop: asyncio.AbstractEventLoop) -> None:
    bound: ContextVar[str] = ContextVar("bound", default="nothing")
    seen: list[str] = []

    def start() -> None:
        bound.set("something")
        spawn(loop, lambda: seen.append(bound.get()))

    on(loop, start)

    assert seen == ["something"]


# Gathering ------------------------------------------------------------------------------------------------------------


def test_what_is_asked_at_the_same_time_is_asked_once(loop: asyncio.AbstractEventLoop) -> None:
    asked: list[list[int]] = []

    def double(keys: list[int]) -> list[int]:
        asked.append(keys)
        return [2 * key for key in keys]

    gathering = Gathering(double)
    results: dict[int, int] = {}
    ended = threading.Event()

    def get(key: int) -> None:
        results[key] = gathering.get(key)
        if len(results) == 20:
            ended.set()

    def start() -> None:
        for key in range(20):
            spawn(loop, lambda key=key: get(key))  # type: ignore[misc]

    on(loop, start)

    assert ended.wait(PATIENCE_SECONDS)
    assert results == {key: 2 * key for key in range(20)}
    assert asked == [list(range(20))]


def test_whoever_asks_is_told_what_went_wrong(loop: asyncio.AbstractEventLoop) -> None:
    def fail(_: list[int]) -> list[int]:
        raise StoreUnavailable("away")

    gathering = Gathering(fail)

    tasks = [Task(loop, lambda: gathering.get(1)) for _ in range(3)]

    for task in tasks:
        with pytest.raises(StoreUnavailable):
            task.result()


def test_outside_a_fiber_everybody_asks_alone() -> None:
    asked: list[list[str]] = []

    def echo(keys: list[str]) -> list[str]:
        asked.append(keys)
        return keys

    gathering = Gathering(echo)

    assert [gathering.get("a"), gathering.get("b")] == ["a", "b"]
    assert asked == [["a"], ["b"]]


def test_fibers_leave_the_loops_own_memory_alone() -> None:
    """In a process of its own: the interpreter dies if a fiber is resumed while the loop tells of sockets or timers."""
    for seed in ("1", "2"):
        ended = subprocess.run(
            [sys.executable, "-m", "tests.store.fiber_storm", seed],
            capture_output=True,
            check=False,
            timeout=PATIENCE_SECONDS * 2,
        )

        assert (ended.returncode, ended.stderr) == (0, b"")
