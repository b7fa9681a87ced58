"""What streams send: every recorded event as a change of a message, in the vocabulary of the native API."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import msgspec

from ledger.domain.events import MessageLinked, StatusCorrected, StatusObserved
from ledger.domain.message import Message, evolve
from ledger.domain.reading import is_final
from ledger.domain.status import Channel, FailureKind, Status
from ledger.http import render
from ledger.http.shapes import MessageShape
from ledger.store.application import RecordedEvent
from ledger.store.tail import Tailed
from ledger.surfaces.vocabulary import Step, Surface, timeline, word
from projections.current_status import Opened


class ChangeShape(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded event, as the tail sends it. `status` is where the message stood after it."""

    message_id: int
    account: str
    provider: str
    channel: Channel
    provider_message_id: str | None
    recipient: str | None
    client_reference: str | None
    kind: str
    source: str | None
    provider_status: str | None
    claim: Status | None
    verdict: str | None
    error_code: str | None
    error_text: str | None
    status_before: Status
    status: Status
    status_detail: FailureKind | None
    is_final: bool
    changed: bool
    label: str
    occurred_at: datetime | None
    received_at: datetime
    recorded_at: datetime
    partition: int
    position: int
    version: int


class StepShape(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a message's timeline."""

    status: Status
    label: str
    state: str
    at: datetime | None
    basis: str | None


class StreamedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it stood after an event: what a live timeline shows."""

    change: ChangeShape
    message: MessageShape
    timeline: tuple[StepShape, ...]


_FINAL: Final = frozenset(status for status in Status if is_final(Message(status=status)))


def hands_over(tailed: Tailed) -> bool:
    """Tell whether this is the sender's side of a hand-off, which the provider's side tells of as well."""
    event = tailed.recorded.event
    return isinstance(event, MessageLinked) and not event.leads


def change_of(tailed: Tailed, history: Callable[[], list[RecordedEvent]]) -> ChangeShape:
    """Return an event of the log as a change. `history` reads the events of its message: few events need it."""
    recorded, now = tailed.recorded, tailed.message
    event = recorded.event
    message_id = now.aliases[0] if now.aliases else tailed.message_id
    if isinstance(event, StatusObserved | StatusCorrected):
        before = Message(status=event.status_before)
        after = Message(status=event.status_after, kind=event.kind_after, person=now.person)
    elif recorded.version == 1:
        before, after = Message(), evolve(Message(), event)
    else:
        before, after = _around(recorded, history())
    after = msgspec.structs.replace(after, person=now.person, channel=now.channel)
    return _change(recorded, tailed.place.partition, message_id, before, after)


def _around(recorded: RecordedEvent, history: list[RecordedEvent]) -> tuple[Message, Message]:
    """Return the message before and after one of its events."""
    before = after = Message()
    for each in history:
        before, after = after, evolve(after, each.event)
        if (each.stream_id, each.version) == (recorded.stream_id, recorded.version):
            break
    return before, after


def _change(recorded: RecordedEvent, partition: int, message_id: int, before: Message, after: Message) -> ChangeShape:
    event = recorded.event
    seen = event if isinstance(event, StatusObserved) else None
    told = seen.personal if seen else None
    person = after.person
    return ChangeShape(
        message_id=message_id,
        account=event.account,
        provider=event.provider,
        channel=after.channel,
        provider_message_id=person.provider_message_id,
        recipient=person.recipient,
        client_reference=person.client_reference,
        kind=render.kind_of(event),
        source=seen.source.value if seen else None,
        provider_status=told.provider_status or None if told else None,
        claim=seen.claim if seen else None,
        verdict=seen.verdict.value if seen else None,
        error_code=seen.error_code if seen else None,
        error_text=told.error_text if told else None,
        status_before=before.status,
        status=after.status,
        status_detail=after.kind,
        is_final=after.status in _FINAL,
        changed=(before.status, before.kind) != (after.status, after.kind),
        label=word(Surface.REACH, after.channel, after.status).label,
        occurred_at=seen.occurred_at if seen else None,
        received_at=event.received_at,
        recorded_at=recorded.recorded_at,
        partition=partition,
        position=recorded.position,
        version=recorded.version,
    )


def replay(opened: Opened, events: list[RecordedEvent], base_url: str, partitions: int) -> Iterator[StreamedMessage]:
    """Yield a message as it stood after each of its events, under the id that its sender was given."""
    message_id, after = opened.shown_id, Message()
    for recorded in events:
        before, after = after, evolve(after, recorded.event)
        # What identifies the message is shown from the beginning: an early event may know less, and nothing else.
        known = msgspec.structs.replace(after, person=opened.message.person)
        partition = recorded.stream_id.bytes[0] % partitions
        yield StreamedMessage(
            change=_change(recorded, partition, message_id, before, known),
            message=render.message(msgspec.structs.replace(opened, message=known), message_id, base_url),
            timeline=tuple(map(_step, timeline(known))),
        )


def _step(step: Step) -> StepShape:
    basis = step.basis.value if step.basis else None
    return StepShape(status=step.status, label=step.label, state=step.state.value, at=step.at, basis=basis)
