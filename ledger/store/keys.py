"""API keys. Only a keyed hash is stored; the key itself is shown once, when it is made.

Keys are 256 random bits, so a fast keyed hash is the right one: there is nothing to guess. Keys that were rotated or
revoked stay known, so that their holders are told so.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from os import urandom
from typing import Any, Final

import msgspec

from ledger.domain.status import Channel, Style
from ledger.store import arrays
from ledger.store.application import Ledger
from ledger.store.fiber import Gathering

PREFIX: Final = "slk_"


class KeyState(StrEnum):
    ACTIVE = "active"
    ROTATED = "rotated"  #: replaced by another key
    REVOKED = "revoked"  #: withdrawn


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    account: str
    channel: Channel
    status_style: Style
    state: KeyState
    created_at: datetime
    ended_at: datetime | None = None
    replaced_by: str | None = None


class UnknownKey(LookupError):
    """There is no key of that id, or it has ended already."""


class ApiKeys:
    """Creates, finds and ends keys. Every method raises StoreUnavailable."""

    def __init__(self, ledger: Ledger, deployment_secret: bytes) -> None:
        self._ledger = ledger
        self._gathering = Gathering(self._find)
        self._pepper = hmac.digest(deployment_secret, b"status-ledger api keys", "sha256")

    def create(self, account: str, channel: Channel, style: Style) -> tuple[ApiKey, str]:
        """Return the new key's record and the key, which is not stored."""
        id_, secret = _new_key()
        with self._ledger.reading() as cursor:
            row = cursor.execute(_CREATE, (id_, self._hash(secret), account, channel.value, style.value)).fetchone()
        return _key(row), secret

    def find(self, secret: str) -> ApiKey | None:
        """Return the record of a key, ended ones included."""
        return self._gathering.get(self._hash(secret))

    def _find(self, hashes: list[bytes]) -> list[ApiKey | None]:
        with self._ledger.reading() as cursor:
            rows = cursor.execute(_FIND, (arrays.byteas(list(set(hashes))),), prepare=True).fetchall()
        found = {row[0]: _key(row[1:]) for row in rows}
        return [found.get(hash_) for hash_ in hashes]

    def active(self, ids: Iterable[str]) -> set[str]:
        """Return those of these keys that have not ended."""
        with self._ledger.reading() as cursor:
            return {id_ for (id_,) in cursor.execute(_ACTIVE, ([*ids],))}

    def all(self) -> list[ApiKey]:
        with self._ledger.reading() as cursor:
            return [_key(row) for row in cursor.execute(_ALL)]

    def rotate(self, id_: str) -> tuple[ApiKey, str]:
        """Replace an active key; the old one answers the documented deprecated-key error. Raises UnknownKey."""
        new_id, secret = _new_key()
        with self._ledger.reading() as cursor:
            row = cursor.execute(_ROTATE, {"old": id_, "new": new_id, "hash": self._hash(secret)}).fetchone()
        if row is None:
            raise UnknownKey(id_)
        return _key(row), secret

    def revoke(self, id_: str) -> ApiKey:
        """End an active key. Raises UnknownKey."""
        with self._ledger.reading() as cursor:
            row = cursor.execute(_REVOKE, (id_,)).fetchone()
        if row is None:
            raise UnknownKey(id_)
        return _key(row)

    def _hash(self, secret: str) -> bytes:
        return hmac.digest(self._pepper, secret.encode("utf-8", "surrogatepass"), "sha256")


def _new_key() -> tuple[str, str]:
    return f"key_{urandom(6).hex()}", PREFIX + urlsafe_b64encode(urandom(32)).decode().rstrip("=")


def _key(row: Any) -> ApiKey:
    id_, account, channel, style, state, created_at, ended_at, replaced_by = row
    return ApiKey(
        id=id_,
        account=account,
        channel=Channel(channel),
        status_style=Style(style),
        state=KeyState(state),
        created_at=created_at,
        ended_at=ended_at,
        replaced_by=replaced_by,
    )


_CREATE: Final = b"""
INSERT INTO api_keys (id, hash, account, channel, status_style, state) VALUES (%s, %s, %s, %s, %s, 'active')
RETURNING id, account, channel, status_style, state, created_at, ended_at, replaced_by
"""
_FIND: Final = b"""
SELECT hash, id, account, channel, status_style, state, created_at, ended_at, replaced_by FROM api_keys
 WHERE hash = ANY(%s)
"""
_ACTIVE: Final = b"SELECT id FROM api_keys WHERE id = ANY(%s) AND state = 'active'"
_ALL: Final = b"""
SELECT id, account, channel, status_style, state, created_at, ended_at, replaced_by FROM api_keys
 ORDER BY created_at, id
"""
_ROTATE: Final = b"""
WITH old AS (
    SELECT * FROM api_keys WHERE id = %(old)s AND state = 'active' FOR UPDATE
), new AS (
    INSERT INTO api_keys (id, hash, account, channel, status_style, state)
    SELECT %(new)s, %(hash)s, account, channel, status_style, 'active' FROM old
    RETURNING id, account, channel, status_style, state, created_at, ended_at, replaced_by
), ended AS (
    UPDATE api_keys SET state = 'rotated', ended_at = clock_timestamp(), replaced_by = (SELECT id FROM new)
     WHERE id = (SELECT id FROM old)
)
SELECT * FROM new
"""
_REVOKE: Final = b"""
UPDATE api_keys SET state = 'revoked', ended_at = clock_timestamp() WHERE id = %s AND state = 'active'
RETURNING id, account, channel, status_style, state, created_at, ended_at, replaced_by
"""
