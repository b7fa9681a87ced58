"""What a play consists of: stories, the messages they happen to, the requests that tell of them.

Everything here is made before the first request is sent, from a seed, a run and the accounts: the same three give the
same bytes. A run is an instant, and part of every identifier, so that plays on one ledger do not meet; played again
under the same run, every request is a repeat. Nothing is taken from the ledger's own tables of words and statuses.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from hashlib import sha256
from random import Random
from typing import Final, Protocol

import msgspec

#: Seconds of traffic that a play tells of. They lie before its run, and pass faster when they are played.
SPAN_SECONDS: Final = 900.0
RUN_FORMAT: Final = "%Y%m%dT%H%M%S%f"


class Clock(Enum):
    """What a report says about when it happened."""

    RIGHT = "right"
    ABSENT = "absent"  #: or given in a form that is no instant
    SAME = "same"  #: the same as the report before: providers count in seconds
    AHEAD = "ahead"  #: far too fast to be believed


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One report of a story."""

    word: str
    says: str | None  #: one of the seven statuses; None says nothing
    kind: str | None = None  #: failed or undelivered
    code: str | None = None
    text: str | None = None
    after: tuple[float, float] = (0.2, 3.0)  #: seconds since the step before, least and most
    clock: Clock = Clock.RIGHT


class Sender(Enum):
    """When the sending system tells what it knows."""

    NEVER = "never registered"
    FIRST = "registered, then handed off"
    OVERTAKEN = "registered, handed off after the first reports"
    WITH_ID = "registered with the provider's id"
    LATE = "registered after the first reports"
    KEPT = "registered and never handed off"
    FAILED = "registered as failed"
    FAILED_LATER = "registered, then failed before hand-off"


#: How senders tell of messages that are sent, the usual ways more often.
USUAL: Final = (
    *(Sender.FIRST,) * 8, *(Sender.WITH_ID,) * 5, *(Sender.OVERTAKEN,) * 4, *(Sender.LATE,) * 3, *(Sender.NEVER,) * 4,
)  # fmt: skip


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider reports about one message."""

    name: str
    steps: tuple[Step, ...]
    weight: int = 1  #: how often it happens beyond the first time
    way: str = ""  #: the transport or form that its provider uses for it
    channel: str = ""  #: empty: the provider's usual one
    in_order: bool = False  #: claims contradict one another, so each waits until the one before is on record
    people: int = 1  #: members of a group who each report for themselves; nobody registers those
    senders: tuple[Sender, ...] = USUAL


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account of the server, with what its provider needs to sign."""

    name: str
    provider: str
    secrets: tuple[bytes, ...]
    public_url: str
    delivery_wins: bool = False


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one person, as everybody but the ledger knows it."""

    number: int
    account: Account
    channel: str
    story: Story
    sender: Sender
    starts: float  #: second of the play
    queued_at: datetime | None
    sent_at: datetime | None  #: as the sender tells at hand-off
    accepted_as: str | None  #: the provider's answer to the sending call
    provider_message_id: str | None
    participant: str | None
    recipient: str
    client_reference: str
    local_failure: str | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a provider says about one message."""

    message: Message
    step: Step
    number: int  #: among the reports of its message
    happened_at: datetime
    told_at: datetime | None  #: as the report has it
    event_id: str | None  #: what names the report across copies, where the provider has such a thing
    date_text: str | None  #: a date that is no instant, where the provider has such a thing
    arrives: float  #: second of the play

    @property
    def told_believably(self) -> datetime | None:
        return None if self.step.clock is Clock.AHEAD else self.told_at


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, and what must become of it."""

    number: int
    at: float  #: second of the play
    target: str  #: path and query; `{message_id}` stands for the id that its message was given
    body: bytes
    headers: Mapping[str, str]
    key: tuple[str, str] | None = None  #: account and channel of the API key it carries
    message: int | None = None  #: that it registers, hands off or reads
    after: tuple[int, ...] = ()  #: numbers of the calls whose answers it waits for
    expected: int = 200
    is_copy: bool = False


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A signed callback with the reports in it."""

    query: str = ""
    body: bytes
    headers: Mapping[str, str]
    reports: Sequence[Report] = ()


class Dating(msgspec.Struct, frozen=True):
    told_at: datetime | None
    event_id: str | None = None
    date_text: str | None = None


class Dice(Random):
    """Seeded choices."""

    def chance(self, probability: float) -> bool:
        return self.random() < probability


class Ids:
    """Makes identifiers of a seed and a run: the same again for the same, others for others."""

    def __init__(self, seed: int, run: datetime) -> None:
        self.run = run
        self._prefix = f"{seed}:{tag(run)}"

    def digest(self, kind: str, number: int) -> bytes:
        return sha256(f"{self._prefix}:{kind}:{number}".encode()).digest()

    def text(self, kind: str, number: int, characters: int = 32) -> str:
        return self.digest(kind, number).hex()[:characters]

    def integer(self, kind: str, number: int, bits: int) -> int:
        return int.from_bytes(self.digest(kind, number)[:8]) >> (64 - bits) | 1 << (bits - 1)

    def base64(self, kind: str, number: int) -> str:
        return b64encode(self.digest(kind, number)[:15]).decode()


class Provider(Protocol):
    """A module that imitates a provider."""

    @property
    def CHANNEL(self) -> str: ...

    @property
    def STORIES(self) -> Sequence[Story]: ...

    def address(self, story: Story, told: Dice, ids: Ids, number: int) -> tuple[str, str]:
        """Return recipient and provider message id of a new message."""

    def dated(self, story: Story, step: Step, happened_at: datetime, name: str, told: Dice) -> Dating:
        """Return what a report says about its time and identity."""

    def requests(self, account: Account, reports: Sequence[Report], told: Dice) -> list[Request]:
        """Put reports, in order of arrival, into signed requests."""

    def noise(self, account: Account, run: datetime, told: Dice) -> list[Request]:
        """Return authentic requests that say nothing about a message."""

    def forged(self, account: Account, report: Report, told: Dice) -> list[Request]:
        """Return requests about a message that nobody should believe."""


def tag(run: datetime) -> str:
    """Name a run by its instant, to the millisecond."""
    return run.strftime(RUN_FORMAT)[:-3]


def run_of(text: str) -> datetime:
    """Return the run of that name. Raises ValueError."""
    return datetime.strptime(f"{text}000", RUN_FORMAT).replace(tzinfo=UTC)


def second(run: datetime, seconds: float) -> datetime:
    """Return the instant of a second of the play, to the millisecond."""
    return run + timedelta(milliseconds=round((seconds - SPAN_SECONDS) * 1000))
