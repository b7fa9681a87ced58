"""The facts that are recorded, in the past tense.

Shapes are permanent. A stored event is named by `NAMES` and never by a module path; a changed shape is a new name with
an upcast from the old one (`ledger.store.mapper`). `personal` is sealed under the message's own key before it is
stored: everything in it disappears when that key is deleted, everything outside it stays.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from ledger.domain.observation import Part, Source
from ledger.domain.status import Channel, FailureKind, Outcome, Status, Verdict

#: Version of the vocabulary tables and of the verdict table under which a claim was read.
RULES_VERSION: Final = 1


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Common to all: which account's message this is about."""

    account: str
    provider: str
    channel: Channel


class ObservedDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an observation says about a person, or says in the provider's free text.

    Ids and addresses that the message is known by already are not repeated: what is absent is as it was.
    """

    provider_message_id: str = ""
    provider_status: str = ""  #: verbatim
    error_text: str | None = None
    recipient: str | None = None
    recipient_raw: str | None = None  #: as sent, where that is more than `recipient` with or without its plus sign
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
    part: Part | None = None  #: `claim` is about this part alone; the message's status is that of its last part
    country: str | None = None  #: ISO 3166, of the recipient's number, in the event that first tells it
    request_digest: bytes  #: SHA-256 of the whole request body
    item_digest: bytes  #: keyed digest of the item, 16 bytes (32 in events of before)
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
    country: str | None = None
    received_at: datetime
    personal: RegisteredDetails = RegisteredDetails()


class MessageLinked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Hand-off: the sender's stream and the provider's stream tell of one message. Recorded in both."""

    other: UUID  #: the other stream
    leads: bool  #: True in the provider's stream, which speaks for the message from now on
    other_message_id: int | None = None  #: in the leading stream: the id that the sender was given
    country: str | None = None
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


class MessageErased(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The message's data key was deleted: what identifies a person can be read in no event before this one."""

    erasure: bytes  #: 16 bytes: names the certificate
    by: str
    why: str
    received_at: datetime


AnyEvent = StatusObserved | MessageRegistered | MessageLinked | StatusCorrected | MessageErased

#: Permanent names in the log: under which events are recorded today. Earlier names are read for ever.
NAMES: Final[dict[type[AnyEvent], str]] = {
    StatusObserved: "observed.v2",
    MessageRegistered: "registered.v1",
    MessageLinked: "linked.v1",
    StatusCorrected: "corrected.v1",
    MessageErased: "erased.v1",
}
