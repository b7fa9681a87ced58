"""Which messages a provider should be asked about, why, and when. Pure: clocks and chance are arguments.

`follow` derives the reason to ask from recorded events alone, one after the other, so that the schedule can be rebuilt.
`holds` says the same of a folded message; it is consulted once more before a question leaves. `first_ask` and
`next_ask` spread questions: nothing is asked in the first seconds, the pauses grow with the age of the silence, and
every pause has a share of chance in it, so that messages sent together are not asked about together.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from ledger.domain.events import (
    AnyEvent,
    MessageErased,
    MessageLinked,
    MessageRegistered,
    StatusCorrected,
    StatusObserved,
)
from ledger.domain.message import Message
from ledger.domain.observation import Source
from ledger.domain.reading import failure, keep_polling
from ledger.domain.status import MAY_STILL_BECOME, Channel, Conflict, Status, Verdict, is_terminal


class Why(StrEnum):
    """What an answer is hoped to bring."""

    NO_STATUS = "no_status"  #: nothing has been said about the status
    NO_OUTCOME = "no_outcome"  #: accepted or sent, and neither delivered nor failed
    NO_REASON = "no_reason"  #: failed, and nobody said why
    CONFLICT = "conflict"  #: failed and delivered were both claimed
    NO_READ = "no_read"  #: a poll had to find the delivery, so its reading may go untold as well


#: Asked until one answer has come, whatever it says. The others are asked until they no longer hold.
ASKED_ONCE: Final = frozenset({Why.NO_REASON, Why.CONFLICT})

#: The first question about a message, counted from when the reason to ask arose: some seconds for the callback.
FIRST_AFTER: Final = (timedelta(seconds=10), timedelta(seconds=30))
#: A reading, counted from the delivery, and no longer than that after it.
READ_AFTER: Final = (timedelta(minutes=30), timedelta(hours=1))
READ_WITHIN: Final = timedelta(days=3)
#: Bounds of the pause that follows an answer without news: half to all of the silence's age, but not beyond these.
PAUSE_MIN: Final = timedelta(seconds=15)
PAUSE_MAX: Final = timedelta(hours=6)
#: From this age on a message is asked about once a day.
OLD_AFTER: Final = timedelta(days=1)
PAUSE_OLD: Final = timedelta(days=1)
#: Bound of the pause after a question that was not answered properly.
RETRY_MAX: Final = timedelta(minutes=10)


class Pending(msgspec.Struct, frozen=True):
    """A row of the schedule: why a message should be asked about, and since when that is so."""

    version: int  #: of the stream, up to the event that was followed last
    status: Status
    why: Why | None  #: None: there is nothing to ask, and something to remember (`closed`)
    since: datetime  #: recording time, by the database's clock, of the event that gave the reason
    closed: bool = False  #: the provider said that nothing more will come


def follow(row: Pending | None, event: AnyEvent, version: int, recorded_at: datetime) -> Pending | None:
    """Return the row after one more event of the stream; None if nothing has to be kept. Repeats change nothing."""
    if row is not None and version <= row.version:
        return row
    match event:
        case StatusObserved():
            return _observed(row, event, version, recorded_at)
        case StatusCorrected() | MessageErased():
            return None  # decided; or nothing is left to ask by
        case MessageLinked(leads=False):
            return None
        case MessageLinked() | MessageRegistered():
            return row and msgspec.structs.replace(row, version=version)


def _observed(row: Pending | None, event: StatusObserved, version: int, recorded_at: datetime) -> Pending | None:
    status, closed = event.status_after, event.closes or (row is not None and row.closed)
    before = row.why if row is not None else None
    why = _why(before, event, closed)
    if why is None and not (closed and not is_terminal(status)):
        return None
    moved = row is None or why is not before or status is not row.status
    since = recorded_at if moved or row is None else row.since
    return Pending(version, status, why, since, closed)


def _why(before: Why | None, event: StatusObserved, closed: bool) -> Why | None:
    status, by_poll = event.status_after, event.source is Source.POLL
    if not is_terminal(status):
        if closed:
            return None
        return Why.NO_STATUS if status is Status.UNKNOWN else Why.NO_OUTCOME
    if event.verdict is Verdict.CONFLICT:
        return None if by_poll else Why.CONFLICT
    if before is Why.CONFLICT:
        return None if by_poll else before
    if status is Status.FAILED:
        says_why = bool(event.error_code)  # a text without a code is sealed: `holds` looks at it
        failed_now = event.verdict is Verdict.ADVANCE and event.source is not Source.SENDER and not by_poll
        return Why.NO_REASON if not says_why and (failed_now or before is Why.NO_REASON) else None
    if status is Status.DELIVERED and _may_be_read(event.channel):
        found = by_poll and event.verdict is Verdict.ADVANCE
        return Why.NO_READ if found or before is Why.NO_READ else None
    return None


def _may_be_read(channel: Channel) -> bool:
    return Status.READ in MAY_STILL_BECOME[channel].get(Status.DELIVERED, ())


def holds(why: Why, message: Message) -> bool:
    """Tell whether the reason to ask about a message still stands."""
    if message.linked_to is not None:
        return False
    match why:
        case Why.NO_STATUS | Why.NO_OUTCOME:
            return keep_polling(message)
        case Why.NO_REASON:
            told = failure(message)
            return told is not None and not told.says_something
        case Why.CONFLICT:
            return message.conflict is Conflict.OPEN
        case Why.NO_READ:
            return message.status is Status.DELIVERED


def reason_to_ask(message: Message) -> Why | None:
    """Return why somebody might ask about a message now, whatever the schedule says; None if no answer is hoped for."""
    return next((why for why in Why if holds(why, message)), None)


def first_ask(why: Why, since: datetime, chance: float) -> datetime:
    """Return when a message is asked about for the first time. `chance` is from 0 to 1."""
    low, high = READ_AFTER if why is Why.NO_READ else FIRST_AFTER
    return since + low + (high - low) * chance


def next_ask(why: Why, since: datetime, now: datetime, chance: float, *, days: int) -> timedelta | None:
    """Return how long to wait after an answer without news; None if the message is not asked about any more."""
    if why in ASKED_ONCE:
        return None
    age = max(now - since, timedelta())
    pause = PAUSE_OLD if age >= OLD_AFTER else min(PAUSE_MAX, max(age, 2 * PAUSE_MIN))
    pause = max(PAUSE_MIN, pause * (0.5 + 0.5 * chance))
    within = READ_WITHIN if why is Why.NO_READ else timedelta(days=days)
    return pause if age + pause <= within else None


def retry_ask(since: datetime, now: datetime, chance: float, *, days: int) -> timedelta | None:
    """Return how long to wait after a question without a proper answer; None if its time is over."""
    age = max(now - since, timedelta())
    pause = min(RETRY_MAX, max(age, 2 * PAUSE_MIN)) * (0.5 + 0.5 * chance)
    return pause if age + pause <= timedelta(days=days) else None
