"""Any sender that follows Standard Webhooks: an in-house system, or a provider without an adapter. Read on 2026-11-21:

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
https://docs.svix.com/receiving/verifying-payloads/how-manual

What identifies a message, where its status is and what its words mean is told by the account's options, so that a new
sender works by configuration alone. What identifies a report across resends: the header `webhook-id`. Whose clock: the
field that the options name; `webhook-timestamp` is the time of the attempt and only limits how old a signature may be.
Order and duplicates: up to the sender. What proves a request is told in `ledger.wire.standard`.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property, partial
from typing import Annotated, Final

import msgspec
from msgspec import Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import channels, decoding, instants, paths, standard
from ledger.wire.contract import Account, Parsed, Provider, Webhook, claim_of
from ledger.wire.decoding import ABSENT, loose


class Meaning(StrEnum):
    """What an account may say that a word means."""

    NOTHING = "nothing"
    QUEUED = "queued"
    SENT = "sent"
    CLOSED = "closed"  #: sent, and no further report will come
    DELIVERED = "delivered"
    READ = "read"
    DELETED = "deleted"
    FAILED = "failed"
    UNDELIVERED = "undelivered"


MEANINGS: Final[Mapping[Meaning, Claim]] = {
    Meaning.NOTHING: Claim(Status.UNKNOWN),
    Meaning.QUEUED: Claim(Status.QUEUED),
    Meaning.SENT: Claim(Status.SENT),
    Meaning.CLOSED: Claim(Status.SENT, closes=True),
    Meaning.DELIVERED: Claim(Status.DELIVERED),
    Meaning.READ: Claim(Status.READ),
    Meaning.DELETED: Claim(Status.DELETED),  # by the recipient, after delivery
    Meaning.FAILED: Claim(Status.FAILED, FailureKind.FAILED),
    Meaning.UNDELIVERED: Claim(Status.FAILED, FailureKind.UNDELIVERED),
}

#: Words that need no explanation. An account's own come first.
CLAIMS: Final[Mapping[str, Claim]] = {
    "unknown": MEANINGS[Meaning.NOTHING],
    "queued": MEANINGS[Meaning.QUEUED],
    "sent": MEANINGS[Meaning.SENT],
    "delivered": MEANINGS[Meaning.DELIVERED],
    "read": MEANINGS[Meaning.READ],
    "deleted": MEANINGS[Meaning.DELETED],
    "failed": MEANINGS[Meaning.FAILED],
    "undelivered": MEANINGS[Meaning.UNDELIVERED],
}


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Paths to what we want to know. One that begins with `$` starts at the body, any other at the item."""

    message_id: str = "data.message_id"
    status: str = "data.status"
    occurred_at: str = "$.timestamp"
    recipient: str = "data.to"
    error_code: str = "data.error.code"
    error_text: str = "data.error.message"
    channel: str = "data.channel"
    client_reference: str = "data.client_reference"

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            try:
                paths.parse(getattr(self, name))
            except ValueError as problem:
                raise ValueError(f"{name} {problem}") from None

    @cached_property
    def of_body(self) -> paths.Finder:
        return self._finder(lambda path: path.startswith("$"))

    @cached_property
    def of_item(self) -> paths.Finder:
        return self._finder(lambda path: not path.startswith("$"))

    @cached_property
    def of_both(self) -> paths.Finder:
        """Finds everything, where the body is the item."""
        return self._finder(lambda _: True)

    def _finder(self, is_meant: Callable[[str], bool]) -> paths.Finder:
        told = {name: getattr(self, name) for name in self.__struct_fields__}
        return paths.Finder({name: paths.parse(path) for name, path in told.items() if is_meant(path)})


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    fields: Fields = Fields()
    items: str | None = None  #: path to a list; each element is a report. Absent: the body is one
    words: dict[str, Meaning] = {}  #: the sender's words, in any case
    others: frozenset[str] = frozenset()  #: words, in any case, of what is not about a message from us
    shared_ids: bool = False  #: recipients share a message id, so they are part of the reference
    utc: bool = False  #: times without a zone are UTC
    age_seconds_max: Annotated[int, msgspec.Meta(ge=60, le=604_800)] = 300

    def __post_init__(self) -> None:
        if self.items is not None:
            paths.parse(self.items)

    @cached_property
    def age_max(self) -> timedelta:
        return timedelta(seconds=self.age_seconds_max)

    @cached_property
    def listing(self) -> paths.Finder | None:
        return None if self.items is None else paths.Finder({"items": paths.parse(self.items)})

    @cached_property
    def claims(self) -> Mapping[str, Claim]:
        return {**CLAIMS, **{word.strip().lower(): MEANINGS[meaning] for word, meaning in self.words.items()}}

    @cached_property
    def other_words(self) -> frozenset[str]:
        return frozenset(word.strip().lower() for word in self.others)


_list: Final = decoding.json_reader(list[Raw], "items")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read the report in the body, or one in each item. Raises Malformed where there are none."""
    options, body = _options(account), webhook.body
    items = decoding.json_items(body)
    name = decoding.word((standard.id_of(webhook) or b"").decode("latin-1"))
    if options.listing is not None:
        items = _list(options.listing.find(body).get("items", ABSENT))
    elif decoding.is_object(webhook):
        return decoding.single(body, lambda: _Reading(options).observation(name, items[0]))
    batch, reading = decoding.Batch(), _Reading(options, body)
    for number, item in enumerate(items):
        event_id = f"{name}#{number}" if name and len(items) > 1 else name
        batch.observe((item,), partial(reading.observation, event_id))
    return batch.parsed()


def whole(item: bytes, account: Account) -> bytes:
    """Return a body with this item alone, where the account's options have the items."""
    items = _options(account).items
    return item if items is None else paths.put(paths.parse(items), b"[" + item + b"]")


def _values(finder: paths.Finder, data: bytes | Raw) -> dict[str, object]:
    return {name: loose(raw) for name, raw in finder.find(data).items()}


class _Reading:
    """Reads the items of one request as an account's options say."""

    def __init__(self, options: Options, around: bytes | None = None) -> None:
        """`around` is the body that has the items in it; absent where the body is the only one."""
        self._options = options
        self._of_body = {} if around is None else _values(options.fields.of_body, around)
        self._finder = options.fields.of_both if around is None else options.fields.of_item

    def observation(self, event_id: str | None, raw: Raw) -> Observation | None:
        options, fields = self._options, self._options.fields
        told = {**self._of_body, **_values(self._finder, raw)}.get
        word = decoding.required(decoding.word(told("status")), fields.status)
        if word.strip().lower() in options.other_words:
            return None
        message_id = decoding.required(decoding.identifier(told("message_id")), fields.message_id)
        address = decoding.identifier(told("recipient"))
        number = decoding.recipient(address)
        reference = message_id
        if options.shared_ids:
            reference = decoding.shared_reference(message_id, decoding.required(number, fields.recipient))
        channel, transport = channels.place_of(told("channel"))
        return Observation(
            reference=reference,
            provider_message_id=message_id,
            provider_status=word,
            claim=claim_of(options.claims, word),
            occurred_at=self._instant(told("occurred_at")),
            event_id=event_id,
            error_code=decoding.identifier(told("error_code")),
            error_text=decoding.text(told("error_text")),
            channel=channel,
            transport=transport,
            recipient=number,
            recipient_raw=address,
            client_reference=decoding.text(told("client_reference")),
            item=bytes(raw),
        )

    def _instant(self, value: object) -> datetime | None:
        return (instants.iso8601_utc if self._options.utc else instants.iso8601)(value) or instants.unix(value)


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check one of the signatures, no older than the account's options allow."""
    return standard.is_authentic(webhook, account, _options(account).age_max)


def reference_of(account: Account, channel: Channel, message_id: str, recipient: str | None) -> str:
    """Name a message by id and recipient if the account's options say that recipients share an id."""
    if recipient is None or not _options(account).shared_ids:
        return message_id
    return decoding.shared_reference(message_id, recipient)


_DEFAULT: Final = Options()


def _options(account: Account) -> Options:
    return account.options if isinstance(account.options, Options) else _DEFAULT


PROVIDER: Final = Provider(
    name="standardwebhooks",
    channels=frozenset(Channel),
    content_types=frozenset({"application/json"}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    whole=whole,
    options=Options,
    check_secret=standard.check_secret,
    signed_text=standard.signed_text,
    reference_of=reference_of,
)
