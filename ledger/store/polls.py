"""What the poller remembers: claims, budgets, breakers, walks, and answers that are given only once.

Not derived from events, and not touched by a rebuild of the schedule. Times are the database's: a poller whose clock is
wrong does no harm. `now` stands in for that clock where a test lives a day in a second; None everywhere else. Every
method raises StoreUnavailable.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
from psycopg import Cursor, sql
from psycopg.rows import TupleRow

from ledger.domain.polling import Pending, Why, first_ask
from ledger.store import arrays
from ledger.store import poll_statements as statements
from ledger.store.application import Ledger
from ledger.store.sealing import DataKey, place
from ledger.wire.contract import Polling

#: Questions in one claim.
CLAIM_MAX: Final = 500
#: How far ahead a claim reaches: what it holds leaves within this time if answers come promptly.
AHEAD_SECONDS: Final = 2.0
#: A claim that is not settled after this long returns to all.
LEASE_SECONDS: Final = 60.0
#: How long a pause that a provider asks for may be.
PAUSE_SECONDS_MAX: Final = 3600.0
#: Days of a list that a walk goes back.
WALK_DAYS: Final = 3
_PURPOSE: Final = b"answer"

Stream = tuple[int, UUID]  #: partition, stream id


class Claimed(msgspec.Struct, frozen=True):
    """One message to ask about, leased."""

    stream_id: UUID
    partition: int
    why: Why
    since: datetime
    due_at: datetime  #: when it was due
    delay: float  #: seconds from the claim until its question may leave


class Batch(msgspec.Struct, frozen=True):
    """What one claim brought. Without messages only `wait` counts."""

    batch: int
    at: datetime  #: the database's time of the claim
    width: int  #: questions at once
    failures: int  #: questions in a row, up to now, that got no proper answer
    wait: float  #: seconds until it is worth claiming again
    messages: tuple[Claimed, ...]


class Settled(msgspec.Struct, frozen=True):
    """How a claim ended. Unless told otherwise the message is due as it was before."""

    message: Claimed
    asked: bool  #: a question left, and was not sent away
    after: float | None = None  #: seconds until the next question
    over: bool = False  #: there is none
    answer: str | None = None  #: a word of ours: what came of it


class AccountState(msgspec.Struct, frozen=True, kw_only=True):
    """How an account's polling is doing."""

    account: str
    due: int = 0  #: messages that should have been asked about by now
    waiting: int = 0  #: messages that will be
    stuck: int = 0  #: messages whose time to be asked about is over, without an outcome
    asking: int = 0  #: being asked about
    breaker: str = "closed"  #: closed, open, probing
    why: str | None = None  #: what opened it
    open_until: datetime | None = None
    paused_until: datetime | None = None
    failures: int = 0
    walk_at: datetime | None = None


class Queued(msgspec.Struct, frozen=True):
    """A message's place in the queue."""

    since: datetime  #: of the reason that it is there for
    next_at: datetime | None  #: when it is due; None: not any more
    asked: int  #: questions so far
    answer: str | None  #: what came of the last one


class WalkClaim(msgspec.Struct, frozen=True):
    since: date
    target: str | None  #: of the next page; None: the first


class Kept(msgspec.Struct, frozen=True):
    """An answer that nobody else will get, as it came."""

    answer_id: UUID
    stream_id: UUID
    received_at: datetime
    content: bytes


class Polls:
    """The poller's memory in the database."""

    def __init__(
        self,
        ledger: Ledger,
        now: Callable[[], datetime | None] = lambda: None,
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._now = now
        self.lease_seconds = lease_seconds
        self._seen = (datetime.now(UTC), time.monotonic())

    def now(self) -> datetime:
        """Return the time of the database's clock, as this process has seen it last and counted on since."""
        told = self._now()
        if told is not None:
            return told
        at, counted = self._seen
        return at + timedelta(seconds=time.monotonic() - counted)

    # Claims -----------------------------------------------------------------------------------------------------------

    def claim(self, account: str, polling: Polling, *, most: int = CLAIM_MAX, width: int = 64) -> Batch:
        """Lease the newest messages that are due, as many as the account's budget allows."""
        rows = self._rows(
            statements.CLAIM,
            account=account,
            most=most,
            width=width,
            concurrency=polling.concurrency,
            rate=polling.rate,
            ahead=AHEAD_SECONDS,
            lease=self.lease_seconds,
        )
        at, batch, width, failures, wait, *_ = rows[0]
        self._seen = (at, time.monotonic())
        found = sorted((row[5:] for row in rows if row[6] is not None), key=lambda row: row[4], reverse=True)
        delays = sorted(row[5] for row in found)
        messages = tuple(
            Claimed(stream_id, partition, Why(why), since, due_at, delay)
            for (partition, stream_id, why, since, due_at, _), delay in zip(found, delays, strict=True)
        )
        return Batch(batch or 0, at, width, failures, wait, messages)

    def settle(self, batch: int, settled: Sequence[Settled]) -> int:
        """End a batch and return how many of its claims were still ours."""
        settled = sorted(settled, key=lambda each: order((each.message.partition, each.message.stream_id)))
        rows = self._rows(
            statements.SETTLE,
            batch=batch,
            partitions=[each.message.partition for each in settled],
            streams=[each.message.stream_id for each in settled],
            since=[each.message.since for each in settled],
            after=[each.after for each in settled],
            over=[each.over for each in settled],
            asked=[each.asked for each in settled],
            answers=[each.answer for each in settled],
        )
        return int(rows[0][0])

    def is_ours(self, batch: int) -> bool:
        """Tell whether a batch still is whose it was: it has not run out, or nobody has claimed since."""
        return bool(self._rows(statements.IS_OURS, batch=batch))

    def is_held_off(self, account: str, since: datetime) -> bool:
        """Tell whether the account is paused, or its breaker has opened since an instant of the database's clock."""
        return bool(self._rows(statements.IS_HELD_OFF, account=account, since=since))

    def pause(self, account: str, seconds: float) -> None:
        """Keep everybody from asking, from now on; `tell` says later what else there is to be said."""
        self._rows(statements.PAUSE, account=account, seconds=min(seconds, PAUSE_SECONDS_MAX))

    def tell(
        self,
        account: str,
        *,
        answered: int,
        failed: int,
        chance: float,
        pause: float | None = None,
        refused: bool = False,
        why: str | None = None,
        since: datetime | None = None,
    ) -> str:
        """Say what answers mean for the account. Returns "opened" or "closed" if its breaker has become that.

        `since` is when they were claimed: what was claimed before the breaker opened does not close it.
        """
        rows = self._rows(
            statements.TELL,
            account=account,
            answered=answered,
            failed=failed,
            pause=None if pause is None else min(pause, PAUSE_SECONDS_MAX),
            refused=refused,
            why=why,
            chance=chance,
            since=since,
        )
        return str(rows[0][0])

    def throttles(self, account: str) -> int:
        """Return how often in a row the provider has asked for fewer questions."""
        rows = self._rows(statements.THROTTLES, account=account)
        return int(rows[0][0]) if rows else 0

    def is_open(self, account: str) -> bool:
        """Tell whether the account's breaker is open."""
        return bool(self._rows(statements.IS_OPEN, account=account))

    def place(self, account: str, polling: Polling, stream_id: UUID | None = None) -> tuple[int | None, float]:
        """Take the place of one question outside of any claim: what to give back, and seconds to wait for it.

        None: there is no place now. `stream_id` is of the message that nobody else should ask about meanwhile.
        """
        rows = self._rows(
            statements.PLACE,
            account=account,
            stream=stream_id,
            concurrency=polling.concurrency,
            rate=polling.rate,
            lease=self.lease_seconds,
        )
        return rows[0][0], float(rows[0][1])

    def leave(self, place: int) -> None:
        """Give a place back."""
        self._rows(statements.LEAVE, batch=place)

    # The queue --------------------------------------------------------------------------------------------------------

    def states(self, accounts: Iterable[str], *, counting: bool = True) -> list[AccountState]:
        """Return how each account is doing, by name. Counting messages looks at everything that is open."""
        names = sorted(accounts)
        found = {name: {"account": name} for name in names}
        counts = self._counts(names) if counting else []
        for name, due, waiting, stuck, asking in counts:
            found[name] |= {"due": due, "waiting": waiting, "stuck": stuck, "asking": asking}
        columns = ("breaker", "why", "open_until", "paused_until", "failures", "walk_at")
        for name, *told in self._rows(statements.STATES, accounts=names):
            found[name] |= dict(zip(columns, told, strict=True))
        return [msgspec.convert(found[name], AccountState) for name in names]

    def _counts(self, names: list[str]) -> list[tuple[Any, ...]]:
        with self._ledger.reading() as cursor, cursor.connection.transaction():
            cursor.execute("SET LOCAL statement_timeout = '1min'")
            return cursor.execute(statements.COUNTS, {"accounts": names, "now": self._now()}).fetchall()

    def next(self, account: str, limit: int) -> list[tuple[UUID, Why, datetime, int, str | None]]:
        """Return what would be asked about next: stream, why, when it was due, questions so far, last answer."""
        rows = self._rows(statements.NEXT, account=account, limit=limit)
        return [(stream_id, Why(why), next_at, asked, answer) for stream_id, why, next_at, asked, answer in rows]

    def of_stream(self, stream: Stream) -> Queued | None:
        """Return a message's place in the queue; None if it has none."""
        rows = self._rows(statements.OF_STREAM, partition=stream[0], stream=stream[1])
        return Queued(*rows[0]) if rows else None

    # Walks ------------------------------------------------------------------------------------------------------------

    def start(self, account: str, absent_seconds: float) -> bool:
        """Note that a poller begins with an account. Tells whether none had looked for so long that a walk is due."""
        with self._ledger.reading() as cursor, cursor.connection.transaction():
            told = {"account": account, "absent": absent_seconds, "now": self._now()}
            cursor.execute(statements.MEET, told)
            row = cursor.execute(statements.START, told).fetchone()
            return bool(row and row[0])

    def claim_walk(self, account: str) -> WalkClaim | None:
        """Lease the account's walk if one is due or was left unfinished; None otherwise."""
        rows = self._rows(statements.CLAIM_WALK, days=WALK_DAYS, lease=self.lease_seconds, account=account)
        return WalkClaim(*rows[0]) if rows else None

    def continue_walk(self, account: str, target: str) -> None:
        """Note the next page, and keep the lease."""
        self._rows(statements.CONTINUE_WALK, target=target, lease=self.lease_seconds, account=account)

    def leave_walk(self, account: str, after_seconds: float) -> None:
        """Give the lease back: the same page is tried again, no sooner than told."""
        self._rows(statements.LEAVE_WALK, lease=after_seconds, account=account)

    def end_walk(self, account: str, chance: float) -> None:
        """Note that the list was read to its end; the next walk is a day away, give or take an hour."""
        self._rows(statements.END_WALK, pause=timedelta(hours=23) + timedelta(hours=2) * chance, account=account)

    # Answers that come once -------------------------------------------------------------------------------------------

    def keep(self, account: str, stream: Stream, content: bytes, received_at: datetime) -> UUID:
        """Keep an answer, sealed, before anybody has looked at it."""
        answer_id, key = uuid4(), DataKey.generate()
        self._rows(
            statements.KEEP,
            answer=answer_id,
            partition=stream[0],
            stream=stream[1],
            account=account,
            received_at=received_at,
            lease=self.lease_seconds,
            wrapped=self._ledger.master_key.wrap(key, answer_id),
            sealed=key.seal(content, place(answer_id, 1, _PURPOSE)),
        )
        return answer_id

    def forget(self, answer_id: UUID) -> None:
        """Forget an answer whose content is on record."""
        self._rows(statements.FORGET, answer=answer_id)

    def left_behind(self, account: str) -> list[Kept]:
        """Lease answers that whoever got them has not finished with."""
        found = []
        rows = self._rows(statements.LEFT_BEHIND, lease=self.lease_seconds, account=account)
        for answer_id, stream_id, received_at, wrapped, sealed in rows:
            key = self._ledger.master_key.unwrap(wrapped, answer_id)
            found.append(Kept(answer_id, stream_id, received_at, key.open(sealed, place(answer_id, 1, _PURPOSE))))
        return found

    def _rows(self, statement: bytes, **told: Any) -> list[tuple[Any, ...]]:
        with self._ledger.reading() as cursor:
            cursor.execute(statement, {**told, "now": self._now()}, prepare=True)
            return cursor.fetchall() if cursor.description is not None else []


# Queueing -------------------------------------------------------------------------------------------------------------


def forget(cursor: Cursor[TupleRow], stream_ids: Sequence[UUID]) -> int:
    """Drop the kept answers of messages that are being erased, in the transaction that does it; return how many."""
    return cursor.execute("DELETE FROM poll_answers WHERE stream_id = ANY(%s)", (list(stream_ids),)).rowcount


def chance_of(stream_id: UUID) -> float:
    """Return the share of chance in a message's first question: the same whenever it is asked for."""
    return (stream_id.int & 0xFFFF_FFFF) / 0x1_0000_0000


def enqueue(cursor: Cursor[TupleRow], rows: Sequence[tuple[Stream, str, Pending]], gone: Sequence[Stream]) -> None:
    """Queue messages whose reason to ask is new, and drop those without any; in the caller's transaction.

    `rows` are of the schedule, with the account. A reason that is queued already keeps its place.
    """
    told = [(stream, account, row.why, row.since) for stream, account, row in rows if row.why is not None]
    if told:
        first = [first_ask(why, since, chance_of(stream[1])) for stream, _, why, since in told]
        cursor.execute(
            statements.ENQUEUE,
            {
                **places([stream for stream, *_ in told]),
                "accounts": arrays.texts([account for _, account, _, _ in told]),
                "whys": arrays.texts([why.value for *_, why, _ in told]),
                "since": arrays.instants([since for *_, since in told]),
                "next": arrays.instants(first),
            },
            prepare=True,
        )
    if gone:
        rows_of = places(sorted(gone, key=order))
        cursor.execute(statements.LOCK, rows_of, prepare=True)
        cursor.execute(statements.DEQUEUE, rows_of, prepare=True)


def order(stream: Stream) -> tuple[int, int]:
    """Return the place of a stream in the one order in which all lock rows: else they would lock each other out."""
    return stream[0], stream[1].int


def places(streams: Sequence[Stream]) -> dict[str, arrays.Column]:
    """Return streams as parameters of a statement."""
    return {
        "partitions": arrays.smallints([partition for partition, _ in streams]),
        "streams": arrays.uuids([stream_id for _, stream_id in streams]),
    }


def mend(cursor: Cursor[TupleRow], schedule: str) -> tuple[int, int]:
    """Make the queue agree with the schedule in this table. Returns how many messages were queued anew, and removed.

    Where the clock was set back, a later reason can have an earlier time and is not queued before this; where it was
    ahead for a while, messages wait for a time that is far away.
    """
    table = sql.Identifier(schedule)
    cursor.execute(statements.LEFT_OVER)
    added = cursor.execute(sql.SQL(statements.ADOPT).format(table)).rowcount
    added += cursor.execute(statements.STRAYED).rowcount
    return added, cursor.execute(sql.SQL(statements.ORPHANS).format(table)).rowcount
