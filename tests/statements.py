"""Statements as the writer gets them: a builder's command and the stream it is about.

`says` speaks as a provider, `a_sender` as the sending side. The reference is also the provider's message id, as it is
at every provider whose ids name one message to one recipient.
"""

from collections.abc import Iterable
from itertools import count
from typing import Any
from uuid import UUID

from ledger.domain.events import RegisteredDetails
from ledger.domain.observation import Claim, Source
from ledger.domain.status import Channel, Status
from ledger.ingest.register import Registration, Sender
from ledger.ingest.writer import Job, Statement
from tests.builders import NAMES, a_receipt, an_observation, at, observe_command

ACCOUNT = "account-1"
_number = count(1)


def an_account() -> str:
    """Return the name of an account that no other test speaks of, for databases that tests share."""
    return f"account-of-one-test-{next(_number)}"


def stream_of(reference: str = "reference-1", account: str = ACCOUNT) -> UUID:
    """Return the stream of a message that providers speak of."""
    return NAMES.stream_id(account, reference)


def says(
    claim: Claim | Status = Status.SENT,
    minute: float | None = None,
    *,
    reference: str = "reference-1",
    account: str = ACCOUNT,
    source: Source = Source.CALLBACK,
    channel: Channel = Channel.SMS,
    provider: str = "provider-1",
    received: float | None = None,
    delivery_wins: bool = False,
    **said: Any,
) -> Statement:
    """Return a provider's statement about a message, dated and received at a minute after noon."""
    receipt = a_receipt(
        account=account,
        provider=provider,
        channel=channel,
        source=source,
        received_at=at(received if received is not None else minute or 0),
        delivery_wins=delivery_wins,
    )
    told = {"reference": reference, "provider_message_id": reference, **said}
    observation = an_observation(claim, occurred_at=None if minute is None else at(minute), **told)
    return Statement(stream_of(reference, account), observe_command(observation, receipt=receipt))


def a_sender(account: str = ACCOUNT, provider: str = "provider-1") -> Sender:
    return Sender(account, provider, NAMES)


def a_registration(channel: Channel = Channel.SMS, **told: Any) -> Registration:
    """Return a message as the sender knows it, without the provider's id unless one is given."""
    details = {"recipient": "+15550100", "client_reference": "order-1"}
    details |= {name: told.pop(name) for name in tuple(told) if name in RegisteredDetails.__struct_fields__}
    return Registration(channel=channel, details=RegisteredDetails(**details), **told)


def registered(name: bytes, registration: Registration | None = None, account: str = ACCOUNT) -> tuple[Job, UUID]:
    """Return the job that registers a message, and the stream that the registration opens or joins."""
    sender, registration = a_sender(account), registration or a_registration()
    stream_id = sender.stream_of(registration, name)
    return sender.register(stream_id, registration, name, at(0)), stream_id


def statements_of(jobs: Iterable[Job]) -> list[Statement]:
    return [statement for job in jobs for statement in job.statements]
