"""Group commit: concurrent requests share transactions.

One thread takes everything that waits, loads the states of all touched streams with one statement, decides in memory,
appends with one call, then answers all. There is no timer: the next batch collects while this one commits. A job is one
request's statements; it is recorded whole or not at all.

What can go wrong, and what happens:
  another writer was first    load again, decide again (the verdict may become redelivered, late or conflict)
  effect unknown (lost link)  the same: what is on record shows as redelivered and is not written again
  one job cannot be written   the batch is halved until it stands alone; its neighbours are written
  the database stays away     StoreUnavailable for every waiting job, well before a request's own deadline
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol
from uuid import UUID

import msgspec

from ledger.domain.events import AnyEvent, MessageLinked, MessageRegistered, StatusObserved
from ledger.domain.identity import partition
from ledger.domain.message import AlreadyLinked, Command, Link, Message, NotInConflict, decide, evolve
from ledger.store.application import Ledger, Loaded, StoreUnavailable, StreamMoved
from ledger.store.captures import Capture
from ledger.store.mapper import Entry
from ledger.store.rows import StatusRow
from ledger.store.sealing import DataKey

#: Statements in one transaction; a single larger job still goes through whole.
BATCH_MAX: Final = 500
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

    __slots__ = ("captures", "done", "error", "statements", "submitted_at", "waiter")

    def __init__(self, statements: Sequence[Statement], captures: Sequence[Capture] = ()) -> None:
        self.statements = statements
        self.captures = captures
        self.submitted_at = 0.0
        self.done: Done | None = None
        self.error: Exception | None = None
        self.waiter: object = None  #: whatever the deliverer needs to find the requester

    @property
    def size(self) -> int:
        return max(1, len(self.statements) + len(self.captures))


class Project(Protocol):
    """Derives a stream's row from its folded message (`projections.current_status.row`)."""

    def __call__(
        self, message: Message, *, stream_id: UUID, version: int, opening: int, key: DataKey | None
    ) -> StatusRow: ...


Deliver = Callable[[list[Job]], None]


class Writer:
    """Owns the one thread of this process that appends to the ledger."""

    def __init__(self, ledger: Ledger, project: Project, deliver: Deliver, *, queue_max: int = 10_000) -> None:
        self._ledger = ledger
        self._project = project
        self._deliver = deliver
        self._queue_max = queue_max
        self._waiting: deque[Job] = deque()
        self._depth = 0
        self._wakeup = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    @property
    def depth(self) -> int:
        """Statements waiting or being written."""
        return self._depth

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; `deliver` gets it back when it has ended. Raises QueueFull."""
        with self._wakeup:
            if self._closing or self._depth + job.size > max(self._queue_max, job.size):
                raise QueueFull("too many statements are waiting to be written")
            job.submitted_at = time.monotonic()
            self._depth += job.size
            self._waiting.append(job)
            self._wakeup.notify()

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Write what waits, then stop. Later submissions are refused."""
        with self._wakeup:
            self._closing = True
            self._wakeup.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while batch := self._take():
            _Batch(self._ledger, self._project).write(batch)
            with self._wakeup:
                self._depth -= sum(job.size for job in batch)
            self._deliver(batch)

    def _take(self) -> list[Job]:
        with self._wakeup:
            while not self._waiting and not self._closing:
                self._wakeup.wait()
            batch: list[Job] = []
            room = BATCH_MAX
            while self._waiting and (not batch or self._waiting[0].size <= room):
                job = self._waiting.popleft()
                room -= job.size
                batch.append(job)
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
            time.sleep(pause)

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

    __slots__ = ("key", "loaded_version", "message", "opening", "stream_id", "version")

    def __init__(self, loaded: Loaded) -> None:
        self.stream_id = loaded.stream_id
        self.key = loaded.key
        self.message = loaded.message
        self.version = self.loaded_version = loaded.version
        self.opening = 0  #: 1-based index of the first event among those to be appended; 0: open already

    @property
    def is_written(self) -> bool:
        return self.version != self.loaded_version


class _Desk:
    """The messages of one attempt while jobs are decided one after another."""

    def __init__(self, ledger: Ledger, jobs: list[Job]) -> None:
        self._ledger = ledger
        self._sheets: dict[UUID, _Sheet] = {}
        self._entries: list[Entry] = []
        self._load([statement.stream_id for job in jobs for statement in job.statements])
        moved = [sheet.message.linked_to for sheet in self._sheets.values() if sheet.message.linked_to]
        self._load([stream_id for stream_id in moved if stream_id not in self._sheets])

    def _load(self, stream_ids: list[UUID]) -> None:
        if stream_ids:
            for loaded in self._ledger.load(stream_ids):
                self._sheets[loaded.stream_id] = _Sheet(loaded)

    def decide(self, job: Job) -> Done | None:
        """Decide a job against the desk; None if it has to wait because its streams were just written to.

        The domain's refusals pass through, and leave the desk as it was.
        """
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
                    if sheet.is_written or self._sheets[event.other].is_written:
                        return None
                    message = self._ledger.merged(sheet.stream_id, event.other)
                kept = event if sheet.key is not None else _without_person(event)
                message = evolve(message, kept)
                events.append((sheet, kept))
            messages[sheet] = message
        for sheet, event in events:
            sheet.version += 1
            self._entries.append(Entry(sheet.stream_id, sheet.version, event, sheet.key))
        for sheet, message in messages.items():
            sheet.message = message
        return Done(tuple([event for _, event in events]), tuple(streams), redelivered)

    def _target(self, statement: Statement) -> _Sheet:
        """Follow a hand-off: what is said about a linked message belongs to the stream that speaks for it."""
        sheet = self._sheets[statement.stream_id]
        if sheet.message.linked_to is None or isinstance(statement.command, Link):
            return sheet
        return self._sheets[sheet.message.linked_to]

    def append(self, project: Project, captures: list[Capture]) -> None:
        """Append what was decided, in one transaction."""
        if not self._entries and not captures:
            return
        partitions = self._ledger.partitions
        if partitions > 1:
            self._entries.sort(key=lambda entry: partition(entry.originator_id, partitions))
        for index, entry in enumerate(self._entries, start=1):
            if entry.originator_version == 1:
                self._sheets[entry.originator_id].opening = index
        written = [sheet for sheet in self._sheets.values() if sheet.is_written]
        rows = [
            project(
                sheet.message, stream_id=sheet.stream_id, version=sheet.version, opening=sheet.opening, key=sheet.key
            )
            for sheet in written
        ]
        keys = {sheet.stream_id: sheet.key for sheet in written if sheet.opening and sheet.key is not None}
        self._ledger.append(self._entries, rows, keys, captures)


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
