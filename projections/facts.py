"""What the reports need to know of a message: folded from its events, as lean as they allow.

`Facts` is the state of the fold and is kept a row a message, so that the next event can be folded in and what the
message counted for before can be taken back. It holds no personal data: a recipient is a keyed look-up value, a failure
is what the catalogue made of it.

The status is the one that the aggregate decided (`status_after`); nothing is decided here again. Two streams of one
message are joined at hand-off, as `ledger.domain.message` joins them.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
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
from ledger.domain.evidence import earliest
from ledger.domain.observation import Source
from ledger.domain.reasons import Reason, explain
from ledger.domain.status import FailureKind, Outcome, Status, Verdict, outcome, verdict

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class FailureClass(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the catalogue makes of a failure: the key by which failures are counted."""

    stage: str
    category: str
    code: str  #: the provider's or the sender's; empty without one
    title: str
    recognised: bool


class Failed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One claim that the message has failed."""

    at: datetime | None  #: as told, and believed
    kind: FailureKind
    code: str
    has_text: bool
    sender: bool
    received_at: datetime
    reason: FailureClass

    @property
    def rank(self) -> tuple[bool, bool, float, bool, str, float]:
        """The least counts: one that says something, then the earliest, as `ledger.domain.reading.failure` has it."""
        says_nothing = not (self.code or self.has_text)
        at = 0.0 if self.at is None else self.at.timestamp()
        return (says_nothing, self.at is None, at, self.has_text, self.code, self.received_at.timestamp())


class Facts(msgspec.Struct, array_like=True):
    """One stream's message."""

    account: str
    provider: str
    channel: str
    message_id: int  #: the public id of the stream
    born_at: datetime  #: first receipt of anything about it
    last_heard_at: datetime  #: last receipt
    country: str = ""
    status: Status = Status.UNKNOWN
    kind: FailureKind | None = None
    decided_at: datetime | None = None  #: recording time of the event that decided the outcome
    registered: bool = False
    reported: bool = False  #: the provider has said something
    closed: bool = False
    linked: bool = False  #: another stream speaks for it: it counts for nothing
    read: bool = False
    sent_at: datetime | None = None  #: these three as told by clocks that are believed
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    sent_received_at: datetime | None = None  #: these three by our clock
    delivered_received_at: datetime | None = None
    read_received_at: datetime | None = None
    failures: tuple[Failed, ...] = ()
    recipient: bytes = b""  #: keyed look-up; empty if unknown or erased

    @property
    def failure(self) -> Failed | None:
        """The failure that counts; None unless the message has failed."""
        if self.status is not Status.FAILED or not self.failures:
            return None
        own = [failed for failed in self.failures if failed.kind is self.kind] or self.failures
        return min(own, key=lambda failed: failed.rank)


class Told(msgspec.Struct, frozen=True):
    """What an event says about people, as far as facts are made of it."""

    recipient: bytes = b""
    error_text: str | None = None


NOTHING_TOLD: Final = Told()


def opened(event: AnyEvent, message_id: int) -> Facts:
    """Return the facts of a message before its first event, which is this one."""
    return Facts(event.account, event.provider, event.channel.value, message_id, event.received_at, event.received_at)


def fold(facts: Facts, event: AnyEvent, told: Told, recorded_at: datetime) -> None:
    """Fold in one event, in place. The streams that a hand-off joins are joined by `join`."""
    if not isinstance(event, MessageErased):
        facts.last_heard_at = max(facts.last_heard_at, event.received_at)
    if told.recipient and not facts.recipient:
        facts.recipient = told.recipient
    match event:
        case StatusObserved():
            _observed(facts, event, told, recorded_at)
        case MessageRegistered():
            facts.registered = True
            facts.country = facts.country or event.country or ""
        case MessageLinked():
            facts.linked = facts.linked or not event.leads
            facts.country = facts.country or event.country or ""
        case StatusCorrected():
            if event.status_after is not facts.status:
                facts.status, facts.kind, facts.decided_at = event.status_after, event.kind_after, recorded_at
        case MessageErased():
            _erased(facts)


def _erased(facts: Facts) -> None:
    """Leave what can still be told from the events now that nothing sealed in them opens, as a rebuild would."""
    facts.recipient = b""
    wordless = (
        msgspec.structs.replace(
            failed,
            has_text=False,
            reason=_classified(facts.provider, failed.code or None, None, failed.kind, failed.sender),
        )
        for failed in facts.failures
    )
    facts.failures = _with((), wordless)


def join(facts: Facts, other: Facts) -> None:
    """Fold in what the sender's own stream tells about the message, in place."""
    facts.born_at = min(facts.born_at, other.born_at)
    facts.last_heard_at = max(facts.last_heard_at, other.last_heard_at)
    facts.country = facts.country or other.country
    facts.registered = facts.registered or other.registered
    facts.reported = facts.reported or other.reported
    facts.closed = facts.closed or other.closed
    facts.read = facts.read or other.read
    for name in _TIMES:
        setattr(facts, name, earliest(getattr(facts, name), getattr(other, name)))
    facts.failures = _with(facts.failures, other.failures)
    facts.recipient = facts.recipient or other.recipient
    if _goes_before(facts, other):
        facts.status, facts.kind, facts.decided_at = other.status, other.kind, other.decided_at


def _goes_before(facts: Facts, other: Facts) -> bool:
    """Tell whether the other stream's status becomes that of both."""
    judged = verdict(facts.status, other.status)
    if judged is Verdict.CONFLICT or (judged is Verdict.REPEAT and other.status is Status.FAILED):
        return (other.decided_at or _NEVER) < (facts.decided_at or _NEVER)
    return judged is Verdict.ADVANCE


def _observed(facts: Facts, event: StatusObserved, told: Told, recorded_at: datetime) -> None:
    claim, received_at = event.claim, event.received_at
    if event.source is not Source.SENDER:
        facts.reported = True
    if event.closes:
        facts.closed = True
    if event.country and not facts.country:
        facts.country = event.country
    if event.status_after is not facts.status:
        if outcome(event.status_after) is not outcome(facts.status):
            facts.decided_at = recorded_at if outcome(event.status_after) is not Outcome.PENDING else None
        facts.status, facts.kind = event.status_after, event.kind_after
    if event.part is not None:
        claim = event.status_after  # what is said about one part alone dates nothing
        at = None
    else:
        at = event.occurred_at if event.believed else None
    match claim:
        case Status.SENT:
            facts.sent_at = earliest(facts.sent_at, at)
            facts.sent_received_at = earliest(facts.sent_received_at, received_at)
        case Status.DELIVERED:
            facts.delivered_at = earliest(facts.delivered_at, at)
            facts.delivered_received_at = earliest(facts.delivered_received_at, received_at)
        case Status.READ:
            facts.read = True
            facts.read_at = earliest(facts.read_at, at)
            facts.read_received_at = earliest(facts.read_received_at, received_at)
    if event.claim is Status.FAILED:
        facts.failures = _with(facts.failures, (_failed(event, told),))


def _with(failures: tuple[Failed, ...], more: Iterable[Failed]) -> tuple[Failed, ...]:
    """Keep one of those that say the same, the one received first, in an order of their own."""
    known = {(failed.at, failed.kind, failed.code, failed.reason): failed for failed in failures}
    for failed in more:
        same = (failed.at, failed.kind, failed.code, failed.reason)
        before = known.get(same)
        if before is None or failed.received_at < before.received_at:
            known[same] = failed
    return tuple(sorted(known.values(), key=lambda failed: (failed.rank, failed.reason.title)))


def _failed(event: StatusObserved, told: Told) -> Failed:
    kind = event.kind or FailureKind.FAILED
    sender = event.source is Source.SENDER
    return Failed(
        at=event.occurred_at if event.believed else None,
        kind=kind,
        code=event.error_code or "",
        has_text=bool(told.error_text),
        sender=sender,
        received_at=event.received_at,
        reason=_classified(event.provider, event.error_code, told.error_text, kind, sender),
    )


@lru_cache(4_096)
def _classified(
    provider: str, code: str | None, text: str | None, kind: FailureKind | None, sender: bool
) -> FailureClass:
    return class_of(explain(provider=provider, code=code, text=text, kind=kind, sender=sender))


def class_of(reason: Reason) -> FailureClass:
    return FailureClass(reason.stage.value, reason.category.value, reason.code or "", reason.title, reason.recognised)


_TIMES: Final = (
    "sent_at",
    "delivered_at",
    "read_at",
    "sent_received_at",
    "delivered_received_at",
    "read_received_at",
)
