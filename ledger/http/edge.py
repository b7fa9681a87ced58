"""The asynchronous side of the writer, and the threads that read.

A request waits on a future of the event loop; the writer hands a whole batch back with one wake-up.
"""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from ledger.http.problems import unavailable
from ledger.ingest.writer import Done, Job, QueueFull, Writer
from ledger.store.application import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

#: An answer leaves within 5 s of a request's arrival, whatever the database does.
ANSWER_SECONDS_MAX: Final = 4.5
READERS: Final = 6
_EXPIRY_STEP_SECONDS: Final = 0.1


class Edge:
    """Raises Problem `unavailable` where the ledger cannot be written or read in time."""

    def __init__(self, build_writer: Callable[[Callable[[list[Job]], None]], Writer]) -> None:
        self._build_writer = build_writer
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ledger-reader")
        self._loop: asyncio.AbstractEventLoop | None = None
        self.writer: Writer | None = None
        self._deadlines: dict[asyncio.Future[None], float] = {}
        self._expiry: asyncio.Task[None] | None = None
        self.is_draining = False

    def drain(self) -> None:
        """Note that the server is about to end: what waits for something to change is answered with what is known."""
        self.is_draining = True

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.writer = self._build_writer(self._deliver)
        self.writer.start()
        self._expiry = self._loop.create_task(self._expire())

    async def close(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self.writer is not None:
            await asyncio.to_thread(self.writer.close)
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def write(self, job: Job, seconds: float = ANSWER_SECONDS_MAX) -> Done:
        """Return once the job is on record. Raises Problem `unavailable`, Poisoned, and the domain's refusals."""
        assert self._loop is not None  # noqa: S101  # opened with the application
        assert self.writer is not None  # noqa: S101
        waiter: asyncio.Future[None] = self._loop.create_future()
        job.waiter = waiter
        try:
            self.writer.submit(job)
        except QueueFull:
            raise unavailable() from None
        self._deadlines[waiter] = self._loop.time() + seconds
        try:
            await waiter
        except TimeoutError:
            raise unavailable() from None
        finally:
            del self._deadlines[waiter]
        if isinstance(job.error, StoreUnavailable):
            raise unavailable() from job.error
        if job.error is not None:
            raise job.error
        assert job.done is not None  # noqa: S101  # a delivered job has ended
        return job.done

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking read in a reader thread. Raises Problem `unavailable`."""
        assert self._loop is not None  # noqa: S101
        call = functools.partial(function, *args, **kwargs)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await self._loop.run_in_executor(self._readers, call)
        except (StoreUnavailable, TimeoutError) as error:
            raise unavailable("The ledger cannot be read right now.") from error

    async def _expire(self) -> None:
        """End waits that are over. One timer for all: a timer a request would cost more than its decoding."""
        assert self._loop is not None  # noqa: S101
        while True:
            await asyncio.sleep(_EXPIRY_STEP_SECONDS)
            now = self._loop.time()
            for waiter in [waiter for waiter, deadline in self._deadlines.items() if deadline <= now]:
                if not waiter.done():
                    waiter.set_exception(TimeoutError())

    def _deliver(self, jobs: list[Job]) -> None:
        assert self._loop is not None  # noqa: S101
        self._loop.call_soon_threadsafe(_wake, jobs)


def _wake(jobs: list[Job]) -> None:
    for job in jobs:
        waiter = job.waiter
        if isinstance(waiter, asyncio.Future) and not waiter.done():
            waiter.set_result(None)
