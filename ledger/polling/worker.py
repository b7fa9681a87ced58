"""The poller: asks about the messages of every account that can be asked about.

One thread for each account. The feed, wherever it runs, keeps the schedule up with events. Any number of pollers may
run, on any number of machines: what they share is in the database. `serve` runs one unless it only answers requests.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog

from ledger.http import metrics
from ledger.ingest.accept import Intake
from ledger.ingest.writer import Deliver, Job, Writer
from ledger.polling.account import AccountPoller, Recorder
from ledger.polling.asking import Asker
from ledger.polling.client import Client
from ledger.polling.walking import Walker, take_up
from ledger.store.application import Ledger, StoreUnavailable
from ledger.store.polls import Polls
from projections import poll_schedule

#: How often an account's list, and answers left behind, are looked for.
LOOK_SECONDS: Final = 5.0
#: Nobody asking for this long is an absence: callbacks were missed as well, so the list is walked.
ABSENT_SECONDS: Final = 120.0
#: How often the queue is compared with the schedule.
MEND_SECONDS: Final = 24 * 3600.0
#: How long to rest when the database does not answer, or something of ours is wrong.
REST_SECONDS: Final = 5.0
_WAIT_SECONDS_MAX: Final = 5.0

_log = structlog.get_logger("ledger.polling")


def deliver(jobs: list[Job]) -> None:
    """Wake whoever waits for each job."""
    for job in jobs:
        if job.waiter is not None:
            job.waiter()


class Poller:
    """Asks about messages until told to stop."""

    def __init__(
        self,
        ledger: Ledger,
        build_writer: Callable[[Deliver], Writer],
        intakes: Mapping[str, Intake],
        *,
        chance: random.Random | None = None,
    ) -> None:
        """`intakes` are of all accounts; those without `poll` are not asked about."""
        self._ledger = ledger
        self._polls = Polls(ledger)
        self._writer = build_writer(deliver)
        self._intakes = {name: intake for name, intake in intakes.items() if can_be_asked(intake)}
        self._chance = chance or random.SystemRandom()

    def run(self, stopping: threading.Event) -> None:
        """Poll until told to stop; returns when the questions under way have been settled."""
        self._writer.start()
        tasks: list[Callable[[threading.Event], None]] = [self._mend]
        tasks += [partial(self._account, intake) for intake in self._intakes.values()]
        threads = [threading.Thread(target=task, args=(stopping,), name="poller", daemon=True) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._writer.close()

    def _mend(self, stopping: threading.Event) -> None:
        """Compare the queue with the schedule now and then."""
        while not stopping.wait(MEND_SECONDS):
            try:
                added, removed = poll_schedule.mend_queue(self._ledger)
            except StoreUnavailable:
                continue
            if added or removed:
                _log.warning("poll_queue_mended", added=added, removed=removed)

    def _account(self, intake: Intake, stopping: threading.Event) -> None:
        polling, polls = intake.account.poll, intake.provider.polls
        assert polling is not None and polls is not None  # noqa: S101, PT018  # `can_be_asked`
        client = Client(polling)
        recorder = Recorder(self._writer.submit)
        asker = Asker(intake, polls, polling, client, now=_now)
        poller = AccountPoller(
            asker,
            self._polls,
            self._ledger,
            recorder,
            account=intake.account.name,
            wait=stopping.wait,
            chance=self._chance,
        )
        walker = None
        if polls.walk is not None and polling.walks:
            walker = Walker(
                polls.walk, asker, self._polls, recorder, poller, wait=stopping.wait, chance=self._chance, now=_now
            )
        kept = partial(take_up, intake.account.name, asker, self._polls, self._ledger, recorder) if polls.once else None
        account = _Account(poller, walker, kept, self._polls)
        try:
            while not stopping.is_set():
                stopping.wait(account.turn())
        finally:
            poller.close()
            client.close()


class _Account:
    """What is done for one account, in turns."""

    def __init__(
        self, poller: AccountPoller, walker: Walker | None, take_up: Callable[[], int] | None, polls: Polls
    ) -> None:
        """`take_up` reads answers that were left behind, where there can be any."""
        self._poller = poller
        self._walker = walker
        self._take_up = take_up
        self._polls = polls
        self._has_begun = False
        self._look_at = 0.0
        self._is_walking = False

    def turn(self) -> float:
        """Do what is to be done and return how long to rest."""
        try:
            return self._turn()
        except StoreUnavailable:
            _log.warning("poll_postponed", account=self._poller.account)
            return REST_SECONDS
        except Exception:
            _log.exception("poll_failed", account=self._poller.account)
            return REST_SECONDS

    def _turn(self) -> float:
        account = self._poller.account
        if not self._has_begun:
            if self._polls.start(account, ABSENT_SECONDS):
                _log.info("poll_absence_ended", account=account)
            metrics.show_breaker(account, self._polls.is_open(account))
            self._has_begun = True
        if self._is_walking or time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            self._is_walking = self._walker is not None and self._walker.step()
            if self._take_up is not None:
                self._take_up()
        rest = self._poller.round()
        return 0.0 if self._is_walking else min(rest, _WAIT_SECONDS_MAX)


def can_be_asked(intake: Intake) -> bool:
    """Tell whether an account's provider can be asked, and how is configured."""
    return intake.account.poll is not None and intake.provider.polls is not None


def _now() -> datetime:
    return datetime.now(UTC)
