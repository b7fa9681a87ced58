"""The facts that are recorded, in the past tense.

Shapes are permanent. A stored event is named by `NAMES` and never by a module path; a changed shape is a new name with
an upcast from the old one (`ledger.store.mapper`). `personal` is sealed under the message's own key before it is
stored: everything in it disappears when that key is deleted, everything outside it stays.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from ledger.domain.observation import Source
from ledger.domain.status import Channel, FailureKind, Outcome, Status, Verdict

#: Version of the vocabulary tables and of the verdict table under which a claim was read.
RULES_VERSION: Final = 1


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Common to all: which account's message this is about."""

    account: str
    provider: str
    channel: Channel


class ObservedDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an observation says about a person, or says in the provider's free text."""

    provider_message_id: str = ""
    provider_status: str = ""  #: verbatim
    error_text: str | None = None
    recipient: str | None = None
    recipient_raw: str | None = None
    recipient_user_id: str | None = None
    participant: str | None = None
    client_reference: str | None = None
    item: bytes = b""  #: the provider's own item, verbatim (setting LEDGER_EVIDENCE=full)


class StatusObserved(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody said something about a message."""

    key: bytes  #: 16 bytes; equal key = same observation, whatever the transport
    source: Source
    claim: Status
    kind: FailureKind | None = None
    closes: bool = False
    recognised: bool = True  #: whether the word stood in the provider's table
    verdict: Verdict
    skipped: tuple[Status, ...] = ()
    status_before: Status
    status_after: Status
    kind_after: FailureKind | None = None
    occurred_at: datetime | None = None  #: as told
    believed: bool = True  #: whether `occurred_at` lies in the window of belief; decided once, at receipt
    received_at: datetime
    event_id: str | None = None
    date_text: str | None = None
    error_code: str | None = None
    transport: str | None = None
    provider_account: str | None = None
    request_digest: bytes  #: SHA-256 of the whole request body
    item_digest: bytes  #: keyed digest of the item
    rules: int = RULES_VERSION
    personal: ObservedDetails = ObservedDetails()


class RegisteredDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    provider_message_id: str | None = None
    recipient: str | None = None
    client_reference: str | None = None
    conversation_id: str | None = None
    conversation_part_id: str | None = None
    metadata: dict[str, str] = {}


class MessageRegistered(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The sender told us about a message."""

    registration: bytes  #: 16 bytes; equal = the same registration sent again
    queued_at: datetime | None = None
    received_at: datetime
    personal: RegisteredDetails = RegisteredDetails()


class MessageLinked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Hand-off: the sender's stream and the provider's stream tell of one message. Recorded in both."""

    other: UUID  #: the other stream
    leads: bool  #: True in the provider's stream, which speaks for the message from now on
    other_message_id: int | None = None  #: in the leading stream: the id that the sender was given
    received_at: datetime
    personal: RegisteredDetails = RegisteredDetails()


class StatusCorrected(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An attributed decision on an open conflict: the only way out of an outcome."""

    correction: bytes = b""  #: 16 bytes; equal = the same decision sent again
    to: Outcome
    by: str
    why: str
    relied_on: tuple[int, ...] = ()  #: positions of the claims
    status_before: Status
    status_after: Status
    kind_after: FailureKind | None = None
    received_at: datetime


AnyEvent = StatusObserved | MessageRegistered | MessageLinked | StatusCorrected

#: Permanent names in the log.
NAMES: Final[dict[type[AnyEvent], str]] = {
    StatusObserved: "observed.v1",
    MessageRegistered: "registered.v1",
    MessageLinked: "linked.v1",
    StatusCorrected: "corrected.v1",
}
