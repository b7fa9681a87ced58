"""What somebody said about one message, as received: the value every provider adapter produces.

An observation is never refused. Fields that a provider did not send are absent, not guessed; the provider's own words
are kept verbatim beside what we understood.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from ledger.domain.status import Channel, FailureKind, Status


class Source(StrEnum):
    CALLBACK = "callback"  #: the provider called us
    POLL = "poll"  #: we asked the provider
    SENDER = "sender"  #: the sending side told us
    REREAD = "reread"  #: stored evidence read again under a newer vocabulary


class Claim(msgspec.Struct, frozen=True):
    """What a provider's word means in our vocabulary. `Claim(Status.UNKNOWN)` says nothing about the status."""

    status: Status
    kind: FailureKind | None = None  #: only with FAILED
    closes: bool = False  #: the provider says that no further report will come


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Which part of a long message, from 1, of how many."""

    number: int
    count: int


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One statement about one message to one recipient."""

    reference: str  #: identifies one message to one recipient as the provider knows it; never empty
    provider_message_id: str  #: what a person would search for; shared by recipients at some providers
    provider_status: str  #: verbatim, never empty
    claim: Claim
    occurred_at: datetime | None = None  #: the provider's clock, aware UTC; absent where it gives no instant
    event_id: str | None = None  #: names the event across resends; a delivery id does not belong here
    date_text: str | None = None  #: the provider's own date text where it is not an instant (no zone)
    error_code: str | None = None  #: first code, as text; may accompany a message that has not failed
    error_text: str | None = None  #: the provider's own words for the error, the most detailed it sent
    channel: Channel | None = None  #: absent: the account's default
    transport: str | None = None  #: e.g. "rcs" inside channel sms
    recipient: str | None = None  #: "+digits" if it is a phone number, else as sent
    recipient_raw: str | None = None  #: exactly as sent
    recipient_user_id: str | None = None  #: an identifier that is not a phone number (business-scoped id)
    participant: str | None = None  #: the member of a group this is about
    provider_account: str | None = None  #: which of the customer's accounts or numbers, as the provider names it
    part: int | None = None  #: which part of a long message this is about, from 1; absent: all of it
    parts: int | None = None  #: of how many, where the provider reports parts one by one
    client_reference: str | None = None  #: what the sender attached to the message and the provider echoed
    item: bytes = b""  #: the provider's own item, verbatim: the evidence
