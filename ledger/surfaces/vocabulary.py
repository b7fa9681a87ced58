"""The words of every surface, in one table: a row for each status on each channel of each surface.

No surface derives a status. Each asks this table how to say the one that `current_status` holds, so that all of them
say the same thing at the same moment. Every column is a monotone map of the status: no surface ever steps back.

Sources of the words: seed 000 for Intercom ("Sent", "Delivered", "Delivery Failed", "Send Attempted") and Reach
("Queued", "Sent", "Delivered", "Read"). A message that the provider holds (QUEUED) is shown as sent wherever the public
API says SENT: it has been handed to the provider and the provider has said so.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from ledger.domain.message import Message
from ledger.domain.reading import Basis, last_updated, time_of
from ledger.domain.status import RANK, Channel, Status


class Surface(StrEnum):
    INTERCOM = "intercom"  #: the Inbox App's field "Delivery Status"
    HUBSPOT = "hubspot"  #: an event of the contact's timeline, and the property of the contact
    REACH = "reach"  #: the live timeline after a send, and the cards of what was sent


class Word(msgspec.Struct, frozen=True):
    """How a surface says a status."""

    label: str  #: one to three words
    icon: str  #: one or two characters of plain text
    sentence: str  #: what happened, without a full stop; HubSpot's headline

    @property
    def with_icon(self) -> str:
        return f"{self.icon} {self.label}"


CHANNEL_NAMES: Final[Mapping[Channel, str]] = {
    Channel.WHATSAPP: "WhatsApp",
    Channel.SMS: "SMS",
    Channel.VIBER: "Viber",
}

#: Shapes, not colours: they are read in the dark mode of other people's products.
ICONS: Final[Mapping[Status, str]] = {
    Status.UNKNOWN: "…",
    Status.QUEUED: "✓",
    Status.SENT: "✓",
    Status.DELIVERED: "✓✓",
    Status.READ: "✓✓",
    Status.DELETED: "⌫",
    Status.FAILED: "✕",
}

#: LABELS[surface][status]; the columns are the statuses in their order, FAILED last.
LABELS: Final[Mapping[Surface, Mapping[Status, str]]] = {
    surface: dict(zip(Status, labels, strict=True))
    for surface, labels in {
        #                  UNKNOWN           QUEUED    SENT    DELIVERED    READ    DELETED    FAILED
        Surface.INTERCOM: (
            "Send Attempted", "Sent", "Sent", "Delivered", "Read", "Deleted by Recipient", "Delivery Failed",
        ),
        Surface.HUBSPOT: ("Unknown", "Sent", "Sent", "Delivered", "Read", "Deleted", "Failed"),
        Surface.REACH: ("Queued", "Queued", "Sent", "Delivered", "Read", "Deleted", "Failed"),
    }.items()
}  # fmt: skip

_SENTENCES: Final[Mapping[Status, str]] = {
    Status.UNKNOWN: "{channel} message not confirmed by the provider yet",
    Status.QUEUED: "{channel} message accepted by the provider",
    Status.SENT: "{channel} message sent",
    Status.DELIVERED: "{channel} message delivered",
    Status.READ: "{channel} message read",
    Status.DELETED: "{channel} message deleted by the recipient after delivery",
    Status.FAILED: "{channel} message failed",
}

#: WORDS[surface][channel][status]: the whole table.
WORDS: Final[Mapping[Surface, Mapping[Channel, Mapping[Status, Word]]]] = {
    surface: {
        channel: {
            status: Word(
                LABELS[surface][status],
                ICONS[status],
                _SENTENCES[status].format(channel=CHANNEL_NAMES[channel]),
            )
            for status in Status
        }
        for channel in Channel
    }
    for surface in Surface
}


def word(surface: Surface, channel: Channel, status: Status) -> Word:
    return WORDS[surface][channel][status]


def word_of(surface: Surface, message: Message) -> Word:
    """Return how a surface says where a message stands."""
    return WORDS[surface][message.channel][message.status]


def clock(at: datetime) -> str:
    """Write an instant for people, in UTC to the second: every surface writes it so."""
    return f"{at.astimezone(UTC):%d %b %Y, %H:%M:%S} UTC"


def hubspot_wording(message: Message) -> str:
    """Say the status with the time of its last update, as a timeline event does."""
    headline = word_of(Surface.HUBSPOT, message).sentence
    updated = last_updated(message)
    return headline if updated is None else f"{headline} · last updated {clock(updated)}"


# Reach ----------------------------------------------------------------------------------------------------------------


class StepState(StrEnum):
    DONE = "done"  #: reached: reported, or proven by a later step
    NEXT = "next"  #: not reached; may still be
    NEVER = "never"  #: will not be reached: the message failed, or is past it


class Step(msgspec.Struct, frozen=True):
    """One step of the timeline."""

    status: Status
    label: str
    state: StepState
    at: datetime | None  #: when it was reached
    basis: Basis | None  #: where that time comes from


#: What a send may expect to see, by channel. Other steps are shown once they have happened.
EXPECTED_STEPS: Final[Mapping[Channel, tuple[Status, ...]]] = {
    Channel.WHATSAPP: (Status.QUEUED, Status.SENT, Status.DELIVERED, Status.READ),
    Channel.SMS: (Status.QUEUED, Status.SENT, Status.DELIVERED),
    Channel.VIBER: (Status.QUEUED, Status.SENT, Status.DELIVERED),
}


def timeline(message: Message) -> tuple[Step, ...]:
    """Return the steps of a message in order: those to be expected, and whatever else has happened.

    A failed message ends in its failure; what had been reached before stays, and nothing is left to wait for.
    """
    expected = EXPECTED_STEPS[message.channel]
    failed = message.status is Status.FAILED
    steps = []
    for status in (Status.QUEUED, Status.SENT, Status.DELIVERED, Status.READ, Status.DELETED):
        reached = _is_reached(message, status)
        if status in expected or reached:
            steps.append(_step(message, status, reached=reached))
    if failed:
        steps.append(_step(message, Status.FAILED, reached=True))
    return tuple(steps)


def _is_reached(message: Message, status: Status) -> bool:
    """Tell whether the shown status stands on this step. A deletion does not prove a reading; a failure proves none."""
    if message.status is Status.FAILED:
        return status in (Status.QUEUED, Status.SENT) and time_of(message, status) is not None
    if status is Status.QUEUED:  # registration or any report: it was queued before it was anything else
        return True
    if status is Status.READ and message.status is Status.DELETED:
        return time_of(message, Status.READ) is not None
    return RANK[message.status] >= RANK[status]


def _step(message: Message, status: Status, *, reached: bool) -> Step:
    label = WORDS[Surface.REACH][message.channel][status].label
    if not reached:
        is_over = message.status is Status.FAILED or RANK[message.status] > RANK[status]
        return Step(status, label, StepState.NEVER if is_over else StepState.NEXT, None, None)
    instant = time_of(message, status)
    return Step(status, label, StepState.DONE, instant.at if instant else None, instant.basis if instant else None)


for _surface in Surface:
    for _channel in Channel:
        assert set(WORDS[_surface][_channel]) == set(Status)  # noqa: S101  # total, or the module does not load
