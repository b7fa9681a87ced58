"""The status table: what a status is, and what a claim does to it.

Everything that decides which status wins lives here, as data. The table is total: every pair of current status and
claimed status has a verdict (checked when the module is imported). No SQL and no other module decides.

Two orders meet: `UNKNOWN < QUEUED < SENT < DELIVERED < READ < DELETED`, and FAILED above UNKNOWN, QUEUED and SENT
only. FAILED and the delivered branch are not comparable; a claim that would cross is a conflict, never a move.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Final


class Status(StrEnum):
    UNKNOWN = "UNKNOWN"  #: no statement about the status yet
    QUEUED = "QUEUED"  #: the provider accepted the message and has not handed it on
    SENT = "SENT"  #: handed to the network, or acknowledged where the provider knows no queue
    DELIVERED = "DELIVERED"  #: the recipient's device confirmed
    READ = "READ"  #: the recipient opened it; proves DELIVERED
    DELETED = "DELETED"  #: the recipient deleted it after delivery; proves DELIVERED, not READ
    FAILED = "FAILED"  #: finally not delivered; `FailureKind` tells where


class FailureKind(StrEnum):
    FAILED = "failed"  #: never left the sending side
    UNDELIVERED = "undelivered"  #: left, and was not delivered


class Outcome(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Verdict(StrEnum):
    """How an observation relates to the status at the moment it was recorded. History, never recomputed."""

    ADVANCE = "advance"  #: the claim becomes the status
    REPEAT = "repeat"  #: says again what is shown
    LATE = "late"  #: says something already passed; fills in its time
    CONFLICT = "conflict"  #: contradicts the decided outcome; recorded, flagged, status stays
    NOTE = "note"  #: says nothing about the status
    REDELIVERED = "redelivered"  #: the same observation again; nothing is appended


class Conflict(StrEnum):
    NONE = "none"
    OPEN = "open"
    SETTLED = "settled"


class Channel(StrEnum):
    WHATSAPP = "whatsapp"
    SMS = "sms"
    VIBER = "viber"


class Style(StrEnum):
    """Which vocabulary a reader sees: the six shared words, or the channel's own lower-case ones."""

    UNIFIED = "unified"
    CHANNEL = "channel"


CHAIN: Final = (Status.UNKNOWN, Status.QUEUED, Status.SENT, Status.DELIVERED, Status.READ, Status.DELETED)
RANK: Final[Mapping[Status, int]] = {status: rank for rank, status in enumerate(CHAIN)}

OUTCOMES: Final[Mapping[Status, Outcome]] = {
    Status.UNKNOWN: Outcome.PENDING,
    Status.QUEUED: Outcome.PENDING,
    Status.SENT: Outcome.PENDING,
    Status.DELIVERED: Outcome.DELIVERED,
    Status.READ: Outcome.DELIVERED,
    Status.DELETED: Outcome.DELIVERED,
    Status.FAILED: Outcome.FAILED,
}

_A, _R, _L, _C, _N = Verdict.ADVANCE, Verdict.REPEAT, Verdict.LATE, Verdict.CONFLICT, Verdict.NOTE

#: VERDICTS[current][claimed]
VERDICTS: Final[Mapping[Status, Mapping[Status, Verdict]]] = {
    current: dict(zip(Status, row, strict=True))
    for current, row in {
        #                   UNKNOWN QUEUED SENT DELIVERED READ DELETED FAILED
        Status.UNKNOWN: (_N, _A, _A, _A, _A, _A, _A),
        Status.QUEUED: (_N, _R, _A, _A, _A, _A, _A),
        Status.SENT: (_N, _L, _R, _A, _A, _A, _A),
        Status.DELIVERED: (_N, _L, _L, _R, _A, _A, _C),
        Status.READ: (_N, _L, _L, _L, _R, _A, _C),
        Status.DELETED: (_N, _L, _L, _L, _L, _R, _C),
        Status.FAILED: (_N, _L, _L, _C, _C, _C, _R),
    }.items()
}

#: What a reader of the message may still see after this status, by channel (documented paths only).
MAY_STILL_BECOME: Final[Mapping[Channel, Mapping[Status, tuple[Status, ...]]]] = {
    Channel.WHATSAPP: {
        Status.DELIVERED: (Status.READ, Status.DELETED),
        Status.READ: (Status.DELETED,),
    },
    Channel.VIBER: {Status.DELIVERED: (Status.READ,)},
    Channel.SMS: {},
}

#: Advances over a step that the provider documents as one that may never be reported.
DOCUMENTED_LEAPS: Final[Mapping[Channel, Mapping[Status, tuple[Status, ...]]]] = {
    Channel.WHATSAPP: {Status.SENT: (Status.READ,)},  # the chat was open: delivered is implied
    Channel.VIBER: {},
    Channel.SMS: {},
}

UNIFIED_WORDS: Final[Mapping[Status, str]] = {
    status: "SENT" if status is Status.QUEUED else status.value for status in Status
}

#: Every column is a monotone map, so no surface ever steps back. FAILED on SMS shows its kind instead.
CHANNEL_WORDS: Final[Mapping[Channel, Mapping[Status, str]]] = {
    channel: dict(zip(Status, words, strict=True))
    for channel, words in {
        Channel.WHATSAPP: ("unknown", "sent", "sent", "delivered", "read", "deleted", "failed"),
        Channel.VIBER: ("unknown", "sent", "sent", "delivered", "read", "deleted", "failed"),
        Channel.SMS: ("queued", "queued", "sent", "delivered", "delivered", "delivered", "failed"),
    }.items()
}

#: One sentence a person can read, for the compatibility answer's `status_message`.
SENTENCES: Final[Mapping[Status, str]] = {
    Status.UNKNOWN: "No status has been reported yet. Ask again in 10 to 30 seconds.",
    Status.QUEUED: "The provider has accepted your message and has not sent it on yet.",
    Status.SENT: "Your message has been sent. Delivery has not been confirmed yet.",
    Status.DELIVERED: "Your message has been delivered successfully.",
    Status.READ: "The recipient has read your message.",
    Status.DELETED: "The recipient deleted the message after it was delivered.",
    Status.FAILED: "Your message could not be delivered.",
}

for _current in Status:
    assert set(VERDICTS[_current]) == set(Status), _current  # noqa: S101  # total, or the module does not load


def outcome(status: Status) -> Outcome:
    return OUTCOMES[status]


def is_terminal(status: Status) -> bool:
    """Tell whether the outcome is decided. A terminal status may still climb within its outcome."""
    return OUTCOMES[status] is not Outcome.PENDING


def verdict(current: Status, claimed: Status) -> Verdict:
    return VERDICTS[current][claimed]


@cache
def skipped(channel: Channel, current: Status, claimed: Status, kind: FailureKind | None) -> tuple[Status, ...]:
    """List the documented steps that an advance jumped over, lowest first; empty for a documented advance.

    DELETED does not prove READ, and QUEUED is a step that many providers never report.
    """
    if claimed is Status.FAILED:
        left = kind is FailureKind.UNDELIVERED and channel is Channel.SMS
        return (Status.SENT,) if left and RANK[current] < RANK[Status.SENT] else ()
    if claimed in DOCUMENTED_LEAPS[channel].get(current, ()):
        return ()
    between = CHAIN[RANK[current] + 1 : RANK[claimed]]
    return tuple(step for step in between if step not in (Status.QUEUED, Status.READ))


def word(status: Status, kind: FailureKind | None, channel: Channel, style: Style) -> str:
    """Say the status in a reader's vocabulary."""
    if style is Style.UNIFIED:
        return UNIFIED_WORDS[status]
    if channel is Channel.SMS and status is Status.FAILED and kind is not None:
        return kind.value
    return CHANNEL_WORDS[channel][status]
