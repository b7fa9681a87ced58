"""Group commit: concurrent requests share transactions.

A writing fiber takes everything that waits, loads the states of all touched streams with one statement, decides in
memory, appends with one call, then answers all. There is no timer: the next batch collects while this one commits. A
job is one request's statements; it is recorded whole or not at all.

Two fibers take turns on one event loop: one decides while the database works for the other. They never hold the same
stream: a job about a message that is being written waits for it.

What can go wrong, and what happens:
  another process was first   load again, decide again (the verdict may become redelivered, late or conflict)
  effect unknown (lost link)  the same: what is on record shows as redelivered and is not written again
  one job cannot be written   the batch is halved until it stands alone; its neighbours are written
  the database stays away     StoreUnavailable for every waiting job, well before a request's own deadline
"""

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from ledger.domain.events import AnyEvent, MessageLinked, MessageRegistered, StatusObserved
from ledger.domain.identity import partition
from ledger.domain.message import AlreadyLinked, Command, Link, Message, NotInConflict, Observe, decide, evolve
from ledger.store.application import Ledger, Loaded, StoreUnavailable, StreamMoved
from ledger.store.captures import Capture
from ledger.store.fiber import Fiber, LoopThread, current, sleep, spawn
from ledger.store.mapper import Entry
from ledger.store.rows import StatusRow
from ledger.store.sealing import DataKey
from ledger.store.snapshot import Snapshot

#: Statements in one transaction; a single larger job still goes through whole.
BATCH_MAX: Final = 500
#: What is kept unread counts as a statement more for each of these: here it is memory that limits batch and queue.
CAPTURED_BYTES: Final = 16 * 1024
#: Fibers that write. A third would only wait for the other two.
FIBERS: Final = 2
#: Statements that must wait for a fiber to begin while another one writes: fewer share the next transaction instead.
ASIDE_MIN: Final = 24
#: A job that waited longer than this is answered 503: the provider should come back later.
WAIT_SECONDS_MAX: Final = 2.0
#: How long one batch is tried while the database does not answer.
_UNAVAILABLE_SECONDS_MAX: Final = 0.8
_RACES_MAX: Final = 12
#: Keeps racing writers apart; decides nothing.
_spread: Final = random.Random()  # noqa: S311


class QueueFull(Exception):
    """More is waiting than LEDGER_QUEUE_MAX allows; try again in a few seconds."""


class Poisoned(Exception):
    """This job alone cannot be recorded, for a reason that will not go away by trying again."""


class Statement(msgspec.Struct, frozen=True):
    """A command and the stream it is about."""

    stream_id: UUID
    command: Command


class Done(msgspec.Struct, frozen=True):
    """What a job led to."""

    events: tuple[AnyEvent, ...]  #: recorded
    streams: tuple[UUID, ...]  #: that each statement went to: another one than asked for where a hand-off says so
    redelivered: int  #: statements that said nothing new


class Job:
    """One request's statements, and how it ended. `error` is one of this module's or the domain's exceptions."""

    __slots__ = ("captures", "done", "error", "size", "statements", "streams", "submitted_at", "waiter")

    def __init__(self, statements: Sequence[Statement], captures: Sequence[Capture] = ()) -> None:
        self.statements = statements
        self.captures = captures
        kept = sum(len(capture.content) for capture in captures) // CAPTURED_BYTES if captures else 0
        self.size = len(statements) + len(captures) + kept or 1
        self.streams = [statement.stream_id.int for statement in statements]
        self.submitted_at = 0.0
        self.done: Done | None = None
        self.error: Exception | None = None
        self.waiter: Any = None  #: whatever the deliverer needs to find the requester


class Project(Protocol):
    """Derives a stream's row from its folded message (`projections.current_status.row`)."""

    def __call__(
        self,
        message: Message,
        *,
        stream_id: UUID,
        version: int,
        first: int,
        last: int,
        key: DataKey | None,
        before: Snapshot | None,
    ) -> StatusRow: ...


Deliver = Callable[[list[Job]], None]


class Writer:
    """Appends to the ledger, for this process. Everything but `submit` and `close` happens on one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        project: Project,
        deliver: Deliver,
        *,
        queue_max: int = 10_000,
        fibers: int = FIBERS,
    ) -> None:
        """`deliver` is called on the loop with jobs that have ended. It must not raise."""
        self._ledger = ledger
        self._project = project
        self._deliver = deliver
        self._queue_max = queue_max
        self._running = fibers
        self._waiting: deque[Job] = deque()
        self._depth = 0
        self._held: set[int] = set()  #: streams of batches being written
        self._idle: list[Fiber] = []
        self._is_called = False  #: a fiber is going to look at the queue
        self._lock = threading.Lock()
        self._closing = False
        self._ended = threading.Event()
        self._own: LoopThread | None = None

    @property
    def depth(self) -> int:
        """Statements waiting or being written."""
        return self._depth

    @property
    def waiting(self) -> int:
        """Jobs that nobody has begun to write."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Tell whether the next job, however small, would be refused."""
        return self._depth >= self._queue_max

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Start writing on the running loop; without one, on a loop in a thread of its own."""
        if loop is None:
            self._own = LoopThread("ledger-writer")
            loop = self._own.loop
        self._loop = loop
        for _ in range(self._running):
            loop.call_soon_threadsafe(spawn, loop, self._run)

    def submit(self, job: Job) -> None:
        """Queue a job; `deliver` gets it back when it has ended. Raises QueueFull. Callable from any thread."""
        with self._lock:
            if self._closing or self._depth + job.size > max(self._queue_max, job.size):
                raise QueueFull("too many statements are waiting to be written")
            job.submitted_at = time.monotonic()
            self._depth += job.size
            self._waiting.append(job)
            if self._is_called or not self._idle:
                return
            self._is_called = True
        self._loop.call_soon_threadsafe(self._call)

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Write what waits, then stop. Later submissions are refused. Not to be called on the loop."""
        with self._lock:
            self._closing = True
        if not self._ended.is_set():
            self._loop.call_soon_threadsafe(self._call)
            self._ended.wait(timeout_seconds)
        if self._own is not None:
            self._own.close()
            self._own = None

    def _call(self) -> None:
        """Let an idle fiber look at the queue; let them all end when nothing more will come."""
        self._is_called = False
        if self._idle and (self._closing or self._is_worth_it()):
            self._idle.pop().resume()

    def _is_worth_it(self) -> bool:
        """Tell whether a fiber should begin: with whatever there is if none writes, else only with a good deal."""
        waiting = self._waiting
        return bool(waiting) and (
            not self._held or len(waiting) >= ASIDE_MIN or sum(job.size for job in waiting) >= ASIDE_MIN
        )

    def _run(self) -> None:
        while batch := self._take():
            _Batch(self._ledger, self._project).write(batch)
            with self._lock:
                self._depth -= sum(job.size for job in batch)
            for job in batch:
                self._held.difference_update(job.streams)
            self._deliver(batch)
        self._running -= 1
        if self._idle:
            self._loop.call_soon(self._call)
        if not self._running:
            self._ended.set()

    def _take(self) -> list[Job]:
        """Wait for the next batch; an empty one means that nothing more will come."""
        fiber = current()
        assert fiber is not None  # noqa: S101  # started by `spawn`
        while True:
            if self._closing or self._is_worth_it():
                batch = self._next()
                if batch:
                    for job in batch:
                        self._held.update(job.streams)
                    return batch
                if self._closing and not self._waiting:
                    return []
            self._idle.append(fiber)
            fiber.pause()

    def _next(self) -> list[Job]:
        """Remove from the queue what can be written now: the oldest jobs, but those about streams being written."""
        batch: list[Job] = []
        passed_over: list[Job] = []
        held, blocked = self._held, set[int]()
        room = BATCH_MAX
        with self._lock:
            waiting = self._waiting
            while waiting and (not batch or waiting[0].size <= room):
                job = waiting.popleft()
                if held.isdisjoint(job.streams) and blocked.isdisjoint(job.streams):
                    room -= job.size
                    batch.append(job)
                else:
                    blocked.update(job.streams)  # later jobs about them must not overtake this one
                    passed_over.append(job)
            waiting.extendleft(reversed(passed_over))
        return batch


class _Batch:
    """Writes one batch, whatever it takes: afterwards every job has `done` or `error`."""

    def __init__(self, ledger: Ledger, project: Project) -> None:
        self._ledger = ledger
        self._project = project

    def write(self, jobs: list[Job]) -> None:
        now = time.monotonic()
        for job in jobs:
            if now - job.submitted_at > WAIT_SECONDS_MAX:
                job.error = StoreUnavailable("waited too long to be written")
        self._write([job for job in jobs if job.error is None])

    def _write(self, jobs: list[Job]) -> None:
        races, give_up_at = 0, time.monotonic() + _UNAVAILABLE_SECONDS_MAX
        while jobs:
            try:
                jobs = self._attempt(jobs)
                continue
            except StreamMoved as moved:
                races += 1
                if races > _RACES_MAX:
                    _fail(jobs, StoreUnavailable(str(moved)))
                    return
                pause = _spread.uniform(0, 0.002 * races)
            except StoreUnavailable as unavailable:
                pause = _spread.uniform(0.05, 0.15)
                if time.monotonic() + pause > give_up_at:
                    _fail(jobs, unavailable)
                    return
            except Exception as error:
                if len(jobs) == 1:
                    poisoned = Poisoned(f"cannot be recorded ({type(error).__name__})")
                    poisoned.__cause__ = error
                    _fail(jobs, poisoned)
                    return
                middle = len(jobs) // 2
                self._write(jobs[:middle])
                jobs = jobs[middle:]
                continue
            sleep(pause)

    def _attempt(self, jobs: list[Job]) -> list[Job]:
        """Decide and append once. Return the jobs that have to wait for the next round."""
        desk = _Desk(self._ledger, jobs)
        decided: list[tuple[Job, Done]] = []
        refused: list[tuple[Job, Exception]] = []
        later: list[Job] = []
        for job in jobs:
            try:
                done = desk.decide(job)
            except (NotInConflict, AlreadyLinked) as error:
                refused.append((job, error))
                continue
            if done is None:
                later.append(job)
            else:
                decided.append((job, done))
        desk.append(self._project, [capture for job, _ in decided for capture in job.captures])
        # Only now: an attempt that fails is decided again, and may then end otherwise.
        for job, done in decided:
            job.done = done
        for job, refusal in refused:
            job.error = refusal
        return later


class _Sheet:
    """One message of an attempt: as loaded, and as it has become."""

    __slots__ = ("before", "first", "key", "last", "loaded_version", "message", "stream_id", "version")

    def __init__(self, loaded: Loaded) -> None:
        self.stream_id = loaded.stream_id
        self.key = loaded.key
        self.before = loaded.snapshot
        self.message = loaded.snapshot.message
        self.version = self.loaded_version = loaded.version
        self.first = self.last = 0  #: 1-based indexes among the events to be appended; first is 0 if it was open

    @property
    def is_written(self) -> bool:
        return self.version != self.loaded_version


class _Desk:
    """The messages of one attempt while jobs are decided one after another."""

    def __init__(self, ledger: Ledger, jobs: list[Job]) -> None:
        self._ledger = ledger
        self._sheets: dict[int, _Sheet] = {}
        self._entries: list[tuple[_Sheet, Entry]] = []
        self._load([statement.stream_id for job in jobs for statement in job.statements])
        moved = [sheet.message.linked_to for sheet in self._sheets.values() if sheet.message.linked_to]
        self._load([stream_id for stream_id in moved if stream_id.int not in self._sheets])

    def _load(self, stream_ids: list[UUID]) -> None:
        if stream_ids:
            for loaded in self._ledger.load(stream_ids):
                self._sheets[loaded.stream_id.int] = _Sheet(loaded)

    def decide(self, job: Job) -> Done | None:
        """Decide a job against the desk; None if it has to wait because its streams were just written to.

        The domain's refusals pass through, and leave the desk as it was.
        """
        for statement in job.statements:
            if type(statement.command) is not Observe:
                return self._decide_with_care(job)
        events: list[AnyEvent] = []
        streams: list[UUID] = []
        redelivered = 0
        for statement in job.statements:  # observations are never refused: what they lead to can be kept at once
            sheet = self._target(statement)
            streams.append(sheet.stream_id)
            decided = decide(sheet.message, statement.command)
            redelivered += not decided
            for event in decided:
                kept = event if sheet.key is not None else _without_person(event)
                sheet.message = evolve(sheet.message, kept)
                self._keep(sheet, kept)
                events.append(kept)
        return Done(tuple(events), tuple(streams), redelivered)

    def _decide_with_care(self, job: Job) -> Done | None:
        """Decide a job that may be refused, or may have to wait: nothing of it is kept before all is decided."""
        messages: dict[_Sheet, Message] = {}
        events: list[tuple[_Sheet, AnyEvent]] = []
        streams: list[UUID] = []
        redelivered = 0
        for statement in job.statements:
            sheet, command = self._target(statement), statement.command
            streams.append(sheet.stream_id)
            message = messages.get(sheet, sheet.message)
            decided = decide(message, command)
            redelivered += not decided
            for event in decided:
                if isinstance(event, MessageLinked) and event.leads:
                    if sheet.is_written or self._sheets[event.other.int].is_written:
                        return None
                    message = self._ledger.merged(sheet.stream_id, event.other)
                kept = event if sheet.key is not None else _without_person(event)
                message = evolve(message, kept)
                events.append((sheet, kept))
            messages[sheet] = message
        for sheet, event in events:
            self._keep(sheet, event)
        for sheet, message in messages.items():
            sheet.message = message
        return Done(tuple([event for _, event in events]), tuple(streams), redelivered)

    def _keep(self, sheet: _Sheet, event: AnyEvent) -> None:
        sheet.version += 1
        self._entries.append((sheet, Entry(sheet.stream_id, sheet.version, event, sheet.key)))

    def _target(self, statement: Statement) -> _Sheet:
        """Follow a hand-off: what is said about a linked message belongs to the stream that speaks for it."""
        sheet = self._sheets[statement.stream_id.int]
        if sheet.message.linked_to is None or isinstance(statement.command, Link):
            return sheet
        return self._sheets[sheet.message.linked_to.int]

    def append(self, project: Project, captures: list[Capture]) -> None:
        """Append what was decided, in one transaction."""
        if not self._entries and not captures:
            return
        partitions = self._ledger.partitions
        if partitions > 1:
            self._entries.sort(key=lambda written: partition(written[0].stream_id, partitions))
        for index, (sheet, entry) in enumerate(self._entries, start=1):
            sheet.last = index
            if entry.originator_version == 1:
                sheet.first = index
        written = [sheet for sheet in self._sheets.values() if sheet.last]
        rows = [
            project(
                sheet.message,
                stream_id=sheet.stream_id,
                version=sheet.version,
                first=sheet.first,
                last=sheet.last,
                key=sheet.key,
                before=sheet.before,
            )
            for sheet in written
        ]
        keys = [sheet.key if sheet.first else None for sheet in written]
        self._ledger.append([entry for _, entry in self._entries], rows, keys, captures)


def _without_person(event: AnyEvent) -> AnyEvent:
    """An erased message takes no personal data back, whoever says it again."""
    match event:
        case StatusObserved() | MessageRegistered() | MessageLinked():
            return msgspec.structs.replace(event, personal=type(event.personal)())
        case _:
            return event


def _fail(jobs: list[Job], error: Exception) -> None:
    for job in jobs:
        job.error = error
