"""One account's polling: claim what is due, ask in the account's pace, record, settle.

The order is what makes it safe: a claim is leased in the database before anything is asked; an answer is recorded by
the writer, as a callback would be; only then is the claim settled. A poller that dies in between leaves a lease that
runs out, and what it had recorded shows as nothing new when it is asked about again. One that was stopped for longer
than its lease asks nothing more, and records nothing that somebody else is asking about by now.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final

import structlog

from ledger.domain import polling as rules
from ledger.http import metrics
from ledger.ingest.writer import Job
from ledger.polling.asking import PROPER, Asked, Asker, Came
from ledger.store.application import Ledger, Loaded, StoreUnavailable
from ledger.store.polls import Batch, Claimed, Polls, Settled

#: Improper answers in a row after which the breaker opens; `poll_tell` counts the same over batches.
FAILURES_MAX: Final = 5
#: A pause without a `Retry-After`: doubled with each that follows.
PAUSE_SECONDS: Final = (1.0, 300.0)
#: How often it is looked whether others have been told to ask no more.
_LOOK_SECONDS: Final = 0.25
#: What recording and settling may take.
_RECORD_SECONDS: Final = 5.0

_log = structlog.get_logger("ledger.polling")

Waits = Callable[[float], bool]


class Recorder:
    """Records what answers say, and waits for it."""

    def __init__(self, submit: Callable[[Job], None], seconds: float = 10.0) -> None:
        """`submit` queues a job whose `waiter` is called when the job has ended."""
        self._submit = submit
        self._seconds = seconds

    def record(self, jobs: Sequence[Job]) -> None:
        """Return when every job has ended, with its error if it is not on record."""
        ended = threading.Semaphore(0)
        waiting = 0
        for job in jobs:
            job.waiter = ended.release
            try:
                self._submit(job)
            except Exception as error:  # the queue is full, or closed
                job.error = error
            else:
                waiting += 1
        until = time.monotonic() + self._seconds
        for _ in range(waiting):
            if not ended.acquire(timeout=max(0.0, until - time.monotonic())):
                break
        for job in jobs:
            if job.done is None and job.error is None:
                job.error = StoreUnavailable("took too long to be written")


class _Run:
    """The questions of one batch while they are asked, by several threads. A provider that has had enough ends it."""

    def __init__(
        self, messages: Sequence[tuple[Claimed, Loaded]], batch: Batch, pace: float, leased_at: float, at: float
    ) -> None:
        self.lock = threading.Lock()
        self.queue = deque(messages)
        self.asked: dict[Claimed, Asked] = {}
        self.failed_in_a_row = 0
        self._before = batch.failures  #: in a row, before this batch
        self.halted = False
        self.claimed_at = batch.at  #: by the database's clock
        self._look_at = at + _LOOK_SECONDS
        self.leased_at = leased_at  #: when the lease began at the earliest
        self._at = at  #: when the claim was here: delays are counted from then
        self._free_at = at
        self._pace = pace

    def place(self, message: Claimed, now: float) -> float:
        """Return how long a question has to wait: for its place, and for the pace after whatever left last.

        Answers that took long are not made up for by questions in a bunch.
        """
        with self.lock:
            leaves_at = max(self._at + message.delay, self._free_at, now)
            self._free_at = leaves_at + self._pace
            return leaves_at - now

    def next(self) -> tuple[Claimed, Loaded] | None:
        with self.lock:
            return None if self.halted or not self.queue else self.queue.popleft()

    def is_to_look(self, now: float) -> bool:
        """Tell whether it is time to see what others have been told; once for all threads."""
        with self.lock:
            if now < self._look_at:
                return False
            self._look_at = now + _LOOK_SECONDS
            return True

    def note(self, message: Claimed, asked: Asked) -> None:
        with self.lock:
            self.asked[message] = asked
            if asked.came is Came.FAILED:
                self.failed_in_a_row += 1
            elif asked.came in PROPER:
                self.failed_in_a_row = self._before = 0
            in_a_row = self._before + self.failed_in_a_row
            if asked.came in (Came.THROTTLED, Came.REFUSED) or in_a_row >= FAILURES_MAX:
                self.halted = True


class AccountPoller:
    """Asks about the messages of one account, in rounds."""

    def __init__(
        self,
        asker: Asker,
        polls: Polls,
        ledger: Ledger,
        recorder: Recorder,
        *,
        account: str,
        wait: Waits,
        chance: random.Random,
        width: int | None = None,
        count: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wait` pauses for some seconds and tells whether to end; `count` counts seconds as they pass.

        `width` bounds the questions at once.
        """
        self.account = account
        self._asker = asker
        self._polls = polls
        self._ledger = ledger
        self._recorder = recorder
        self._wait = wait
        self._count = count
        self._chance = chance
        self._polling = asker.polling
        self._width = width or asker.polling.concurrency
        self._threads = ThreadPoolExecutor(self._width, f"poll-{account}") if self._width > 1 else None
        #: A question that begins later than this after the claim might be answered after the lease has run out.
        lease = polls.lease_seconds
        self._begin_seconds_max = lease - 2 * self._polling.timeout_seconds - min(_RECORD_SECONDS, lease / 4)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    # Rounds -----------------------------------------------------------------------------------------------------------

    def round(self) -> float:
        """Ask about what is due now and return how many seconds to wait before the next round. Raises StoreUnavailable.

        Zero: there may be more.
        """
        leased_at = self._count()
        batch = self._polls.claim(self.account, self._polling, width=self._width)
        at = self._count()
        if not batch.messages:
            return batch.wait
        settled: list[Settled] = []
        worth: list[tuple[Claimed, Loaded]] = []
        loaded = {each.stream_id: each for each in self._ledger.load([each.stream_id for each in batch.messages])}
        for message in batch.messages:
            found = loaded[message.stream_id]
            if not rules.holds(message.why, found.message):
                settled.append(Settled(message, asked=False, over=True, answer="over"))
            else:
                worth.append((message, found))
        run = _Run(worth, batch, 1 / self._polling.rate, leased_at, at)
        self._ask_all(run, batch)
        settled += self._record(run, batch.batch)
        settled += [Settled(message, asked=False) for message, _ in worth if message not in run.asked]
        self._polls.settle(batch.batch, settled)
        self.tell_of(list(run.asked.values()), run.failed_in_a_row, batch.at)
        return 0.0

    def _ask_all(self, run: _Run, batch: Batch) -> None:
        if self._threads is None:
            self._ask_some(run)
        else:
            for each in [self._threads.submit(self._ask_some, run) for _ in range(batch.width)]:
                each.result()

    def _ask_some(self, run: _Run) -> None:
        while (found := run.next()) is not None:
            message, loaded = found
            delay = run.place(message, self._count())
            if delay > 0 and self._wait(delay):
                return
            if self._count() - run.leased_at > self._begin_seconds_max or self._is_held_off(run):
                return
            asked = self.ask(loaded, message)
            run.note(message, asked)
            if asked.came is Came.THROTTLED:
                self._hold_off(asked)

    def _is_held_off(self, run: _Run) -> bool:
        """Tell whether to ask no more: because of an answer here, or of one that another poller has had."""
        if not run.halted and run.is_to_look(self._count()):
            try:
                run.halted = self._polls.is_held_off(self.account, run.claimed_at)
            except StoreUnavailable:  # what has been answered is still to be recorded
                run.halted = True
        return run.halted

    def _hold_off(self, asked: Asked) -> None:
        """Keep other pollers from asking, before this batch has ended."""
        try:
            self._polls.pause(self.account, self.pause(asked))
        except StoreUnavailable:
            _log.warning("poll_postponed", account=self.account)

    def ask(self, loaded: Loaded, message: Claimed) -> Asked:
        """Ask about one message; whatever goes wrong in it is a failure of that question."""
        stream = (message.partition, message.stream_id)
        try:
            asked = self._asker.ask(
                message.stream_id,
                loaded.message,
                lambda content, received_at: self._polls.keep(self.account, stream, content, received_at),
            )
        except StoreUnavailable:
            asked = Asked(Came.FAILED, why="not_kept")
        except Exception:
            _log.exception("poll_failed", account=self.account)
            asked = Asked(Came.FAILED, why="fault")
        metrics.count_poll(self.account, asked.came)
        return asked

    def _record(self, run: _Run, batch: int) -> list[Settled]:
        """Record what answers say and return how their claims end."""
        is_ours = bool(run.asked) and self._polls.is_ours(batch)
        jobs: dict[Claimed, Job] = {}
        for message, asked in run.asked.items():
            job = asked.job
            if job is not None and (is_ours or asked.kept is not None):
                jobs[message] = job
        self._drop_captures_of_erased(jobs)
        self._recorder.record(list(jobs.values()))
        settled = []
        for message, asked in run.asked.items():
            job = jobs.get(message)
            is_recorded = job is None or job.error is None
            if is_recorded and asked.kept is not None:
                self._polls.forget(asked.kept)
            settled.append(self._settled(message, asked, is_recorded))
        return settled

    def _drop_captures_of_erased(self, jobs: dict[Claimed, Job]) -> None:
        """Keep nothing of an answer that cannot be read if its message has been erased while it was asked about."""
        capturing = [message for message, job in jobs.items() if job.captures]
        if not capturing:
            return
        loaded = {each.stream_id: each.message for each in self._ledger.load([each.stream_id for each in capturing])}
        for message in capturing:
            if loaded[message.stream_id].erased_at is not None:
                jobs.pop(message)

    def _settled(self, message: Claimed, asked: Asked, is_recorded: bool) -> Settled:
        if asked.came is Came.THROTTLED or asked.came is Came.REFUSED:
            return Settled(message, asked=False, answer=asked.came)  # the account pauses; the message stays due
        now = self._polls.now()
        if asked.came is Came.FAILED or not is_recorded:
            after = rules.retry_ask(message.since, now, self._chance.random(), days=self._polling.days)
        elif asked.came is Came.ANSWERED or message.why not in rules.ASKED_ONCE:
            after = rules.next_ask(message.why, message.since, now, self._chance.random(), days=self._polling.days)
        else:
            after = rules.retry_ask(message.since, now, self._chance.random(), days=1)
        seconds = None if after is None else after / timedelta(seconds=1)
        return Settled(message, asked=True, after=seconds, over=after is None, answer=asked.why or asked.came)

    def tell_of(
        self, all_asked: Sequence[Asked], failed_in_a_row: int | None = None, since: datetime | None = None
    ) -> None:
        """Tell the account's breaker and pause what answers mean."""
        came = [asked.came for asked in all_asked]
        throttled = [asked for asked in all_asked if asked.came is Came.THROTTLED]
        pause = None
        if throttled:
            pause = self.pause(*throttled)
            _log.info("poll_throttled", account=self.account, seconds=round(pause, 1))
        reasons = [asked.why for asked in all_asked if asked.came in (Came.FAILED, Came.REFUSED)]
        self.tell(
            answered=sum(each in PROPER for each in came),
            failed=came.count(Came.FAILED) if failed_in_a_row is None else failed_in_a_row,
            pause=pause,
            refused=Came.REFUSED in came,
            why=reasons[-1] if reasons else None,
            since=since,
        )

    def tell(
        self,
        *,
        answered: int,
        failed: int,
        pause: float | None = None,
        refused: bool = False,
        why: str | None = None,
        since: datetime | None = None,
    ) -> None:
        """Note what answers mean for the account, and say so when its breaker opens or closes."""
        if not (answered or failed or pause is not None or refused):
            return
        changed = self._polls.tell(
            self.account,
            answered=answered,
            failed=failed,
            chance=self._chance.random(),
            pause=pause,
            refused=refused,
            why=why,
            since=since,
        )
        if changed == "opened" and refused:
            _log.error("poll_refused", account=self.account, why=why, advice="check the account's poll credentials")
        elif changed == "opened":
            _log.warning("poll_breaker_opened", account=self.account, why=why)
        elif changed == "closed":
            _log.info("poll_breaker_closed", account=self.account)
        if changed:
            metrics.show_breaker(self.account, changed == "opened")

    def pause(self, *throttled: Asked) -> float:
        """Return for how long to leave the provider alone: never less than it asks for, and not the same for all."""
        told = [asked.retry_after for asked in throttled if asked.retry_after]  # none at all helps nobody
        base, most = PAUSE_SECONDS
        doubled = min(most, base * 2 ** min(self._polls.throttles(self.account), 10))
        return (max(1.0, *told) if told else doubled) * (1 + 0.2 * self._chance.random())
