"""What a reader is told about a message besides its status: times, the failure that counts, what may still come.

All of it is a function of the folded message. No clock is read here: age and staleness belong to the reports.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from ledger.domain.evidence import Failure
from ledger.domain.message import Message
from ledger.domain.status import CHAIN, MAY_STILL_BECOME, RANK, Status, is_terminal


class Basis(StrEnum):
    """Where a shown time comes from."""

    PROVIDER = "provider"  #: as told, and believed: the provider's clock, or the sender's for what the sender did
    IMPLIED = "implied"  #: the provider's time of a later status, which proves this one
    RECEIVED = "received"  #: our clock when it was first claimed: the provider gave no usable time


class Instant(msgspec.Struct, frozen=True, array_like=True):
    at: datetime
    basis: Basis


#: Field of an answer to the status whose time it is.
TIMES: Final[dict[str, Status]] = {
    "queued_at": Status.QUEUED,
    "sent_at": Status.SENT,
    "delivered_at": Status.DELIVERED,
    "read_at": Status.READ,
    "failed_at": Status.FAILED,
    "deleted_at": Status.DELETED,
}

#: Proven by any later status of the delivered branch. A deletion does not prove a reading.
_IMPLIED: Final = (Status.SENT, Status.DELIVERED)


def is_final(message: Message) -> bool:
    """Tell whether the outcome is decided."""
    return is_terminal(message.status)


def keep_polling(message: Message) -> bool:
    """Tell whether asking again can still bring an outcome. Not the opposite of `is_final`: see `closed`."""
    return not is_terminal(message.status) and not message.evidence.closed


def may_still_become(message: Message) -> tuple[Status, ...]:
    """List what may follow; while pending, anything may."""
    if not is_terminal(message.status):
        return tuple(status for status in Status if status is Status.FAILED or RANK[status] > RANK[message.status])
    return MAY_STILL_BECOME[message.channel].get(message.status, ())


def times(message: Message) -> dict[str, Instant | None]:
    """Return the time of every reached status by field name: provider's, else implied, else ours at first claim."""
    return {field: time_of(message, status) for field, status in TIMES.items()}


def time_of(message: Message, status: Status) -> Instant | None:
    """Return when a status was reached; None if it never was."""
    evidence = message.evidence
    told = evidence.first_at.get(status)
    if told is not None:
        return Instant(told, Basis.PROVIDER)
    received = message.first_received.get(status)
    if status in _IMPLIED and RANK[evidence.progress] > RANK[status]:
        later = [step for step in CHAIN[RANK[status] + 1 :] if step in evidence.first_at]
        implied = min((at for step in later if (at := evidence.first_at[step]) is not None), default=None)
        if implied is not None:
            return Instant(implied, Basis.IMPLIED)
        if received is None:
            received = min((message.first_received[step] for step in later), default=None)
    elif status is Status.QUEUED:
        if message.queued_at is not None:
            return Instant(message.queued_at, Basis.PROVIDER)
        received = received or message.registered_at
    return Instant(received, Basis.RECEIVED) if received is not None else None


def last_updated(message: Message) -> datetime | None:
    """Return the time of the shown status; of registration or latest receipt while nothing has been claimed."""
    if message.status is Status.UNKNOWN:
        return message.registered_at or message.last_heard_at or message.erased_at
    shown = time_of(message, message.status)
    if shown is not None and shown.basis is not Basis.RECEIVED:
        return shown.at
    return message.since


def failure(message: Message) -> Failure | None:
    """Return the failure that counts: of the shown kind, one that says something, then the earliest, then the least.

    None unless the message has failed. A later claim without a reason never erases a known one.
    """
    if message.status is not Status.FAILED:
        return None
    own = [claimed for claimed in message.evidence.failures if claimed.kind is message.kind]
    telling = [claimed for claimed in own if claimed.says_something]
    return (telling or own)[0]
