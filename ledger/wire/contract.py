"""What a provider adapter is written against.

An adapter is three total functions and a table. `authenticate` answers yes or no for any headers and any bytes.
`parse` returns what the request says, or raises `Malformed` when nothing in it can be read. Neither does input or
output, reads a clock or logs. One unreadable item never costs its neighbours: it goes to `Parsed.unreadable`.
"""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, Status

#: A word no table knows.
UNRECOGNISED: Final = Claim(Status.UNKNOWN)


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


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One of the customer's accounts at a provider, as configured."""

    name: str  #: [a-z0-9-]{1,40}; stable for life, part of every stream id
    provider: str
    channel: Channel  #: for observations that do not say
    secrets: tuple[Secret, ...]  #: several during rotation; any of them may sign
    public_url: str  #: as the provider calls it, without user info and fragment
    verify_token: Secret | None = None
    conflicts: str = "keep"  #: or "delivery-wins"


class Headers:
    """Request headers by lower-case name. Repeated headers keep every value: a signature must match one of them."""

    __slots__ = ("_values",)

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in raw:
            self._values.setdefault(name.lower(), []).append(value)

    def all(self, name: str) -> list[bytes]:
        return self._values.get(name.encode(), [])

    def first(self, name: str) -> bytes | None:
        values = self._values.get(name.encode())
        return values[0] if values else None


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One inbound request, as received."""

    method: str
    url: str  #: the account's public URL with the request's raw query string appended verbatim
    query: bytes  #: raw, without "?"
    headers: Headers
    body: bytes

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


def claim_of(claims: Mapping[str, Claim], provider_word: str) -> Claim:
    """Look a word up, trimmed and case-insensitively. A word that is not in the table says nothing."""
    return claims.get(provider_word.strip().lower(), UNRECOGNISED)
