"""The status webhooks of the WhatsApp Cloud API, a shape that resellers forward as it is.

What identifies a message: `id` (a "wamid", which contains the recipient's number). A group message has one wamid and
one status a participant, so the participant is part of the reference. One request nests entries, changes and statuses,
mixed with inbound messages; every level is read item by item. Who sends the shape, and how they prove it, is a matter
of the adapters.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import FailureKind, Status
from ledger.wire import decoding, instants
from ledger.wire.contract import Account, Malformed, Parsed, claim_of
from ledger.wire.decoding import ABSENT, loose, member

CLAIMS: Final[Mapping[str, Claim]] = {
    "accepted": Claim(Status.QUEUED),  # send response and message history: before "sent"
    "sent": Claim(Status.SENT),  # left the WhatsApp servers
    "delivered": Claim(Status.DELIVERED),  # on the recipient's device
    "read": Claim(Status.READ),
    "played": Claim(Status.READ),  # a voice message was played for the first time; comes after "read"
    "deleted": Claim(Status.DELETED),  # by the recipient; older pages and the message history
    "failed": Claim(Status.FAILED, FailureKind.FAILED),
    "error": Claim(Status.FAILED, FailureKind.FAILED),  # the message history's word for "failed"
    "warning": Claim(Status.UNKNOWN),  # a catalogue item is missing; the message may still be delivered
}

Clock = Callable[[object], datetime | None]

#: Statuses that share the array and are not about a message: a payment "failed" must not fail the message.
OTHER_SUBJECTS: Final = frozenset({"payment", "call"})
#: Errors read of one status, and of one value.
ERRORS_MAX: Final = 100
#: Joins wamid and participant. A wamid is base64, so it cannot contain one.
PARTICIPANT_SEPARATOR: Final = "|"


class _Envelope(msgspec.Struct):
    entry: list[Raw]


class _Entry(msgspec.Struct):
    changes: list[Raw] | None = None


class _Change(msgspec.Struct):
    field: str | None = None
    value: Raw = ABSENT


class _Value(msgspec.Struct):
    metadata: Raw = ABSENT
    statuses: list[Raw] | None = None
    messages: Raw = ABSENT
    errors: Raw = ABSENT


class _Metadata(msgspec.Struct):
    phone_number_id: str | int | None = None


class _PlainValue(msgspec.Struct):
    """A value as it nearly always is: nothing in it needs a closer look."""

    metadata: _Metadata | None = None
    statuses: list[Raw] | None = None
    messages: Raw = ABSENT
    errors: Raw = ABSENT


class _PlainChange(msgspec.Struct):
    value: _PlainValue
    field: str | None = None


class _PlainEntry(msgspec.Struct):
    changes: list[_PlainChange]


class _PlainEnvelope(msgspec.Struct):
    entry: list[_PlainEntry]


class _Status(msgspec.Struct):
    id: str | int | None = None
    status: str | None = None
    type: str | None = None
    timestamp: str | int | None = None
    recipient_id: str | int | None = None  #: digits without plus, a group's id, or absent for a user known by name only
    recipient_type: str | None = None
    recipient_user_id: str | int | None = None
    recipient_participant_id: Raw = ABSENT  #: absent where the group was written to by user ids
    recipient_participant_user_id: Raw = ABSENT
    biz_opaque_callback_data: str | None = None
    errors: Raw = ABSENT


_plain: Final = decoding.json_reader(_PlainEnvelope, "body")
_envelope: Final = decoding.json_reader(_Envelope, "body")
_entry: Final = decoding.json_reader(_Entry, "entry[]")
_change: Final = decoding.json_reader(_Change, "changes[]")
_value: Final = decoding.json_reader(_Value, "changes[].value")
_status: Final = decoding.lenient_reader(_Status, "statuses[]")


def whole(item: bytes, _account: Account) -> bytes:
    """Return a request with this status alone."""
    return b'{"entry":[{"changes":[{"field":"messages","value":{"statuses":[' + item + b"]}}]}]}"


def parse(body: bytes, claims: Mapping[str, Claim] = CLAIMS, clock: Clock = instants.unix_seconds) -> Parsed:
    """Read every status of every change of every entry. Raises Malformed for a body without entries.

    `clock` reads `timestamp`: seconds, unless a reseller counts otherwise.
    """
    read = partial(_observation, claims=claims, clock=clock)
    batch = decoding.Batch()
    try:
        plain = _plain(body)
    except Malformed:
        _read_by_levels(body, batch, read)
        return batch.parsed()
    for entry in plain.entry:
        for change in entry.changes:
            if change.field and change.field != "messages":
                batch.ignored += 1
            else:
                told = change.value.metadata
                number = None if told is None else decoding.identifier(told.phone_number_id)
                _read_value(change.value, number, batch, read)
    return batch.parsed()


def _read_by_levels(body: bytes, batch: decoding.Batch, read: Callable[..., Observation | None]) -> None:
    """Read a body in which something is odd, item by item on every level."""
    for entry in batch.each(_envelope(body).entry, _entry):
        batch.ignored += entry.changes is None
        for value in batch.each(entry.changes or (), _messages_value):
            if value is None:
                batch.ignored += 1
            else:
                number = decoding.identifier(member(loose(value.metadata), "phone_number_id"))
                _read_value(value, number, batch, read)


def _read_value(
    value: _Value | _PlainValue, number: str | None, batch: decoding.Batch, read: Callable[..., Observation | None]
) -> None:
    if value.statuses:
        batch.observe(value.statuses, partial(read, number=number))
    if value.errors is not ABSENT:
        batch.alerts += [code for code, _ in _errors(value.errors) if code]
    if value.messages is not ABSENT:
        batch.ignored += decoding.count(value.messages)


def _messages_value(raw: Raw) -> _Value | None:
    """Return the value of a change about messages; None for any other field (calls have `statuses` of their own)."""
    change = _change(raw)
    if change.field and change.field != "messages":
        return None
    return _value(change.value)


def _observation(raw: Raw, *, number: str | None, claims: Mapping[str, Claim], clock: Clock) -> Observation | None:
    told = _status(raw)
    if told.type in OTHER_SUBJECTS:
        return None
    wamid = decoding.required(decoding.identifier(told.id), "statuses[].id")
    word = decoding.required(decoding.word(told.status), "statuses[].status")
    recipient = decoding.identifier(told.recipient_id)
    by_phone = _participant(told.recipient_participant_id)
    by_user_id = _participant(told.recipient_participant_user_id)
    participant = by_phone or by_user_id
    code, text = (None, None) if told.errors is ABSENT else next(iter(_errors(told.errors)), (None, None))
    return Observation(
        reference=f"{wamid}{PARTICIPANT_SEPARATOR}{participant}" if participant else wamid,
        provider_message_id=wamid,
        provider_status=word,
        claim=claim_of(claims, word),
        occurred_at=clock(told.timestamp),
        error_code=code,
        error_text=text,
        recipient=recipient if told.recipient_type == "group" else _plus(recipient),
        recipient_raw=recipient,
        recipient_user_id=decoding.identifier(told.recipient_user_id) or by_user_id,
        participant=participant,
        provider_account=number,
        client_reference=decoding.text(told.biz_opaque_callback_data),
        item=bytes(raw),
    )


def _participant(raw: Raw) -> str | None:
    """Return a member of a group. Raises Malformed for an unusable one: without it the status is another's."""
    if raw is ABSENT:
        return None
    value = loose(raw)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return decoding.required(decoding.identifier(value), "statuses[] participant")


def _plus(recipient: str | None) -> str | None:
    return recipient and (decoding.phone_number(recipient) or recipient)


def _errors(raw: Raw) -> list[tuple[str | None, str | None]]:
    """Return code and most detailed text of every error that has either. Titles change over time; codes do not."""
    errors = loose(raw)
    found: list[tuple[str | None, str | None]] = []
    for error in errors[:ERRORS_MAX] if isinstance(errors, list) else ():
        details = member(member(error, "error_data"), "details")
        texts = (decoding.text(value) for value in (details, member(error, "message"), member(error, "title")))
        code, text = decoding.identifier(member(error, "code")), next(filter(None, texts), None)
        if code or text:
            found.append((code, text))
    return found
