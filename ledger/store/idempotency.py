"""Idempotency keys of registrations: which stream a key opened, and what came with it.

The claim is written before the registration. A process that dies between the two leaves a claim whose repetition
finishes the work: appending a registration is idempotent by itself.
"""

from typing import Final
from uuid import UUID

from ledger.store.application import Ledger

#: A key may be used again for something else after this long.
KEPT_HOURS: Final = 24


class KeyReused(Exception):
    """The idempotency key came with another request before."""


def claim(ledger: Ledger, account: str, key: bytes, fingerprint: bytes, stream_id: UUID) -> UUID:
    """Return the stream that this key stands for: the given one, or that of the first request.

    Raises KeyReused if the first request was a different one.
    """
    with ledger.reading() as cursor:
        cursor.execute(_CLAIM, (account, key, fingerprint, stream_id, KEPT_HOURS))
        row = cursor.execute(_READ, (account, key)).fetchone()
    if row is None or bytes(row[0]) != fingerprint:
        raise KeyReused("this Idempotency-Key came with a different request before")
    found: UUID = row[1]
    return found


def purge(ledger: Ledger) -> int:
    """Forget claims that have run out and return how many."""
    with ledger.reading() as cursor:
        return cursor.execute(_PURGE, (KEPT_HOURS,)).rowcount


_CLAIM: Final = b"""
INSERT INTO idempotency_claims AS c (account, key_hash, fingerprint, stream_id) VALUES (%s, %s, %s, %s)
ON CONFLICT (account, key_hash) DO UPDATE SET
    fingerprint = excluded.fingerprint, stream_id = excluded.stream_id, claimed_at = excluded.claimed_at
 WHERE c.claimed_at < clock_timestamp() - make_interval(hours => %s)
"""
_READ: Final = b"SELECT fingerprint, stream_id FROM idempotency_claims WHERE account = %s AND key_hash = %s"
_PURGE: Final = b"DELETE FROM idempotency_claims WHERE claimed_at < clock_timestamp() - make_interval(hours => %s)"
