"""Message authentication as providers use it: HMAC in hex or base64, compared in constant time, with several secrets.

How old a signature may be is a matter of the scheme: a few minutes where every attempt is signed anew, as long as a
provider goes on repeating where a repeat may carry the signature of the first attempt.

Total over any bytes: nothing here raises. Signatures are compared as bytes, because comparing text raises on a header
with a non-ASCII character. An empty secret signs nothing and an empty signature matches nothing: a secret that was
left blank in a configuration must not turn authentication off.
"""

import hmac
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal

from ledger.wire.contract import Secret

Algorithm = Literal["sha256", "sha384", "sha512", "sha1", "md5"]

#: How far ahead of ours a provider's clock may be.
AHEAD_MAX: Final = timedelta(minutes=5)
#: Of an instant in a header: more than it takes, with room for leading zeros.
_DIGITS_MAX: Final = 20


def hmac_raw(secret: bytes, message: bytes, algorithm: Algorithm = "sha256") -> bytes:
    """Sign; return the digest as it is."""
    signing = _signing(secret, algorithm).copy()
    signing.update(message)
    return signing.digest()


def hmac_hex(secret: bytes, message: bytes, algorithm: Algorithm = "sha256") -> bytes:
    """Sign in lower-case hexadecimal."""
    return hmac_raw(secret, message, algorithm).hex().encode()


@lru_cache(256)
def _signing(secret: bytes, algorithm: Algorithm) -> hmac.HMAC:
    """Return the beginning of every signature under a secret: making it anew would cost as much as the rest."""
    return hmac.new(secret, digestmod=algorithm)


def hmac_base64(secret: bytes, message: bytes, algorithm: Algorithm = "sha256") -> bytes:
    """Sign in standard base64 with padding."""
    return b2a_base64(hmac_raw(secret, message, algorithm), newline=False)


def sha256_hex(message: bytes) -> bytes:
    """Digest in lower-case hexadecimal."""
    return sha256(message).hexdigest().encode()


def usable(secrets: Iterable[Secret]) -> list[bytes]:
    """Return what may sign: every secret that is not empty."""
    return [value for secret in secrets if (value := secret.reveal())]


def is_equal(expected: bytes, given: bytes) -> bool:
    """Compare in constant time. Nothing equals an empty expectation."""
    return bool(expected) and hmac.compare_digest(expected, given)


def matches_any(expected: Iterable[bytes], given: Sequence[bytes]) -> bool:
    """Tell whether one of the given signatures is one of the expected.

    `expected` may be a generator: without a given signature nothing is computed, and each candidate only once however
    many signatures a request carries.
    """
    if given:
        for candidate in expected:
            for value in given:
                if is_equal(candidate, value):
                    return True
    return False


def unbase64(text: bytes) -> bytes | None:
    """Decode standard base64 with padding; None for any other spelling, of which a lax decoder would accept many."""
    try:
        decoded = a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    return decoded if b2a_base64(decoded, newline=False) == text else None


def is_fresh(signed_at: datetime | None, received_at: datetime, age_max: timedelta) -> bool:
    """Tell whether a signature of this instant may still be used. One without an instant may not."""
    return signed_at is not None and -AHEAD_MAX <= received_at - signed_at <= age_max


def is_fresh_at(signed_at: bytes | None, received_at: datetime, age_max: timedelta) -> bool:
    """Tell the same of a signature whose instant a header has in Unix seconds. Other spellings are no instants."""
    if signed_at is None or len(signed_at) > _DIGITS_MAX or not signed_at.isdigit():
        return False
    age = received_at.timestamp() - int(signed_at)
    return -AHEAD_MAX.total_seconds() <= age <= age_max.total_seconds()
