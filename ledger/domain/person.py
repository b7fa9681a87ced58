"""Who a message is to, as far as anybody has told. First known value wins."""

from typing import Final

import msgspec

from ledger.domain.events import ObservedDetails, RegisteredDetails


class Person(msgspec.Struct, frozen=True, array_like=True):
    """What identifies the recipient or comes from the sender. First known value wins; sealed when stored."""

    provider_message_id: str | None = None
    recipient: str | None = None
    recipient_user_id: str | None = None
    participant: str | None = None
    client_reference: str | None = None
    conversation_id: str | None = None
    conversation_part_id: str | None = None
    metadata: dict[str, str] = {}


NOBODY: Final = Person()


def meet(person: Person, told: ObservedDetails) -> Person:
    """Fill in what an observation knows and we did not."""
    if not (
        told.provider_message_id
        or told.recipient
        or told.recipient_user_id
        or told.participant
        or told.client_reference
    ):
        return person
    return Person(
        provider_message_id=person.provider_message_id or told.provider_message_id or None,
        recipient=person.recipient or told.recipient,
        recipient_user_id=person.recipient_user_id or told.recipient_user_id,
        participant=person.participant or told.participant,
        client_reference=person.client_reference or told.client_reference,
        conversation_id=person.conversation_id,
        conversation_part_id=person.conversation_part_id,
        metadata=person.metadata,
    )


def introduce(person: Person, told: RegisteredDetails) -> Person:
    """Fill in what the sender knows and we did not."""
    return Person(
        provider_message_id=person.provider_message_id or told.provider_message_id,
        recipient=person.recipient or told.recipient,
        recipient_user_id=person.recipient_user_id,
        participant=person.participant,
        client_reference=person.client_reference or told.client_reference,
        conversation_id=person.conversation_id or told.conversation_id,
        conversation_part_id=person.conversation_part_id or told.conversation_part_id,
        metadata={**told.metadata, **person.metadata},
    )
