"""Those who speak to the service: what they send, how often they try, and what they were told."""

from collections.abc import Callable
from random import Random
from typing import Final

import msgspec

from ledger.domain.message import Correct
from ledger.domain.observation import Source
from ledger.domain.status import Channel, FailureKind, Outcome, Status
from ledger.ingest.register import Sender
from ledger.ingest.writer import Job, Statement
from scripts.chaos_suite.simulation.following import UNREADABLE
from scripts.chaos_suite.simulation.store import POISON
from tests.builders import NAMES, a_claim, a_receipt, at
from tests.statements import ACCOUNT, a_registration, says, stream_of

TAKEN: Final = 200
REFUSED: Final = 409
UNAVAILABLE: Final = 503


class Told(msgspec.Struct, frozen=True):
    """One claim of a provider about one message."""

    reference: str
    status: Status
    kind: FailureKind
    minute: int | None  #: provider's clock, after noon
    word: str
    text: str
    source: Source
    code: str | None

    def statement(self, received: float) -> Statement:
        return says(
            a_claim(self.status, self.kind if self.status is Status.FAILED else None),
            self.minute,
            reference=self.reference,
            source=self.source,
            received=received,
            error_text=self.text or None,
            error_code=self.code,
            provider_status=self.word,
        )


class Delivery:
    """A request, and everything that becomes of it. `job` makes it anew for each attempt, at a minute of our clock."""

    def __init__(self, name: str, job: Callable[[float], Job], *, tries_max: int, source: Source) -> None:
        self.name = name
        self.job = job
        self.tries_max = tries_max  #: until the client gives up, in the phase of safety
        self.source = source
        self.tries = 0
        self.answer: int | None = None  #: that the client has heard: TAKEN or REFUSED
        self.was_acknowledged = False  #: TAKEN was sent, whether or not it arrived
        self.then: Callable[[], None] | None = None  #: once it was answered

    @property
    def is_open(self) -> bool:
        return self.answer is None


def claims(random: Random, messages: int) -> Told:
    status = random.choice((*Status, Status.FAILED, Status.FAILED))
    kind, text = random.choice(tuple(FailureKind)), random.choice(("", "blocked", "no route"))
    peculiar = random.random()
    return Told(
        reference=f"message-{random.randrange(messages)}",
        status=status,
        kind=kind,
        minute=random.choice((None, random.randint(0, 20))),
        word=POISON if peculiar < 0.02 else f"{status}-{kind}-{text}",
        text=text,
        source=Source.POLL if random.random() < 0.15 else Source.CALLBACK,
        code=UNREADABLE if peculiar > 0.98 else None,
    )


def reports(random: Random, number: int, messages: int) -> Delivery:
    """Return a callback with one to four statements, or a poller's answer with one."""
    told = [claims(random, messages) for _ in range(random.choice((1, 1, 1, 2, 4)))]
    if told[0].source is Source.POLL:
        told = told[:1]
    else:
        told = [msgspec.structs.replace(each, source=Source.CALLBACK) for each in told]
    return Delivery(
        f"report-{number}",
        lambda received: Job([each.statement(received) for each in told]),
        tries_max=random.choice((1, 2, 46, 46)),
        source=told[0].source,
    )


class Own:
    """One message of the sender's: registered under a name of its own, later handed off to the provider's."""

    def __init__(self, random: Random, number: int, messages: int) -> None:
        self._sender = Sender(ACCOUNT, "provider-1", NAMES)
        self._key = f"registration-{number:03}".encode()
        self.stream_id = self._sender.stream_of(a_registration(), self._key)
        self.reference = f"message-{random.randrange(messages)}"
        self.registering = Delivery(f"register-{number}", self._registration, tries_max=46, source=Source.SENDER)
        self.handing_off = Delivery(f"hand-off-{number}", self._hand_off, tries_max=46, source=Source.SENDER)

    def _registration(self, received: float) -> Job:
        return self._sender.register(self.stream_id, a_registration(), self._key, at(received))

    def _hand_off(self, received: float) -> Job:
        told = a_registration(provider_message_id=self.reference)
        job, _ = self._sender.hand_off(self.stream_id, 4711, told, at(received))
        return job


def correction(random: Random, number: int, messages: int) -> Delivery:
    """Return a person's decision about a message, which is refused unless there is a conflict to settle."""
    reference, to = f"message-{random.randrange(messages)}", random.choice((Outcome.DELIVERED, Outcome.FAILED))

    def job(received: float) -> Job:
        receipt = a_receipt(account=ACCOUNT, source=Source.SENDER, received_at=at(received), channel=Channel.SMS)
        key = f"correction-{number:05}".encode()
        command = Correct(correction=key, to=to, by="operator-1", why="asked", relied_on=(), receipt=receipt)
        return Job([Statement(stream_of(reference), command)])

    return Delivery(f"correction-{number}", job, tries_max=46, source=Source.SENDER)
