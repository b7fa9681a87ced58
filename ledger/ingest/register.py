"""What the sending side knows, as jobs: registration, hand-off, local failure, correction.

A registration that names the provider's message id goes to the stream that callbacks use, and may find it open. One
without waits in a stream of its own until hand-off links the two.
"""

from collections.abc import Callable
from datetime import datetime
from os import urandom
from uuid import UUID

import msgspec

from ledger.domain.events import RegisteredDetails
from ledger.domain.identity import Names
from ledger.domain.message import Correct, Link, Observe, Receipt, Register
from ledger.domain.observation import Claim, Observation, Source
from ledger.domain.status import Channel, FailureKind, Outcome, Status
from ledger.ingest.writer import Job, Statement

#: From channel, the provider's message id and the recipient to the reference that reports will have.
ReferenceOf = Callable[[Channel, str, str | None], str]

#: What the sender's own statements are called in the history.
QUEUED, SENT, FAILED = "queued", "sent", "failed"


class LocalFailure(msgspec.Struct, frozen=True):
    """The sender could not hand the message to the provider."""

    text: str
    code: str | None = None


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the sender knows it, validated."""

    channel: Channel
    details: RegisteredDetails
    queued_at: datetime | None = None
    sent_at: datetime | None = None
    accepted_as: str | None = None  #: the provider's answer to the send call: queued or sent
    failure: LocalFailure | None = None


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """A person's decision on an open conflict."""

    to: Outcome
    by: str
    why: str
    relied_on: tuple[int, ...] = ()  #: positions of the claims


def _by_id(_channel: Channel, provider_message_id: str, _recipient: str | None) -> str:
    return provider_message_id


class Sender:
    """Makes jobs of what one sending account says. Immutable."""

    def __init__(self, account: str, provider: str, names: Names, reference_of: ReferenceOf = _by_id) -> None:
        """`reference_of` names messages as the provider's reports do: by more than an id that recipients share."""
        self._account = account
        self._provider = provider
        self._names = names
        self._reference_of = reference_of

    def stream_of(self, registration: Registration, fresh: bytes) -> UUID:
        """Name a registration's stream: the provider's where its id is known, else one of its own, from fresh bytes."""
        details = registration.details
        if details.provider_message_id is not None:
            return self._reported_stream(registration.channel, details.provider_message_id, details.recipient)
        return self._names.stream_id(self._account, f"registration:{fresh.hex()}")

    def _reported_stream(self, channel: Channel, provider_message_id: str, recipient: str | None) -> UUID:
        return self._names.stream_id(self._account, self._reference_of(channel, provider_message_id, recipient))

    def register(self, stream_id: UUID, registration: Registration, key: bytes, received_at: datetime) -> Job:
        receipt = self._receipt(registration.channel, received_at)
        statements = [
            Statement(
                stream_id,
                Register(
                    registration=key,
                    details=registration.details,
                    channel=registration.channel,
                    queued_at=registration.queued_at,
                    receipt=receipt,
                ),
            )
        ]
        if registration.failure is not None:
            statements.append(self._failed(stream_id, registration.failure, receipt))
        elif registration.details.provider_message_id is not None or registration.sent_at is not None:
            statements.append(self._handed_off(stream_id, registration, receipt))
        return Job(statements)

    def hand_off(
        self,
        stream_id: UUID,
        message_id: int,
        registration: Registration,
        received_at: datetime,
        recipient: str | None = None,
    ) -> tuple[Job, UUID]:
        """Return the job that links a message registered for a recipient to the provider's stream, and that stream."""
        provider_message_id = registration.details.provider_message_id
        assert provider_message_id is not None  # noqa: S101  # the caller validated it
        leading = self._reported_stream(registration.channel, provider_message_id, recipient)
        receipt = self._receipt(registration.channel, received_at)

        def link(other: UUID, leads: bool, given_out: int | None) -> Link:
            return Link(
                other=other, leads=leads, other_message_id=given_out, details=registration.details, receipt=receipt
            )

        statements = [
            Statement(leading, link(stream_id, True, message_id)),
            Statement(stream_id, link(leading, False, None)),
            self._handed_off(leading, registration, receipt),
        ]
        return Job(statements), leading

    def acknowledge(self, stream_id: UUID, registration: Registration, received_at: datetime) -> Job:
        """Return the job of a hand-off whose message already is the provider's stream."""
        receipt = self._receipt(registration.channel, received_at)
        return Job([self._handed_off(stream_id, registration, receipt)])

    def fail(self, stream_id: UUID, channel: Channel, failure: LocalFailure, received_at: datetime) -> Job:
        return Job([self._failed(stream_id, failure, self._receipt(channel, received_at))])

    def correct(self, stream_id: UUID, channel: Channel, correction: Correction, received_at: datetime) -> Job:
        receipt = self._receipt(channel, received_at)
        command = Correct(
            correction=urandom(16),
            to=correction.to,
            by=correction.by,
            why=correction.why,
            relied_on=correction.relied_on,
            receipt=receipt,
        )
        return Job([Statement(stream_id, command)])

    def _handed_off(self, stream_id: UUID, registration: Registration, receipt: Receipt) -> Statement:
        """An acknowledged hand-off is SENT; for SMS only queued unless a sending time or the answer says more."""
        word = registration.accepted_as
        if word is None:
            queued = registration.channel is Channel.SMS and registration.sent_at is None
            word = QUEUED if queued else SENT
        claim = Claim(Status.QUEUED if word == QUEUED else Status.SENT)
        at = registration.sent_at if word == SENT else None
        return self._said(stream_id, word, claim, registration, receipt, at=at)

    def _failed(self, stream_id: UUID, failure: LocalFailure, receipt: Receipt) -> Statement:
        observation = Observation(
            reference=str(stream_id),
            provider_message_id="",
            provider_status=FAILED,
            claim=Claim(Status.FAILED, FailureKind.FAILED),
            error_code=failure.code,
            error_text=failure.text,
            item=msgspec.json.encode(failure),
        )
        return self._statement(stream_id, observation, receipt, part=failure.text)

    def _said(
        self, stream_id: UUID, word: str, claim: Claim, registration: Registration, receipt: Receipt,
        *, at: datetime | None,
    ) -> Statement:  # fmt: skip
        details = registration.details
        observation = Observation(
            reference=str(stream_id),
            provider_message_id=details.provider_message_id or "",
            provider_status=word,
            claim=claim,
            occurred_at=at,
            channel=registration.channel,
            recipient=details.recipient,
            item=msgspec.json.encode({"handed_off": word, "sent_at": at}),
        )
        return self._statement(stream_id, observation, receipt)

    def _statement(self, stream_id: UUID, observation: Observation, receipt: Receipt, part: str = "") -> Statement:
        command = Observe(
            observation=observation,
            key=self._names.observation(Source.SENDER, observation, part),
            item_digest=self._names.item_digest(observation.item),
            recognised=True,
            receipt=receipt,
        )
        return Statement(stream_id, command)

    def _receipt(self, channel: Channel, received_at: datetime) -> Receipt:
        return Receipt(
            account=self._account,
            provider=self._provider,
            channel=channel,
            source=Source.SENDER,
            received_at=received_at,
            request_digest=b"",
        )
