"""What a provider adapter is written against.

An adapter is three total functions and a table; where a provider can be asked, `Polls` says how. `authenticate`
answers yes or no for any headers and any bytes. `parse` returns what the request says, or raises `Malformed` when
nothing in it can be read. Neither does input or output, reads a clock or logs. One unreadable item never costs its
neighbours: it goes to `Parsed.unreadable`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, Status

#: A word no table knows. Compared by identity: a word that is known to say nothing has a claim of its own.
UNRECOGNISED: Final = Claim(Status.UNKNOWN)
#: When a request without a time of receipt came in. No signature is fresh by this clock.
NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)


class Malformed(ValueError):
    """Nothing in the request can be read. The text names the place and never quotes the payload."""


class Secret:
    """Bytes that print as stars. Equality is identity, so that no comparison of secrets is ever accidental."""

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        self._value = value.encode() if isinstance(value, str) else value

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__


class Polling(msgspec.Struct, frozen=True, kw_only=True):
    """How one account's provider may be asked, as configured."""

    base_url: str  #: scheme, host, port and perhaps a path; without a slash at its end
    secret: Secret  #: what the provider's API is called with
    user: str | None = None  #: what goes with the secret, where the provider wants two
    account: str | None = None  #: the provider's own name of the account, where its addresses hold one
    rate: float = 5.0  #: requests a second, by all pollers together
    concurrency: int = 4  #: requests at once, by all pollers together
    timeout_seconds: float = 10.0  #: for a whole answer
    days: int = 14  #: a message is asked about no longer than this after the last news of it
    walks: bool = True  #: whether lists are walked, where the provider has any


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One of the customer's accounts at a provider, as configured."""

    name: str  #: [a-z0-9-]{1,40}; stable for life, part of every stream id
    provider: str
    channel: Channel  #: for observations that do not say
    secrets: tuple[Secret, ...]  #: several during rotation; any of them may sign
    public_url: str  #: as the provider calls it, without user info and fragment
    verify_token: Secret | None = None
    conflicts: str = "keep"  #: or "delivery-wins"
    expected_seconds: int | None = None  #: a message that is silent for longer is stuck; None: learned
    options: msgspec.Struct | None = None  #: an instance of the provider's `options`; None where it has none
    #: Returns the PEM certificate at an address that the adapter has approved, or None while it is not at hand; never
    #: waits. Absent: there is no way to get one.
    certificates: Callable[[str], bytes | None] | None = None
    poll: Polling | None = None  #: None: the provider is not asked


class Headers:
    """Request headers, names in lower case. Repeated headers keep every value: a signature must match one of them."""

    __slots__ = ("_values",)

    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in raw:
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[bytes]:
        return self._values.get(name.encode(), [])

    def first(self, name: str) -> bytes | None:
        found = self._values.get(name.encode())
        return None if found is None else found[0]

    def media_type(self) -> str | None:
        """Return what the body is, lower case, without parameters; None if nobody says."""
        told = self.first("content-type")
        return None if told is None else _media_type(told)


@lru_cache(64)  # there are few
def _media_type(content_type: bytes) -> str:
    return content_type.split(b";", 1)[0].strip().lower().decode("latin-1")


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One inbound request, as received."""

    method: str
    url: str  #: the account's public URL with the request's raw query string appended verbatim
    query: bytes  #: raw, without "?"
    headers: Headers
    body: bytes
    received_at: datetime = NEVER  #: our clock, aware UTC; only to judge how old a signature is

    @property
    def content(self) -> bytes:
        """What the request says: its body, or the raw query string of a GET."""
        return self.query if self.method == "GET" else self.body

    def parameter(self, name: str) -> str | None:
        """Return the first query parameter of that name, decoded; None if absent."""
        pairs = parse_qsl(self.query.decode("latin-1"), keep_blank_values=True, errors="replace")
        return next((value for key, value in pairs if key == name), None)


class Unreadable(msgspec.Struct, frozen=True):
    """One item of a request that could not be read; it is captured, its neighbours are recorded."""

    reason: str  #: names the place and the problem, never quotes the payload
    item: bytes


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """What one request says."""

    observations: tuple[Observation, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    alerts: tuple[str, ...] = ()  #: error codes about the account itself, not about a message
    ignored: int = 0  #: items that are not about an outbound message (inbound messages, calls)
    #: An address whose opening confirms a subscription. Set only after signature and host were checked.
    confirm_url: str | None = None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a message that the provider is to be asked about."""

    provider_message_id: str
    recipient: str | None = None
    participant: str | None = None
    provider_account: str | None = None
    channel: Channel


class Ask(msgspec.Struct, frozen=True):
    """One question: a GET. Header values are secrets, so that none is ever printed."""

    target: str  #: path and query, below the account's `base_url`; begins with a slash
    headers: tuple[tuple[str, Secret], ...] = ()


class Page(msgspec.Struct, frozen=True):
    """One page of a list of messages, and where the next one is."""

    parsed: Parsed
    next: str | None  #: a `target`


class Walk(msgspec.Struct, frozen=True):
    """How a provider's list of messages is read, a page at a time."""

    first: Callable[[date, Polling], Ask]  #: the first page of what was sent on this day or later
    follow: Callable[[str, Polling], Ask]  #: the page at a target that `read` returned
    read: Callable[[bytes, Account], Page]  #: raises Malformed


class Fault(StrEnum):
    """What an answer that is no 200 says, where its body knows better than its status."""

    THROTTLED = "throttled"
    REFUSED = "refused"  #: our credentials
    MISSING = "missing"  #: no such message
    FAILED = "failed"  #: the provider's own trouble: to be asked again


class Polls(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider is asked about a message. Pure, as all of an adapter: the poller does the asking."""

    base_url: str
    #: Returns the question about a message, or None if it cannot be asked about.
    ask: Callable[[Known, Polling], Ask | None]
    #: Returns what an answer with status 200 says. Raises Malformed.
    read: Callable[[bytes, Known, Account], Parsed]
    needs: frozenset[str] = frozenset()  #: which of `user` and `account` must be configured
    once: bool = False  #: a report is told one time only: the answer is kept before it is read
    walk: Walk | None = None
    fault: Callable[[bytes], Fault | None] = lambda _body: None  #: reads the body of an answer that is no 200


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter, as the registry lists it."""

    name: str
    channels: frozenset[Channel]  #: channels an account of this provider may have
    content_types: frozenset[str]  #: media types accepted in a POST, without parameters
    claims: Mapping[str, Claim]  #: the provider's words, lower case
    authenticate: Callable[[Webhook, Account], bool]
    parse: Callable[[Webhook, Account], Parsed]
    #: Answers a subscription handshake (GET) with the text to echo, or None to refuse. Absent: GET is not used.
    handshake: Callable[[Webhook, Account], str | None] | None = None
    methods: frozenset[str] = frozenset({"POST"})  #: of requests that carry reports
    needs_secrets: bool = True  #: False where what proves a request can be had from the provider
    #: Decoded strictly from the account's `options` table. Absent: the table is refused.
    options: type[msgspec.Struct] | None = None
    #: Tells that a request which is not authentic will be sent again, properly signed, if it is answered 503.
    asks_again: Callable[[Webhook, Account], bool] | None = None
    #: Says what is wrong with a secret for want of a proper form, without repeating it; None if nothing is.
    check_secret: Callable[[bytes, Account], str | None] | None = None
    #: Returns the bytes that the signature of a request is computed over; None for a request without any. No secret is
    #: in them. Absent: nothing is signed.
    signed_text: Callable[[Webhook, Account], bytes | None] | None = None
    #: Returns a request that holds nothing but one item of a batch: how kept items are read again. Absent: an item is
    #: a request already.
    whole: Callable[[bytes, Account], bytes] | None = None
    #: Returns the reference under which reports name a message of this channel, id and recipient. Absent: its id.
    reference_of: Callable[[Account, Channel, str, str | None], str] | None = None
    polls: Polls | None = None  #: absent: the provider cannot be asked


def claim_of(claims: Mapping[str, Claim], provider_word: str) -> Claim:
    """Look a word up, trimmed and case-insensitively. A word that is not in the table says nothing."""
    return claims.get(provider_word.strip().lower(), UNRECOGNISED)
