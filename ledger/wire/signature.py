"""Message authentication as providers use it: HMAC in hex or base64, compared in constant time, with several secrets.

Total over any bytes: nothing here raises. Signatures are compared as bytes, because comparing text raises on a header
with a non-ASCII character. An empty secret signs nothing and an empty signature matches nothing: a secret that was
left blank in a configuration must not turn authentication off.
"""

import hmac
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Literal

from ledger.wire.contract import Secret

Algorithm = Literal["sha256", "sha1"]


def hmac_hex(secret: bytes, message: bytes, algorithm: Algorithm = "sha256") -> bytes:
    """Sign in lower-case hexadecimal."""
    return hmac.digest(secret, message, algorithm).hex().encode()


def hmac_base64(secret: bytes, message: bytes, algorithm: Algorithm = "sha256") -> bytes:
    """Sign in standard base64 with padding."""
    return b64encode(hmac.digest(secret, message, algorithm))


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
    if not given:
        return False
    return any(is_equal(candidate, value) for candidate in expected for value in given)
