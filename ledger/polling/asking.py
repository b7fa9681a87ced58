"""One question: what is asked about a message, what the answer amounts to.

Whatever the provider does, the outcome is an `Asked`, and nothing is raised. An answer that is given only once is kept
before it is read. Nothing here decides a status or waits.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID

import msgspec

from ledger.domain.message import Message
from ledger.domain.observation import Source
from ledger.ingest.accept import Intake
from ledger.ingest.writer import Job, Statement
from ledger.polling.client import Answer, NoAnswer
from ledger.store.captures import Capture
from ledger.wire.contract import Account, Ask, Known, Malformed, Parsed, Polling, Polls


class Came(StrEnum):
    """What came of a question."""

    ANSWERED = "answered"
    MISSING = "missing"  #: the provider does not know the message
    REJECTED = "rejected"  #: it finds fault with this question
    THROTTLED = "throttled"  #: it wants fewer questions
    REFUSED = "refused"  #: it does not accept the account's credentials
    FAILED = "failed"  #: no answer, an error of the provider's, or one that cannot be read
    UNASKABLE = "unaskable"  #: we do not know what to ask with; no question left


#: The provider is there and has dealt with the question.
PROPER: Final = frozenset({Came.ANSWERED, Came.MISSING, Came.REJECTED})


class Asked(msgspec.Struct, frozen=True):
    """How a question ended, and what is to be recorded of it."""

    came: Came
    statements: tuple[Statement, ...] = ()
    captures: tuple[Capture, ...] = ()
    retry_after: float | None = None  #: seconds, with THROTTLED
    why: str | None = None  #: a word of ours, where there is no answer
    kept: UUID | None = None  #: the answer is kept until its statements are on record

    @property
    def job(self) -> Job | None:
        return Job(self.statements, self.captures) if self.statements or self.captures else None


class Gets(Protocol):
    """Whoever brings answers (`ledger.polling.client.Client`)."""

    def get(self, ask: Ask) -> Answer: ...


Keep = Callable[[bytes, datetime], UUID]


def known(message: Message) -> Known | None:
    """Return what a provider can be asked about a message with; None before the provider's id is known, or erased."""
    person = message.person
    if not person.provider_message_id:
        return None
    return Known(
        provider_message_id=person.provider_message_id,
        recipient=person.recipient,
        participant=person.participant,
        provider_account=message.provider_account,
        channel=message.channel,
    )


class Asker:
    """Asks about messages of one account."""

    def __init__(
        self,
        intake: Intake,
        polls: Polls,
        polling: Polling,
        client: Gets,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._intake = intake
        self.polls = polls
        self.polling = polling
        self._client = client
        self._now = now

    @property
    def account(self) -> Account:
        return self._intake.account

    def question(self, message: Message) -> Ask | None:
        """Return the question about a message, None if there is none."""
        told = known(message)
        return None if told is None else self.polls.ask(told, self.polling)

    def ask(self, stream_id: UUID, message: Message, keep: Keep) -> Asked:
        """Ask about a message."""
        told, question = known(message), self.question(message)
        if told is None or question is None:
            return Asked(Came.UNASKABLE)
        answer, failed = self.get(question)
        if answer is None:
            return failed
        received_at = self._now()
        kept = keep(answer.body, received_at) if self.polls.once else None
        return self.read(stream_id, told, answer.body, received_at, kept)

    def get(self, question: Ask) -> tuple[Answer | None, Asked]:
        """Return an answer that can be read, else None and what came instead."""
        try:
            answer = self._client.get(question)
        except NoAnswer as error:
            return None, Asked(Came.FAILED, why=str(error))
        fault = self.polls.fault(answer.body) if answer.status != 200 and answer.is_json else None
        if fault is not None:
            return None, Asked(Came(fault), retry_after=answer.retry_after, why=f"status_{answer.status}")
        match answer.status:
            case 200 if answer.is_json or self.polls.once:  # nobody will be told it again, whatever it is called
                return answer, Asked(Came.ANSWERED)
            case 200:
                return None, Asked(Came.FAILED, why="not_json")
            case 404 | 410:
                return None, Asked(Came.MISSING)
            case 429:
                return None, Asked(Came.THROTTLED, retry_after=answer.retry_after)
            case 401 | 403:
                return None, Asked(Came.REFUSED, why=f"status_{answer.status}")
            case 503 if answer.retry_after is not None:
                return None, Asked(Came.THROTTLED, retry_after=answer.retry_after)
            case status if 400 <= status < 500 and status != 408:
                return None, Asked(Came.REJECTED, why=f"status_{status}")
            case status:
                return None, Asked(Came.FAILED, why=f"status_{status}")

    def read(self, stream_id: UUID, told: Known, body: bytes, received_at: datetime, kept: UUID | None) -> Asked:
        """Read an answer about a message."""
        try:
            parsed = self.polls.read(body, told, self._intake.account)
        except Malformed as malformed:
            capture = (self._capture(str(malformed), body, received_at),)
            return Asked(Came.FAILED, captures=capture, why="unreadable", kept=kept)
        statements = self.statements(parsed, body, received_at)
        captures = self.captures(parsed, received_at)
        about = [statement for statement in statements if statement.stream_id == stream_id]
        if statements and not about and not self.polls.once:
            capture = (self._capture("answer: about another message", body, received_at),)
            return Asked(Came.FAILED, captures=capture, why="another_message")
        # What is told once is recorded whomever it is about; all else only about the message that was asked for.
        return Asked(Came.ANSWERED, tuple(statements if self.polls.once else about), captures, kept=kept)

    def statements(self, parsed: Parsed, body: bytes, received_at: datetime) -> list[Statement]:
        """Return what an answer says, as a callback's reports would be recorded, with source `poll`."""
        receipt = self._intake.receipt(Source.POLL, received_at, body)
        return [self._intake.statement(observation, receipt) for observation in parsed.observations]

    def captures(self, parsed: Parsed, received_at: datetime) -> tuple[Capture, ...]:
        """Return what is kept of the items of an answer that could not be read."""
        return tuple(self._capture(each.reason, each.item, received_at) for each in parsed.unreadable)

    def _capture(self, reason: str, content: bytes, received_at: datetime) -> Capture:
        account = self._intake.account
        return Capture(
            account=account.name,
            provider=account.provider,
            reason=f"poll {reason}",
            content=content,
            content_type="application/json",
            received_at=received_at,
        )
