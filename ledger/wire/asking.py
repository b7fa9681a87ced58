"""What questions to providers have in common: how they prove who asks, and how their addresses are made.

A question is a GET below the account's `base_url`. What goes into its path is quoted here, whatever the provider's ids
look like; what proves who asks is a `Secret` from the beginning.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from msgspec import Raw

from ledger.wire import decoding
from ledger.wire.contract import Malformed, Polling, Secret

_TARGET_MAX: Final = 4_096


def basic(polling: Polling, user: str | None = None) -> tuple[tuple[str, Secret], ...]:
    """Return the header of a question that is asked with a name and a password."""
    name = polling.user or user or ""
    pair = name.encode() + b":" + polling.secret.reveal()
    return (("authorization", Secret(b"Basic " + b64encode(pair))),)


def token(polling: Polling, scheme: str = "Bearer") -> tuple[tuple[str, Secret], ...]:
    """Return the header of a question that is asked with a token, under the scheme that the provider wants."""
    return (("authorization", Secret(f"{scheme} ".encode() + polling.secret.reveal())),)


def path(*segments: str) -> str:
    """Return a path of these segments; no character of one can begin another."""
    return "".join([f"/{quote(segment, safe='')}" for segment in segments])


def query(parameters: Mapping[str, str]) -> str:
    return f"?{urlencode(parameters)}"


def whole(body: bytes) -> Raw:
    """Return an answer that is one JSON object. Raises Malformed for any other."""
    if body.lstrip()[:1] != b"{":
        raise Malformed("answer: not an object")
    (item,) = decoding.json_items(body)
    return item


def anything(body: bytes) -> object:
    """Return what an answer holds, of whatever kind; None if it cannot be read."""
    return decoding.loose(Raw(body))


def next_target(told: object, polling: Polling) -> str | None:
    """Return the target of a next page that an answer names, as an address or as a path; None if there is none.

    Whatever host it names, only path and query are followed: a question and its secret go to `base_url` alone.
    """
    if not isinstance(told, str) or not 0 < len(told) <= _TARGET_MAX:
        return None
    try:
        parts = urlsplit(told)
    except ValueError:
        return None
    base = urlsplit(polling.base_url).path
    own = parts.path.removeprefix(base) if base else parts.path
    if not own.startswith("/") or not told.isascii() or not told.isprintable() or " " in told:
        return None
    return f"{own}?{parts.query}" if parts.query else own
