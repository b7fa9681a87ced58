"""Reading a provider's list of messages from one end to the other: what no callback and no question has brought.

A walk goes back some days, once a day, and after every absence of all pollers. It costs one question for hundreds of
messages. Where it has come to is in the database: another poller goes on where one has died. Pages that repeat end it.
"""

import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from ledger.http import metrics
from ledger.ingest.writer import BATCH_MAX, Job
from ledger.polling.account import AccountPoller, Recorder, Waits
from ledger.polling.asking import PROPER, Asked, Asker, Came, known
from ledger.store.application import Ledger
from ledger.store.polls import Polls, WalkClaim
from ledger.wire.contract import Malformed, Walk

#: Pages of one walk, as a bound: a list of a provider that never ends must not keep us for ever.
PAGES_MAX: Final = 20_000
#: The pause before a page that could not be read is tried again: doubled so often, each time.
_AGAIN_SECONDS: Final = 60.0
_DOUBLINGS_MAX: Final = 4

_log = structlog.get_logger("ledger.polling")


class Walker:
    """Walks the list of one account, a page at a time."""

    def __init__(
        self,
        walk: Walk,
        asker: Asker,
        polls: Polls,
        recorder: Recorder,
        poller: AccountPoller,
        *,
        wait: Waits,
        chance: random.Random,
        now: Callable[[], datetime],
        count: Callable[[], float] = time.monotonic,
    ) -> None:
        self._walk = walk
        self._asker = asker
        self._polls = polls
        self._recorder = recorder
        self._poller = poller
        self._wait = wait
        self._chance = chance
        self._now = now
        self._count = count
        self._next: tuple[WalkClaim, float] | None = None  #: the page that is ours, and until when
        self._misses = 0  #: of pages, in a row
        self._seen: set[str | None] = set()  #: pages of the walk under way that this process has read

    def step(self) -> bool:
        """Read one page if a walk is due, and tell whether there may be more. Raises StoreUnavailable."""
        account = self._poller.account
        claim = self._claim(account)
        if claim is None:
            return False
        place, seconds = self._polls.place(account, self._asker.polling)
        if place is None:
            self._polls.leave_walk(account, seconds)
            return False
        try:
            if seconds > 0 and self._wait(seconds):
                self._polls.leave_walk(account, 0)
                return False
            if claim.target is None:
                self._seen = set()
            return self._read(account, claim)
        finally:
            self._polls.leave(place)

    def _claim(self, account: str) -> WalkClaim | None:
        """Return the page to read: the one after the last if the walk still is ours, else whatever can be leased."""
        following, self._next = self._next, None
        if following is not None and self._count() < following[1]:
            return following[0]
        return self._polls.claim_walk(account)

    def _read(self, account: str, claim: WalkClaim) -> bool:
        polling = self._asker.polling
        question = (
            self._walk.first(claim.since, polling) if claim.target is None else self._walk.follow(claim.target, polling)
        )
        answer, asked = self._asker.get(question)
        metrics.count_poll(account, asked.came)
        if answer is None:
            self._missed(account, asked)
            return False
        try:
            page = self._walk.read(answer.body, self._asker.account)
        except Malformed:
            self._missed(account, Asked(Came.FAILED, why="unreadable"))
            return False
        received_at = self._now()
        statements = self._asker.statements(page.parsed, answer.body, received_at)
        jobs = [Job(statements[at : at + BATCH_MAX]) for at in range(0, len(statements), BATCH_MAX)]
        unreadable = self._asker.captures(page.parsed, received_at)
        if unreadable:
            jobs.append(Job((), unreadable))
        self._recorder.record(jobs)
        if any(job.error is not None for job in jobs):
            self._polls.leave_walk(account, _AGAIN_SECONDS)
            return False
        self._poller.tell(answered=1, failed=0)
        self._misses = 0
        self._seen.add(claim.target)
        if page.next is None or page.next in self._seen or len(self._seen) >= PAGES_MAX:
            self._polls.end_walk(account, self._chance.random())
            _log.info("poll_walk_ended", account=account, pages=len(self._seen), since=claim.since.isoformat())
            return False
        self._polls.continue_walk(account, page.next)
        until = self._count() + self._polls.lease_seconds - 2 * polling.timeout_seconds
        self._next = (WalkClaim(claim.since, page.next), until)
        return True

    def _missed(self, account: str, asked: Asked) -> None:
        """Come back to the same page later; a page that is gone, or was never good, begins the walk anew tomorrow."""
        if asked.came in PROPER:
            self._misses = 0
            self._polls.end_walk(account, self._chance.random())
            return
        pause = _AGAIN_SECONDS * 2 ** min(self._misses, _DOUBLINGS_MAX)
        self._misses += 1
        self._polls.leave_walk(account, pause * (1 + self._chance.random()))
        self._poller.tell_of([asked])


def take_up(account: str, asker: Asker, polls: Polls, ledger: Ledger, recorder: Recorder) -> int:
    """Read answers that are given once and were left behind by whoever got them. Returns how many are on record now.

    Raises StoreUnavailable.
    """
    done = 0
    for kept in polls.left_behind(account):
        (loaded,) = ledger.load([kept.stream_id])
        told = known(loaded.message)
        job = None
        if told is not None:
            asked = asker.read(kept.stream_id, told, kept.content, kept.received_at, kept.answer_id)
            job = asked.job
        if job is not None:
            recorder.record([job])
        if job is None or job.error is None:
            polls.forget(kept.answer_id)
            done += 1
    return done
