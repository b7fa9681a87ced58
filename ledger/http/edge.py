"""The asynchronous side of the store: jobs for the writer, and functions that read, in fibers.

Whoever submits a job leaves a function that is called in the event loop when the job has ended; the writer hands a
whole batch back with one wake-up.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

import structlog

from ledger.http.problems import unavailable
from ledger.ingest.writer import Done, Job, QueueFull, Writer
from ledger.store.application import StoreUnavailable
from ledger.store.fiber import spawn

P = ParamSpec("P")
T = TypeVar("T")

#: Called once a job has ended, with its error: None if it is on record.
Then = Callable[[Job, Exception | None], None]

#: An answer leaves within 5 s of a request's arrival, whatever the database does.
ANSWER_SECONDS_MAX: Final = 4.5
_EXPIRY_STEP_SECONDS: Final = 0.1

_log = structlog.get_logger("ledger.edge")


class Edge:
    """Raises Problem `unavailable` where the ledger cannot be written or read in time."""

    def __init__(self, build_writer: Callable[[Callable[[list[Job]], None]], Writer]) -> None:
        self._build_writer = build_writer
        self._loop: asyncio.AbstractEventLoop | None = None
        self.writer: Writer | None = None
        self._deadlines: deque[tuple[float, Job]] = deque()
        self._reads: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._expiry: asyncio.Task[None] | None = None
        self.is_draining = False
        #: Called in the event loop when jobs have ended, so that whoever follows the log need not wait to look.
        self.on_written: Callable[[], None] | None = None
        #: Called when the server is about to end.
        self.on_drain: Callable[[], None] | None = None

    @property
    def is_full(self) -> bool:
        """Tell whether a job would be refused: it need not be prepared then."""
        return self.writer is not None and self.writer.is_full

    def drain(self) -> None:
        """Note that the server is about to end: what waits for something to change is answered with what is known."""
        self.is_draining = True
        if self.on_drain is not None:
            self.on_drain()

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.writer = self._build_writer(self._deliver)
        self.writer.start(self._loop)
        self._expiry = self._loop.create_task(self._expire())

    async def close(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self.writer is not None:
            await asyncio.to_thread(self.writer.close)

    def submit(self, job: Job, then: Then) -> None:
        """Queue a job; `then` is called in the event loop once it has ended, or when it has waited too long.

        Raises QueueFull: `then` is not called in that case.
        """
        assert self._loop is not None  # noqa: S101  # opened with the application
        assert self.writer is not None  # noqa: S101
        job.waiter = then
        self.writer.submit(job)
        self._deadlines.append((self._loop.time() + ANSWER_SECONDS_MAX, job))

    async def write(self, job: Job, seconds: float = ANSWER_SECONDS_MAX) -> Done:
        """Return once the job is on record. Raises Problem `unavailable`, Poisoned, and the domain's refusals."""
        assert self._loop is not None  # noqa: S101
        ended: asyncio.Future[Exception | None] = self._loop.create_future()

        def then(_: Job, error: Exception | None) -> None:
            if not ended.done():
                ended.set_result(error)

        try:
            self.submit(job, then)
        except QueueFull:
            raise unavailable() from None
        try:
            error = await asyncio.wait_for(ended, seconds)
        except TimeoutError:
            raise unavailable() from None
        if isinstance(error, StoreUnavailable):
            raise unavailable() from error
        if error is not None:
            raise error
        assert job.done is not None  # noqa: S101  # a job without an error has been done
        return job.done

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that reads from the store, in a fiber. Raises Problem `unavailable`."""
        assert self._loop is not None  # noqa: S101
        ended: asyncio.Future[T] = self._loop.create_future()

        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                if not ended.done():
                    ended.set_exception(error)
            else:
                if not ended.done():
                    ended.set_result(result)

        spawn(self._loop, run)
        self._reads.append((self._loop.time() + ANSWER_SECONDS_MAX, ended))
        try:
            return await ended
        except (StoreUnavailable, TimeoutError) as error:
            raise unavailable("The ledger cannot be read right now.") from error

    async def _expire(self) -> None:
        """End waits that are over. One timer for all: a timer a request would cost more than its decoding."""
        assert self._loop is not None  # noqa: S101
        while True:
            await asyncio.sleep(_EXPIRY_STEP_SECONDS)
            now, deadlines, reads = self._loop.time(), self._deadlines, self._reads
            while reads and (reads[0][0] <= now or reads[0][1].done()):
                _, ended = reads.popleft()
                if not ended.done():
                    ended.set_exception(TimeoutError())
            while deadlines and (deadlines[0][0] <= now or deadlines[0][1].waiter is None):
                _, job = deadlines.popleft()
                _end(job, StoreUnavailable("took too long to be written"))

    def _deliver(self, jobs: list[Job]) -> None:
        assert self._loop is not None  # noqa: S101
        self._loop.call_soon(_wake, jobs)
        if self.on_written is not None:
            self._loop.call_soon(self.on_written)


def _wake(jobs: list[Job]) -> None:
    for job in jobs:
        _end(job, job.error)


def _end(job: Job, error: Exception | None) -> None:
    """Call whoever waits, once: the writer may end a job that was given up before.

    A mistake in answering one request must not keep others from their answers.
    """
    then: Then | None = job.waiter
    if then is not None:
        job.waiter = None
        try:
            then(job, error)
        except Exception:
            _log.exception("answer_failed")
