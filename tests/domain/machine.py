"""Our domain driven by the model's claims, so that a law reads as it does in the specification.

The domain is always reached through its modules (`message.decide`), never through names bound here:
`test_planted_errors` replaces those attributes and must be felt.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from ledger.domain import message, reading, status
from ledger.domain.events import AnyEvent
from ledger.domain.evidence import Evidence
from ledger.domain.message import Message, Observe
from ledger.domain.observation import Claim
from ledger.domain.status import CHAIN, Channel, FailureKind, Outcome, Status, Style
from tests import builders
from tests.domain import model

CHANNELS = [channel.value for channel in Channel]
STYLES = [style.value for style in Style]

#: Our clock starts after every provider time that a law draws, and each receipt is a minute later than the last.
_FIRST_RECEIPT = 60

#: What a law compares of a time: None, ("received",) where no provider told it, else (basis, minutes after noon).
Told = tuple[str] | tuple[str, int] | None


def command(claim: model.Claim, receipt: int = _FIRST_RECEIPT) -> Observe:
    """Say the model's claim in our vocabulary, received so many minutes after noon."""
    return builders.observe_command(
        Claim(Status(claim.status), FailureKind(claim.kind) if claim.kind else None, claim.closes),
        key=claim.key.encode(),
        receipt=builders.a_receipt(received_at=builders.at(receipt)),
        occurred_at=None if claim.at is None else builders.at(claim.at),
        error_text=claim.reason or None,
    )


def decided(before: Message, claim: model.Claim) -> tuple[AnyEvent, ...]:
    return message.decide(before, command(claim, _FIRST_RECEIPT + before.version))


def verdict(before: Message, claim: model.Claim) -> str:
    events = decided(before, claim)
    return events[0].verdict.value if events else "redelivered"


def observe(before: Message, claim: model.Claim) -> Message:
    return evolved(before, decided(before, claim))


def evolved(before: Message, events: Iterable[AnyEvent]) -> Message:
    for event in events:
        before = message.evolve(before, event)
    return before


def fold(claims: Iterable[model.Claim], before: Message | None = None) -> Message:
    before = before or Message()
    for claim in claims:
        before = observe(before, claim)
    return before


def replayed(claims: Sequence[model.Claim]) -> Message:
    """Decide on every claim, store the events, and fold what the store gives back."""
    live, log = Message(), []
    for claim in claims:
        events = decided(live, claim)
        log += [(type(event), msgspec.msgpack.encode(event)) for event in events]
        live = evolved(live, events)
    rebuilt = evolved(Message(), (msgspec.msgpack.decode(stored, type=type_) for type_, stored in log))
    assert live == rebuilt
    return rebuilt


def correct(before: Message, to: str) -> Message:
    return evolved(before, message.decide(before, builders.correct_command(Outcome(to))))


def as_model(ours: Message) -> model.Message:
    return model.Message(
        status=ours.status.value,
        kind=ours.kind.value if ours.kind else "",
        evidence=evidence_as_model(ours.evidence),
        keys=frozenset(key.decode() for key in ours.keys),
        conflict=ours.conflict.value,
        corrections=ours.corrections,
    )


def evidence_as_model(ours: Evidence) -> model.Evidence:
    return model.Evidence(
        progress=CHAIN.index(ours.progress),
        failed=ours.failed,
        closed=ours.closed,
        first_at=tuple(sorted((status.value, _minutes(at)) for status, at in ours.first_at.items())),
        failures=frozenset((_minutes(told.at), told.kind.value, told.text) for told in ours.failures),
    )


def told_times(ours: Message) -> dict[str, Told]:
    """Return the times that readers are told, less the readings of our own clock, which depend on the order."""
    return {field: _told(instant) for field, instant in reading.times(ours).items()}


def expected_times(theirs: model.Message) -> dict[str, Told]:
    """Return the model's times as we tell them.

    The model knows no receipt clock: where it has `NEVER` we tell our clock's time. One thing is finer here: a SENT or
    DELIVERED that was claimed without a time takes the time of a later status, as it does when it was never claimed.
    """
    first_at = dict(theirs.evidence.first_at)
    expected: dict[str, Told] = {}
    for field, told in model.times(theirs).items():
        if told is None:
            expected[field] = None
            continue
        at, implied = told
        if at == model.NEVER and field in ("sent_at", "delivered_at"):
            rank = model.SENT if field == "sent_at" else model.DELIVERED
            later = (first_at[step] for step in model.CHAIN[rank + 1 :] if step in first_at)
            at, implied = min(later, default=model.NEVER), True
        expected[field] = ("received",) if at == model.NEVER else ("implied" if implied else "provider", at)
    return expected


def failure_reason(ours: Message) -> str | None:
    counted = reading.failure(ours)
    return None if counted is None else counted.text


def word(ours: Message, channel: str, style: str) -> str:
    return status.word(ours.status, ours.kind, Channel(channel), Style(style))


def view(ours: Message) -> tuple[object, ...]:
    """Return what must not depend on the order of arrival while the evidence is settled."""
    return (
        ours.status,
        ours.kind,
        failure_reason(ours),
        told_times(ours),
        ours.conflict,
        ours.evidence.closed,
        reading.keep_polling(ours),
    )


def _minutes(at: datetime | None) -> int:
    return model.NEVER if at is None else int((at - builders.NOON).total_seconds() // 60)


def _told(instant: reading.Instant | None) -> Told:
    if instant is None:
        return None
    if instant.basis is reading.Basis.RECEIVED:
        return ("received",)
    return (instant.basis.value, _minutes(instant.at))
