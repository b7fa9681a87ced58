"""One account, its provider's server, and a poller in a time of the test's own.

Time stands still until somebody waits. Everything but the clock and chance is what runs in production: PostgreSQL, the
writer, sockets. Events are followed as if they had been recorded when they were received.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from ledger.domain.events import StatusObserved
from ledger.domain.message import Message
from ledger.domain.observation import Source
from ledger.ingest.accept import Intake
from ledger.ingest.writer import Job, Writer
from ledger.polling.account import AccountPoller, Recorder
from ledger.polling.asking import Asker
from ledger.polling.client import Client
from ledger.polling.walking import Walker
from ledger.polling.worker import deliver
from ledger.providers import PROVIDERS
from ledger.store.application import Ledger
from ledger.store.polls import Polls
from ledger.wire.contract import Polling, Secret
from projections import current_status, generations
from projections.feed import Logged
from projections.poll_schedule import PollSchedule
from tests.builders import NAMES, NOON
from tests.plugins.ledger import Pen
from tests.polling.provider import ACCESS, ACCOUNT, PHONE, TOKEN, Provider
from tests.providers.requests import a_webhook, an_account
from tests.providers.senders import encode_form

_numbers = itertools.count(1)
MADE = {
    "twilio": {"secret": Secret(TOKEN), "account": ACCOUNT},
    "meta": {"secret": Secret(ACCESS), "account": PHONE},
    "infobip": {"secret": Secret(TOKEN)},
}


class Clock:
    """A time that passes only when somebody waits."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now
        self.on_wait: Callable[[float], object] = lambda _seconds: None

    def __call__(self) -> datetime:
        return self.now

    def count(self) -> float:
        return (self.now - NOON) / timedelta(seconds=1)

    def wait(self, seconds: float) -> bool:
        self.on_wait(seconds)
        self.now += timedelta(seconds=seconds)
        return False


class World:
    """See the module."""

    def __init__(
        self,
        ledger: Ledger,
        server: Provider,
        clock: Clock,
        *,
        provider: str = "twilio",
        seed: int = 1,
        width: int = 1,
        name: str | None = None,
        **polling: Any,
    ) -> None:
        self.ledger = ledger
        self.server = server
        self.clock = clock
        self.polling = Polling(base_url=server.url, **{"timeout_seconds": 5.0, **MADE[provider], **polling})
        self.account = an_account(provider, "secret", poll=self.polling, name=name or f"{provider}-{next(_numbers)}")
        self.intake = Intake(self.account, PROVIDERS[provider], NAMES, keeps_items=True)
        self.polls = Polls(ledger, clock)
        self.pen = Pen(ledger)
        self.writer = _writer(ledger)
        self.chance = random.Random(seed)
        ((self.position,),) = self.rows("SELECT position FROM partition_heads WHERE partition = 0")
        how = PROVIDERS[provider].polls
        assert how is not None
        self.client = Client(self.polling)
        self.asker = Asker(self.intake, how, self.polling, self.client, now=clock)
        self.recorder = Recorder(self.writer.submit)
        self.poller = AccountPoller(
            self.asker,
            self.polls,
            ledger,
            self.recorder,
            account=self.account.name,
            wait=clock.wait,
            chance=self.chance,
            width=width,
            count=clock.count,
        )
        self.walker = self.another_walker()

    def another_walker(self) -> Walker | None:
        """Return somebody who walks the account's list, if there is one."""
        return self.asker.polls.walk and Walker(
            self.asker.polls.walk,
            self.asker,
            self.polls,
            self.recorder,
            self.poller,
            wait=self.clock.wait,
            chance=self.chance,
            now=self.clock,
            count=self.clock.count,
        )

    def close(self) -> None:
        self.poller.close()
        self.client.close()
        self.writer.close()
        self.pen.writer.close()

    # The provider's callbacks -----------------------------------------------------------------------------------------

    def hear(self, sid: str, word: str, source: Source = Source.CALLBACK, **fields: str) -> None:
        """Record a status callback that comes in now."""
        self.hear_all([(sid, word, fields)], source)

    def hear_all(self, told: Iterable[tuple[str, str, dict[str, str]]], source: Source = Source.CALLBACK) -> None:
        statements = []
        for sid, word, fields in told:
            form = {"MessageSid": sid, "MessageStatus": word, "AccountSid": ACCOUNT, "To": "+12025550111", **fields}
            parsed = self.intake.provider.parse(a_twilio(form), self.account)
            receipt = self.intake.receipt(source, self.clock(), b"")
            statements += [self.intake.statement(each, receipt) for each in parsed.observations]
        self.pen.do(Job(statements))

    # Polling ----------------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Keep the schedule up with all events, by the test's time."""
        with self.ledger.reading() as cursor:
            rows = cursor.execute(_PAGE, (self.position,)).fetchall()
        if not rows:
            return
        page = []
        for row in rows:
            logged = Logged(*row)
            page.append(msgspec.structs.replace(logged, recorded_at=logged.event(self.ledger).received_at))
        self.position = page[-1].position
        schedule = PollSchedule()
        with self.ledger.connect() as connection:
            generation = generations.ensure(connection, schedule)
            with connection.transaction(), connection.cursor() as cursor:
                work = schedule.work(self.ledger, cursor, generation)
                work.take(page)
                work.finish()

    def next_due(self) -> datetime | None:
        """Return when the next message is due."""
        statement = "SELECT min(next_at) FROM poll_asks WHERE account = %s AND next_at < 'infinity'"
        (found,) = self.rows(statement, self.account.name)
        due: datetime | None = found[0]
        return due

    def pass_until(self, until: datetime) -> None:
        """Let time go by, and the poller do what it does, until then."""
        while self.clock.now < until:
            self.follow()
            rest = self.poller.round()
            if rest > 0:
                due = self.next_due()
                wake = self.clock.now + timedelta(seconds=rest)
                if due is not None and wake < due:
                    wake = due
                self.clock.now = min(until, wake if due is not None else until)

    def pass_by(self, **told: float) -> None:
        self.pass_until(self.clock.now + timedelta(**told))

    # What came of it --------------------------------------------------------------------------------------------------

    def stream(self, sid: str) -> UUID:
        return NAMES.stream_id(self.account.name, sid)

    def message(self, sid: str) -> Message:
        (loaded,) = self.ledger.load([self.stream(sid)])
        return loaded.message

    def status(self, sid: str) -> str:
        return self.message(sid).status.value

    def observed(self, sid: str) -> list[StatusObserved]:
        events = (recorded.event for recorded in self.ledger.history(self.stream(sid)))
        return [event for event in events if isinstance(event, StatusObserved)]

    def why(self, sid: str) -> str | None:
        """Return why the schedule has a message, None if it has not."""
        with self.ledger.connect() as connection:
            table = generations.ensure(connection, PollSchedule()).table("poll_schedule")
        found = self.rows(f"SELECT why FROM {table} WHERE stream_id = %s", self.stream(sid))  # noqa: S608
        return found[0][0] if found else None

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.ledger.reading() as cursor:
            return cursor.execute(statement.encode(), parameters).fetchall()


def a_twilio(form: dict[str, str]) -> Any:
    return a_webhook(encode_form(form), {"Content-Type": "application/x-www-form-urlencoded"})


_PAGE = b"""
SELECT partition, position, stream_id, version, type, state, recorded_at FROM events
 WHERE position > %s ORDER BY position
"""


def _writer(ledger: Ledger) -> Writer:
    writer = Writer(ledger, partial(current_status.row, ledger.names), deliver)
    writer.start()
    return writer


@contextmanager
def world(ledger: Ledger, kind: type[Provider], **told: Any) -> Iterator[World]:
    """Yield an account whose provider is a server of this kind."""
    clock = told.pop("clock", None) or Clock()
    server = kind(clock)
    made = World(ledger, server, clock, **told)
    try:
        yield made
    finally:
        made.close()
        server.close()
