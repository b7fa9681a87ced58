"""Synchronous code that gives way to an event loop while it waits.

The event sourcing library and everything in the store are synchronous. In threads they would take turns with the event
loop at the interpreter, and lose most of their time handing it over. A fiber runs them on the loop's own thread: where
they would wait for the database or pause, the loop goes on with something else. Outside a fiber everything here blocks
as it always did, so that commands need no loop.

A fiber may be entered and resumed from the loop's callbacks only, and resumed only from what it was told to call soon
(`Fiber.resume`).
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any, Final, Generic, NamedTuple, TypeVar

import greenlet
import psycopg
import uvloop
from eventsourcing.postgres import ConnectionPool as LibraryPool
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait
from psycopg_pool import PoolTimeout

RV = TypeVar("RV")
K = TypeVar("K")
V = TypeVar("V")
ConnectionType = TypeVar("ConnectionType", bound=psycopg.Connection[Any])

#: A statement without an answer is given up after this time, and its connection with it: the server's own limits
#: (`recorder.SESSION`) end a statement sooner, unless the network is gone.
ANSWER_SECONDS_MAX: Final = 4.0
#: How often a fiber that waits for a connection looks for one, and how long a look may take.
_LOOK_SECONDS: Final = 0.02
_GLANCE_SECONDS: Final = 0.000_2


_READ: Final = Wait.R.value
_WRITE: Final = Wait.W.value


class Fiber(greenlet.greenlet):
    """A function that runs on an event loop's thread, and gives way to the loop while it waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop, run: Callable[[], object]) -> None:
        super().__init__(run)
        self.loop = loop
        self._is_waiting = False  #: for a socket

    def pause(self) -> Any:
        """Give way until somebody calls `resume`, and return what it was called with."""
        assert self.parent is not None  # noqa: S101  # only the main greenlet has none
        return self.parent.switch()

    def resume(self, value: Any = None) -> None:
        """Go on, in the place of the caller: a callback that the loop was told to call soon, and no other.

        A fiber's part of the C stack is put back where it was. While the loop tells of sockets and timers, it has lists
        of its own there, and `remove_reader` and `cancel` change them.
        """
        self.switch(value)

    def sleep(self, seconds: float) -> None:
        self.loop.call_later(seconds, self._resume_soon)
        self.pause()

    def ready(self, descriptor: int, wanted: int, seconds: float) -> Ready:
        """Wait until a socket can be read or written; `Ready.NONE` if that takes too long."""
        loop, found_ready = self.loop, self._found_ready
        self._is_waiting = True
        timer = loop.call_later(seconds, found_ready, Ready.NONE)
        if wanted & _READ:
            loop.add_reader(descriptor, found_ready, Ready.R)
        if wanted & _WRITE:
            loop.add_writer(descriptor, found_ready, Ready.W)
        try:
            found: Ready = self.pause()
            return found
        finally:
            timer.cancel()
            if wanted & _READ:
                loop.remove_reader(descriptor)
            if wanted & _WRITE:
                loop.remove_writer(descriptor)

    def _resume_soon(self) -> None:
        self.loop.call_soon(self.resume)

    def _found_ready(self, value: Ready) -> None:
        """Go on soon, once: the socket may be found ready again, or the time be over, before the fiber does."""
        if self._is_waiting:
            self._is_waiting = False
            self.loop.call_soon(self.resume, value)


def current() -> Fiber | None:
    """Return the fiber that is running; None outside of any."""
    running = greenlet.getcurrent()
    return running if isinstance(running, Fiber) else None


def spawn(loop: asyncio.AbstractEventLoop, run: Callable[[], object]) -> Fiber:
    """Start a function as a fiber. To be called from the loop; returns when the function first waits, or ends."""
    fiber = Fiber(loop, run)
    fiber.gr_context = copy_context()  # what is bound for log lines stays bound
    fiber.switch()
    return fiber


def sleep(seconds: float) -> None:
    fiber = current()
    if fiber is None:
        time.sleep(seconds)
    else:
        fiber.sleep(seconds)


class LoopThread:
    """An event loop in a thread of its own, for those who have none."""

    def __init__(self, name: str) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def close(self) -> None:
        """Stop the loop and wait for its thread, unless that is the caller."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()


class Connection(psycopg.Connection[Any]):
    """A connection whose statements are waited for without blocking the loop, if a fiber waits."""

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        fiber = current()
        if fiber is None:
            return super().wait(gen, *args, **kwargs)
        try:
            wanted = next(gen)
            while True:
                found = fiber.ready(self.pgconn.socket, wanted, ANSWER_SECONDS_MAX)
                if found == Ready.NONE:
                    self.pgconn.finish()  # what it would say next belongs to nobody
                    raise psycopg.OperationalError("the database did not answer")
                wanted = gen.send(found)
        except StopIteration as ended:
            result: RV = ended.value
            return result


class ConnectionPool(LibraryPool[ConnectionType]):
    """The library's pool. Fibers that find it empty wait in turn, and do not block the loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lent = 0  #: to fibers
        self._queue: deque[Fiber] = deque()

    def getconn(self, timeout: float | None = None) -> ConnectionType:
        fiber = current()
        if fiber is None:
            return super().getconn(timeout)
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        if self._lent >= self.max_size:
            self._await_turn(fiber, until)
        self._lent += 1
        try:
            while True:
                try:
                    return super().getconn(_GLANCE_SECONDS)
                except PoolTimeout:
                    if time.monotonic() >= until:
                        raise
                fiber.sleep(_LOOK_SECONDS)
        except BaseException:
            self._give_back(fiber)
            raise

    def putconn(self, conn: ConnectionType) -> None:
        super().putconn(conn)
        fiber = current()
        if fiber is not None:
            self._give_back(fiber)

    def _await_turn(self, fiber: Fiber, until: float) -> None:
        self._queue.append(fiber)
        timer = fiber.loop.call_later(max(0.0, until - time.monotonic()), self._give_up, fiber)
        is_turn = fiber.pause()
        timer.cancel()
        if not is_turn:
            raise PoolTimeout("all connections are in use")

    def _give_up(self, fiber: Fiber) -> None:
        if fiber in self._queue:
            self._queue.remove(fiber)
            fiber.loop.call_soon(fiber.resume, False)

    def _give_back(self, fiber: Fiber) -> None:
        self._lent -= 1
        if self._queue:
            fiber.loop.call_soon(self._queue.popleft().resume, True)


class Gathering(Generic[K, V]):
    """Answers what several fibers ask at the same time with one question.

    `ask` gets keys and returns as many values.
    """

    def __init__(self, ask: Callable[[list[K]], list[V]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[K, Fiber]] = []

    def get(self, key: K) -> V:
        """Raises what `ask` raises, for everybody who asked."""
        fiber = current()
        if fiber is None:
            return self._ask([key])[0]
        self._waiting.append((key, fiber))
        if len(self._waiting) == 1:
            fiber.loop.call_soon(spawn, fiber.loop, self._answer)
        told = fiber.pause()
        if isinstance(told, _Raised):
            raise told.error
        value: V = told
        return value

    def _answer(self) -> None:
        asked, self._waiting = self._waiting, []
        answers: Sequence[object]
        try:
            answers = self._ask([key for key, _ in asked])
        except Exception as error:
            answers = [_Raised(error)] * len(asked)
        for (_, fiber), answer in zip(asked, answers, strict=True):
            fiber.loop.call_soon(fiber.resume, answer)


class _Raised(NamedTuple):
    error: Exception
