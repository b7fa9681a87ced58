"""From a message and its history to the answers of the native API."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from ledger.domain.events import (
    AnyEvent,
    MessageErased,
    MessageLinked,
    MessageRegistered,
    StatusCorrected,
    StatusObserved,
)
from ledger.domain.message import Message, evolve
from ledger.domain.reading import TIMES, is_final, keep_polling, last_updated, may_still_become, times
from ledger.domain.status import SENTENCES, Conflict, Status, Verdict
from ledger.http.shapes import (
    ClaimShape,
    ConversationShape,
    FailureShape,
    HistoryItem,
    MessageShape,
    RetryShape,
)
from ledger.store.application import RecordedEvent
from projections.current_status import Opened, reason

#: Seconds before asking again is worth it, by status (seeds: 10 to 30 s after UNKNOWN, a few seconds after sending).
POLL_AFTER: Final = {Status.UNKNOWN: 10, Status.QUEUED: 5, Status.SENT: 5}


def message(opened: Opened, message_id: int, base_url: str, *, recurs: bool | None = None) -> MessageShape:
    """Show a message under the id it was asked for. `recurs`: whether errors do for its recipient, if known."""
    told, person = opened.message, opened.message.person
    reached = times(told)
    polls = keep_polling(told)
    updated = last_updated(told)
    assert updated is not None  # noqa: S101  # whatever has a row has been registered or heard of
    conversation = None
    if person.conversation_id is not None:
        conversation = ConversationShape(conversation_id=person.conversation_id, part_id=person.conversation_part_id)
    instants = {field: instant.at if instant else None for field, instant in reached.items()}
    return MessageShape(
        message_id=message_id,
        account=told.account,
        provider=told.provider,
        channel=told.channel,
        transport=told.transport,
        provider_account=told.provider_account,
        provider_message_id=person.provider_message_id,
        recipient=person.recipient,
        recipient_user_id=person.recipient_user_id,
        participant=person.participant,
        client_reference=person.client_reference,
        conversation=conversation,
        metadata=person.metadata,
        status=told.status,
        status_detail=told.kind,
        status_message=SENTENCES[told.status],
        is_final=is_final(told),
        keep_polling=polls,
        poll_after=POLL_AFTER.get(told.status) if polls else None,
        may_still_become=may_still_become(told),
        closed=told.evidence.closed,
        queued_at=instants["queued_at"],
        sent_at=instants["sent_at"],
        delivered_at=instants["delivered_at"],
        read_at=instants["read_at"],
        failed_at=instants["failed_at"],
        deleted_at=instants["deleted_at"],
        time_basis={field: instant.basis.value for field in TIMES if (instant := reached[field])},
        last_updated=updated,
        last_heard_at=told.last_heard_at,
        registered_at=told.registered_at,
        opened_at=opened.opened_at,
        failure=_failure(told, recurs),
        conflict=told.conflict,
        conflict_claims=_claims(told),
        corrections=told.corrections,
        version=told.version,
        status_url=f"{base_url}/v1/messages/{message_id}",
    )


def _failure(told: Message, recurs: bool | None) -> FailureShape | None:
    why = reason(told)
    if why is None:
        return None
    kinds = dict.fromkeys(claimed.kind for claimed in told.evidence.failures)
    return FailureShape(
        stage=why.stage.value,
        category=why.category.value,
        code=why.code,
        title=why.title,
        text=why.text,
        advice=why.advice,
        recognised=why.recognised,
        retry=RetryShape(
            class_=why.retry.class_.value,
            after_seconds=why.retry.after_seconds,
            after_seconds_max=why.retry.after_seconds_max,
            until=why.retry.until,
        ),
        kinds=tuple(kinds),
        recipient_specific=recurs,
    )


def _claims(told: Message) -> tuple[ClaimShape, ...]:
    if told.conflict is Conflict.NONE:
        return ()
    return tuple(
        ClaimShape(
            outcome=side,
            status=witness.status,
            source=witness.source.value,
            received_at=witness.received_at,
            occurred_at=witness.occurred_at,
            error_code=witness.error_code,
        )
        for side, witness in sorted(told.witnesses.items(), key=lambda item: item[1].received_at)
    )


# History --------------------------------------------------------------------------------------------------------------

_KINDS: Final[dict[type[AnyEvent], str]] = {
    StatusObserved: "observation",
    MessageRegistered: "registration",
    MessageLinked: "link",
    StatusCorrected: "correction",
    MessageErased: "erasure",
}


RECORDED: Final = "recorded"
OCCURRED: Final = "occurred"
#: Clocks by which a history can be rewound.
CLOCKS: Final = (RECORDED, OCCURRED)


def as_of(events: list[RecordedEvent], instant: datetime | None, clock: str) -> list[RecordedEvent]:
    """Return the events up to an instant: what was on record then by our clock, or what had happened by then.

    What happened is dated by whoever told us, if believed, and by our receipt otherwise.
    """
    if instant is None:
        return events
    if clock == RECORDED:
        return [recorded for recorded in events if recorded.recorded_at <= instant]
    return [recorded for recorded in events if _happened_at(recorded.event) <= instant]


def _happened_at(event: AnyEvent) -> datetime:
    match event:
        case StatusObserved(occurred_at=datetime() as at, believed=True):
            return at
        case MessageRegistered(queued_at=datetime() as at):
            return at
        case _:
            return event.received_at


def kind_of(event: AnyEvent) -> str:
    """Return what readers call an event of this type."""
    return _KINDS[type(event)]


def replay(events: list[RecordedEvent]) -> Iterator[tuple[HistoryItem, Message]]:
    """Yield each event as shown, with the message as it stood after it."""
    told = Message()
    for recorded in events:
        before, told = told, evolve(told, recorded.event)
        yield _item(recorded, before, told), told


def _item(recorded: RecordedEvent, before: Message, after: Message) -> HistoryItem:
    event = recorded.event
    seen = event if isinstance(event, StatusObserved) else None
    personal = seen.personal if seen else None
    decided = event if isinstance(event, StatusCorrected | MessageErased) else None
    return HistoryItem(
        position=recorded.position,
        version=recorded.version,
        kind=kind_of(event),
        source=seen.source.value if seen else None,
        provider_status=personal.provider_status if personal else None,
        claim=seen.claim if seen else None,
        recognised=seen.recognised if seen else None,
        error_code=seen.error_code if seen else None,
        error_text=personal.error_text if personal else None,
        occurred_at=seen.occurred_at if seen else None,
        occurred_at_believed=seen.believed if seen and seen.occurred_at else None,
        received_at=event.received_at,
        recorded_at=recorded.recorded_at,
        verdict=seen.verdict.value if seen else None,
        why=_why(event, before),
        skipped=seen.skipped if seen else (),
        status_before=before.status,
        status_after=after.status,
        status_detail=after.kind,
        by=decided.by if decided else None,
        event_id=seen.event_id if seen else None,
        date_text=seen.date_text if seen else None,
        participant=personal.participant if personal else None,
        evidence=personal.item.decode("utf-8", "backslashreplace") if personal and personal.item else None,
        evidence_digest=seen.item_digest.hex() if seen else None,
        request_digest=seen.request_digest.hex() or None if seen else None,
        stream_id=str(recorded.stream_id),
        hash=recorded.hash.hex(),
    )


def _why(event: AnyEvent, before: Message) -> str:
    """Say in a sentence why the event had the effect it had."""
    match event:
        case StatusObserved(verdict=Verdict.ADVANCE, skipped=skipped):
            passed = f", passing {' and '.join(skipped)}, which nobody reported" if skipped else ""
            return f"{event.claim} comes after {event.status_before}: the status advanced{passed}."
        case StatusObserved(verdict=Verdict.REPEAT):
            return f"The message was {event.status_before} already; this adds to the evidence."
        case StatusObserved(verdict=Verdict.LATE):
            return f"{event.claim} comes before {event.status_before}: it arrived late and only fills in its time."
        case StatusObserved(verdict=Verdict.CONFLICT):
            return (
                f"{event.claim} contradicts {event.status_before}, which was recorded first and stands. "
                "The conflict is open until somebody decides it."
            )
        case StatusObserved(recognised=False):
            return "No table knows this word; it is kept as the provider sent it and says nothing about the status."
        case StatusObserved():
            return "This says nothing about the status."
        case MessageRegistered():
            return "The sender registered the message."
        case MessageLinked(leads=True):
            return "The message was handed off: it is the one registered before under another id."
        case MessageLinked():
            return "The message was handed off; the provider's stream speaks for it from here on."
        case StatusCorrected():
            if event.status_after is before.status:
                return f"The conflict was decided: {event.to} stands. {event.why}"
            return f"The conflict was decided in favour of {event.to}. {event.why}"
        case MessageErased():
            return f"The message was erased: what identifies a person can no longer be read. {event.why}"
