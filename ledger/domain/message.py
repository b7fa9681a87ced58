"""The aggregate: what is known about one message, what a new statement does to it.

`decide(message, command)` answers with the events to record, `evolve(message, event)` with the message after one. Both
are pure; clocks and identifiers are arguments. `evolve` joins the *stored* claim and never reads the verdict or maps a
word again, so that history keeps its meaning when vocabularies change. The status climbs through the table in
`ledger.domain.status` and nowhere else.
"""

from datetime import datetime, timedelta
from typing import Any, Final, assert_never
from uuid import UUID

import msgspec

from ledger.domain.country import country_of
from ledger.domain.events import (
    AnyEvent,
    MessageErased,
    MessageLinked,
    MessageRegistered,
    ObservedDetails,
    RegisteredDetails,
    StatusCorrected,
    StatusObserved,
)
from ledger.domain.evidence import Evidence, Failure, earliest, failure_order, of_part
from ledger.domain.observation import Observation, Part, Source
from ledger.domain.person import NOBODY, Person, introduce, meet
from ledger.domain.status import (
    RANK,
    Channel,
    Conflict,
    FailureKind,
    Outcome,
    Status,
    Verdict,
    outcome,
    skipped,
    verdict,
)

#: Beyond this many recorded observations a stream records only those that change its evidence.
OBSERVATIONS_MAX: Final = 64
PARTS_MAX: Final = 255  #: parts of a message: the count is one byte in SMS
#: A provider's time is believed when it lies this close to its receipt.
BELIEVED_BEFORE: Final = timedelta(days=30)
BELIEVED_AFTER: Final = timedelta(minutes=5)
#: Who an automatic correction is attributed to.
DELIVERY_WINS: Final = "rule:delivery-wins"


class Witness(msgspec.Struct, frozen=True, array_like=True):
    """The first claim for one side of a conflict, for the reader who has to decide it."""

    status: Status
    source: Source
    received_at: datetime
    kind: FailureKind | None = None
    occurred_at: datetime | None = None
    error_code: str | None = None


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One message as its recorded events tell it. Snapshots keep it by position: fields are only ever appended."""

    account: str = ""
    provider: str = ""
    channel: Channel = Channel.SMS
    status: Status = Status.UNKNOWN
    kind: FailureKind | None = None  #: fixed together with the outcome
    evidence: Evidence = Evidence()
    keys: frozenset[bytes] = frozenset()  #: observations on record
    conflict: Conflict = Conflict.NONE
    corrections: int = 0  #: corrections that changed the outcome
    version: int = 0  #: observations and corrections recorded; what readers are told
    first_received: dict[Status, datetime] = {}  #: our clock at the first claim of each status
    since: datetime | None = None  #: receipt of the statement that made the status what it is
    last_heard_at: datetime | None = None
    registrations: frozenset[bytes] = frozenset()
    decisions: frozenset[bytes] = frozenset()  #: corrections on record
    registered_at: datetime | None = None
    queued_at: datetime | None = None  #: as the sender told
    transport: str | None = None
    provider_account: str | None = None
    linked_to: UUID | None = None  #: the stream that speaks for this message since hand-off
    links: tuple[UUID, ...] = ()  #: streams of the sender that this stream speaks for
    aliases: tuple[int, ...] = ()  #: message ids given out for those, first one first
    witnesses: dict[Outcome, Witness] = {}  #: first claim of each outcome
    person: Person = Person()
    country: str | None = None  #: of the recipient's number; stays when the number is erased
    erased_at: datetime | None = None  #: our clock, when the message was erased

    @property
    def is_known(self) -> bool:
        """Tell whether anything at all has been recorded."""
        return bool(self.account)


# Commands -------------------------------------------------------------------------------------------------------------


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The circumstances of a statement: where it came in, and when by our clock."""

    account: str
    provider: str
    channel: Channel  #: the account's default
    source: Source
    received_at: datetime
    request_digest: bytes
    keeps_items: bool = True  #: LEDGER_EVIDENCE=full
    delivery_wins: bool = False  #: the account's rule for conflicts


class Observe(msgspec.Struct, frozen=True, kw_only=True):
    observation: Observation
    key: bytes
    item_digest: bytes
    recognised: bool
    receipt: Receipt


class Register(msgspec.Struct, frozen=True, kw_only=True):
    registration: bytes
    details: RegisteredDetails
    channel: Channel
    queued_at: datetime | None
    receipt: Receipt


class Link(msgspec.Struct, frozen=True, kw_only=True):
    other: UUID
    leads: bool
    other_message_id: int | None
    details: RegisteredDetails
    receipt: Receipt


class Correct(msgspec.Struct, frozen=True, kw_only=True):
    correction: bytes = b""  #: so that a decision whose answer was lost is found, and not refused
    to: Outcome
    by: str
    why: str
    relied_on: tuple[int, ...]
    receipt: Receipt


Command = Observe | Register | Link | Correct


class AlreadyLinked(ValueError):
    """The message was handed off under another provider message id before."""


class NotInConflict(ValueError):
    """Only an open conflict can be corrected."""


def is_believed(occurred_at: datetime | None, received_at: datetime) -> bool:
    """Tell whether a provider's instant may date a status. An absent one is not a suspect one."""
    return occurred_at is None or received_at - BELIEVED_BEFORE <= occurred_at <= received_at + BELIEVED_AFTER


def judge(message: Message, key: bytes, claimed: Status) -> Verdict:
    """Return the verdict on an observation: `redelivered` first, by its key, then the table."""
    if key in message.keys:
        return Verdict.REDELIVERED
    return verdict(message.status, claimed)


def decide(message: Message, command: Command) -> tuple[AnyEvent, ...]:
    """Return the events that a command leads to; none if it says nothing new.

    Raises NotInConflict for a correction of anything but an open conflict. No observation is ever refused.
    """
    match command:
        case Observe():
            return _observe(message, command)
        case Register():
            return _register(message, command)
        case Link():
            return _link(message, command)
        case Correct():
            return () if command.correction in message.decisions else (_correct(message, command),)
        case _:
            assert_never(command)


def _observe(message: Message, command: Observe) -> tuple[AnyEvent, ...]:
    said, receipt, claim = command.observation, command.receipt, command.observation.claim
    believed = is_believed(said.occurred_at, receipt.received_at)
    part = Part(said.part, said.parts) if said.part and said.parts and said.part <= said.parts <= PARTS_MAX else None
    claimed = claim.status
    if part is not None and RANK.get(claimed):
        told = of_part(claimed, said.occurred_at if believed else None, part)
        claimed = _of_all(claimed, message.evidence.join(told))
    judged = judge(message, command.key, claimed)
    if judged is Verdict.REDELIVERED:
        return ()
    channel = _channel(message, said.channel or receipt.channel)
    kind = _kind(claim.status, claim.kind)
    advances = judged is Verdict.ADVANCE
    personal = _news(message.person, said, said.item if receipt.keeps_items else b"")
    event = StatusObserved(
        account=receipt.account,
        provider=receipt.provider,
        channel=channel,
        key=command.key,
        source=receipt.source,
        claim=claim.status,
        kind=kind,
        closes=claim.closes,
        recognised=command.recognised,
        verdict=judged,
        skipped=skipped(channel, message.status, claimed, kind) if advances else (),
        status_before=message.status,
        status_after=claimed if advances else message.status,
        kind_after=kind if advances else message.kind,
        occurred_at=said.occurred_at,
        believed=believed,
        received_at=receipt.received_at,
        event_id=said.event_id,
        date_text=said.date_text,
        error_code=said.error_code,
        transport=said.transport,
        provider_account=_new(said.provider_account, message.provider_account),
        request_digest=receipt.request_digest,
        item_digest=command.item_digest,
        part=part,
        country=_new(country_of(personal.recipient), message.country),
        personal=personal,
    )
    asked_for = receipt.source is Source.POLL and command.recognised  # an answer counts for what it changes
    if (asked_for or len(message.keys) >= OBSERVATIONS_MAX) and message.evidence.join(lift(event)) == message.evidence:
        return ()
    if judged is Verdict.CONFLICT and receipt.delivery_wins and outcome(claimed) is Outcome.DELIVERED:
        why = "The account settles a conflict in favour of a confirmed delivery."
        rule = Correct(to=Outcome.DELIVERED, by=DELIVERY_WINS, why=why, relied_on=(), receipt=receipt)
        return (event, _correct(evolve(message, event), rule))
    return (event,)


def _of_all(claimed: Status, evidence: Evidence) -> Status:
    """Return what a claim about one part says of the message: no more than the evidence with it bears out."""
    return claimed if RANK[claimed] <= RANK[evidence.progress] else evidence.progress


def _news(person: Person, said: Observation, item: bytes) -> ObservedDetails:
    """Return what an observation says, without the names that the message is known by already."""
    recipient, raw = said.recipient, said.recipient_raw
    return ObservedDetails(
        provider_message_id=_new(said.provider_message_id, person.provider_message_id) or "",
        provider_status=said.provider_status,
        error_text=said.error_text,
        recipient=_new(recipient, person.recipient),
        recipient_raw=None if recipient is not None and raw in (recipient, recipient[1:]) else raw,
        recipient_user_id=_new(said.recipient_user_id, person.recipient_user_id),
        participant=_new(said.participant, person.participant),
        client_reference=_new(said.client_reference, person.client_reference),
        item=item,
    )


def _new(told: str | None, known: str | None) -> str | None:
    return None if told == known else told


def _channel(message: Message, told: Channel) -> Channel:
    return message.channel if message.is_known else told


def _kind(claimed: Status, told: FailureKind | None) -> FailureKind | None:
    """Only a failure has a kind, and every failure has one: `failed` where nobody said that the message had left."""
    if claimed is not Status.FAILED:
        return None
    return told or FailureKind.FAILED


def _register(message: Message, command: Register) -> tuple[AnyEvent, ...]:
    if command.registration in message.registrations:
        return ()
    return (
        MessageRegistered(
            account=command.receipt.account,
            provider=command.receipt.provider,
            channel=_channel(message, command.channel),
            registration=command.registration,
            queued_at=command.queued_at,
            country=_new(country_of(command.details.recipient), message.country),
            received_at=command.receipt.received_at,
            personal=command.details,
        ),
    )


def _link(message: Message, command: Link) -> tuple[AnyEvent, ...]:
    if command.other == message.linked_to or command.other in message.links:
        return ()
    if not command.leads and message.linked_to is not None:
        raise AlreadyLinked("a message is handed off once; a retry is a message of its own")
    return (
        MessageLinked(
            account=command.receipt.account,
            provider=command.receipt.provider,
            channel=_channel(message, command.receipt.channel),
            other=command.other,
            leads=command.leads,
            other_message_id=command.other_message_id,
            country=_new(country_of(command.details.recipient), message.country),
            received_at=command.receipt.received_at,
            personal=command.details,
        ),
    )


def _correct(message: Message, command: Correct) -> StatusCorrected:
    if message.conflict is not Conflict.OPEN or command.to is Outcome.PENDING:
        raise NotInConflict("only an open conflict can be corrected, to delivered or to failed")
    status, kind = _corrected(message, command.to)
    return StatusCorrected(
        correction=command.correction,
        account=message.account,
        provider=message.provider,
        channel=message.channel,
        to=command.to,
        by=command.by,
        why=command.why,
        relied_on=command.relied_on,
        status_before=message.status,
        status_after=status,
        kind_after=kind,
        received_at=command.receipt.received_at,
    )


def _corrected(message: Message, to: Outcome) -> tuple[Status, FailureKind | None]:
    """Return the status and kind that a correction leads to: unchanged if it confirms the outcome shown."""
    if to is outcome(message.status):
        return message.status, message.kind
    if to is Outcome.FAILED:
        return Status.FAILED, min(message.evidence.failures, key=failure_order).kind
    return message.evidence.progress, None


# Evolving -------------------------------------------------------------------------------------------------------------


def evolve(message: Message, event: AnyEvent) -> Message:
    """Return the message after one recorded event. Total; the same for live and replayed events."""
    match event:
        case StatusObserved():
            return _observed(message, event)
        case MessageRegistered():
            return msgspec.structs.replace(
                message,
                **_origin(message, event),
                registrations=message.registrations | {event.registration},
                registered_at=message.registered_at or event.received_at,
                queued_at=earliest(message.queued_at, event.queued_at),
                country=message.country or event.country,
                person=introduce(message.person, event.personal),
            )
        case MessageLinked():
            origin = _origin(message, event)
            if not event.leads:
                return msgspec.structs.replace(message, **origin, linked_to=event.other)
            given_out = (event.other_message_id,) if event.other_message_id is not None else ()
            return msgspec.structs.replace(
                message,
                **origin,
                links=(*message.links, event.other),
                aliases=message.aliases + given_out,
                country=message.country or event.country,
                person=introduce(message.person, event.personal),
            )
        case StatusCorrected():
            return msgspec.structs.replace(
                message,
                status=event.status_after,
                kind=event.kind_after,
                conflict=Conflict.SETTLED,
                corrections=message.corrections + (event.to is not outcome(message.status)),
                version=message.version + 1,
                decisions=message.decisions | {event.correction} if event.correction else message.decisions,
                since=event.received_at if event.status_after is not message.status else message.since,
            )
        case MessageErased():
            return msgspec.structs.replace(
                message,
                **_origin(message, event),
                erased_at=message.erased_at or event.received_at,
                person=NOBODY,
                evidence=message.evidence.wordless(),
            )
        case _:
            assert_never(event)


def lift(event: StatusObserved) -> Evidence:
    """Return the evidence that one observation amounts to by itself."""
    at = event.occurred_at if event.believed else None
    if event.claim is Status.UNKNOWN:
        return Evidence(closed=event.closes)
    if event.claim is Status.FAILED:
        kind = event.kind or FailureKind.FAILED
        failure = Failure(at, kind, event.error_code or "", event.personal.error_text or "")
        return Evidence(closed=event.closes, first_at={Status.FAILED: at}, failures=(failure,))
    if event.part is not None:
        return of_part(event.claim, at, event.part)  # a report that is the last one of its part closes nothing
    return Evidence(progress=event.claim, closed=event.closes, first_at={event.claim: at})


def _observed(message: Message, event: StatusObserved) -> Message:
    claim, evidence = event.claim, message.evidence.join(lift(event))
    if event.part is not None and RANK.get(claim):
        claim = _of_all(claim, evidence)
    judged = verdict(message.status, claim)
    advances = judged is Verdict.ADVANCE
    first_received, witnesses = message.first_received, message.witnesses
    if claim is not Status.UNKNOWN and claim not in first_received:
        first_received = {**first_received, claim: event.received_at}
    side = outcome(claim)
    if side is not Outcome.PENDING and side not in witnesses:
        witnesses = {**witnesses, side: _witness(event, claim)}
    changed: dict[str, Any] = {
        "evidence": evidence,
        "keys": message.keys | {event.key},
        "version": message.version + 1,
        "first_received": first_received,
        "last_heard_at": event.received_at,
        "transport": message.transport or event.transport,
        "provider_account": message.provider_account or event.provider_account,
        "witnesses": witnesses,
        "country": message.country or event.country,
        "person": meet(message.person, event.personal),
    }
    if not message.is_known:
        changed |= _origin(message, event)
    if advances:
        changed |= {"status": claim, "kind": _kind(claim, event.kind), "since": event.received_at}
    elif judged is Verdict.CONFLICT:
        changed["conflict"] = Conflict.OPEN
    return msgspec.structs.replace(message, **changed)


def _witness(event: StatusObserved, claim: Status) -> Witness:
    return Witness(
        status=claim,
        source=event.source,
        received_at=event.received_at,
        kind=event.kind,
        occurred_at=event.occurred_at,
        error_code=event.error_code,
    )


def _origin(message: Message, event: AnyEvent) -> dict[str, str | Channel]:
    return {
        "account": message.account or event.account,
        "provider": message.provider or event.provider,
        "channel": _channel(message, event.channel),
    }
