"""Observations, commands and messages with everything filled in, so that a test states only what it is about.

Every builder returns a value of the domain. Times are minutes after `NOON` (`at`), so that tests compare small numbers.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ledger.domain.events import AnyEvent, RegisteredDetails
from ledger.domain.identity import Names, request_digest
from ledger.domain.message import Command, Correct, Link, Message, Observe, Receipt, Register, decide, evolve
from ledger.domain.observation import Claim, Observation, Source
from ledger.domain.status import Channel, FailureKind, Outcome, Status

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
NAMES = Names(b"a deployment secret made up for tests")


def at(minutes: float) -> datetime:
    """Return an instant: so many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


def a_claim(status: Status, kind: FailureKind | None = None, *, closes: bool = False) -> Claim:
    """Return what a provider's word means; a failure is of kind `failed` unless told otherwise."""
    if status is Status.FAILED and kind is None:
        kind = FailureKind.FAILED
    return Claim(status, kind, closes)


def an_observation(claim: Claim | Status = Status.SENT, **said: Any) -> Observation:
    """Return one statement about message `reference-1`, in the provider's word for the claim and without a time."""
    if isinstance(claim, Status):
        claim = a_claim(claim)
    defaults: dict[str, Any] = {
        "reference": "reference-1",
        "provider_message_id": "provider-message-1",
        "provider_status": claim.status.lower(),
        "recipient": "+15550100",
        "recipient_raw": "15550100",
        "item": b'{"id":"provider-message-1"}',
    }
    return Observation(claim=claim, **(defaults | said))


def a_receipt(**circumstances: Any) -> Receipt:
    """Return the circumstances of a callback that came in at noon."""
    defaults: dict[str, Any] = {
        "account": "account-1",
        "provider": "provider-1",
        "channel": Channel.SMS,
        "source": Source.CALLBACK,
        "received_at": NOON,
        "request_digest": request_digest(b"body"),
    }
    return Receipt(**(defaults | circumstances))


def observe_command(
    claim: Claim | Status | Observation = Status.SENT,
    *,
    key: bytes | None = None,
    part: str = "",
    recognised: bool = True,
    receipt: Receipt | None = None,
    **said: Any,
) -> Observe:
    """Return the command to record an observation under its own key, unless another key is given."""
    observation = claim if isinstance(claim, Observation) else an_observation(claim, **said)
    receipt = receipt or a_receipt()
    return Observe(
        observation=observation,
        key=NAMES.observation(receipt.source, observation, part) if key is None else key,
        item_digest=NAMES.item_digest(observation.item),
        recognised=recognised,
        receipt=receipt,
    )


def observed(claim: Claim | Status, minute: float | None = None, **said: Any) -> Observe:
    """Return the command for a claim that the provider dates, and that comes in, at a minute after noon."""
    receipt = a_receipt(received_at=at(minute or 0))
    return observe_command(claim, occurred_at=None if minute is None else at(minute), receipt=receipt, **said)


def register_command(*, registration: bytes = b"registration-001", **told: Any) -> Register:
    """Return the command to register a message that the sender told us about."""
    defaults: dict[str, Any] = {
        "details": RegisteredDetails(recipient="+15550100", client_reference="order-1"),
        "channel": Channel.SMS,
        "queued_at": None,
        "receipt": a_receipt(source=Source.SENDER),
    }
    return Register(registration=registration, **(defaults | told))


def link_command(other: UUID, *, leads: bool = True, **told: Any) -> Link:
    """Return the command to record in one stream that the other one tells of the same message."""
    defaults: dict[str, Any] = {
        "other_message_id": 4711 if leads else None,
        "details": RegisteredDetails(),
        "receipt": a_receipt(source=Source.SENDER),
    }
    return Link(other=other, leads=leads, **(defaults | told))


def correct_command(to: Outcome, **told: Any) -> Correct:
    """Return the command by which a person settles a conflict."""
    defaults: dict[str, Any] = {
        "by": "operator-1",
        "why": "The recipient answered.",
        "relied_on": (1, 2),
        "receipt": a_receipt(source=Source.SENDER),
    }
    return Correct(to=to, **(defaults | told))


def events_of(*commands: Command, message: Message | None = None) -> tuple[AnyEvent, ...]:
    """Return every event that the commands lead to, one after the other, on a message (a new one by default)."""
    message, events = message or Message(), []
    for command in commands:
        for event in decide(message, command):
            events.append(event)
            message = evolve(message, event)
    return tuple(events)


def a_message(*commands: Command) -> Message:
    """Return the message of which these commands are the history."""
    message = Message()
    for event in events_of(*commands):
        message = evolve(message, event)
    return message
