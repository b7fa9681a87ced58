"""JSON Web Tokens that sign a callback with a shared secret.

Total over any bytes. The algorithms are the caller's choice and never the token's: "none", a public-key algorithm and
a token that demands an extension are refused before anything is computed.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import msgspec

from ledger.wire import signature
from ledger.wire.signature import Algorithm

ALGORITHMS: Final[Mapping[str, Algorithm]] = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
#: Bytes of a token. Those of providers have about 400.
TOKEN_BYTES_MAX: Final = 8_192
#: Claims with a meaning of their own, all of them instants.
ISSUED, NOT_BEFORE, EXPIRES = "iat", "nbf", "exp"

Claims = Mapping[str, object]
_NUMBER: Final = (int, float)


def claims_of(token: bytes, secrets: Iterable[bytes], allowed: Collection[str]) -> Claims | None:
    """Return the claims of a token that one of the secrets signed by one of the allowed algorithms; None otherwise."""
    head, _, given = token.rpartition(b".")
    header, _, payload = head.partition(b".")
    name = _algorithm(header) if len(token) <= TOKEN_BYTES_MAX else None
    if name is None or name not in allowed:
        return None
    algorithm = ALGORITHMS[name]
    expected = (_encoded(signature.hmac_raw(secret, head, algorithm)) for secret in secrets)
    return _decoded(payload) if signature.matches_any(expected, [given]) else None


@lru_cache(64)  # an issuer's tokens all have the same header
def _algorithm(header: bytes) -> str | None:
    """Return the algorithm that a token's header names; None for one that is not known, or demands an extension."""
    told = _decoded(header)
    name = None if told is None or "crit" in told else told.get("alg")
    return name if isinstance(name, str) and name in ALGORITHMS else None


def is_current(claims: Claims, received_at: datetime, leeway: timedelta = timedelta()) -> bool:
    """Tell whether a token is past its beginning and not past its end, as far as it has either."""
    if NOT_BEFORE not in claims and EXPIRES not in claims:
        return True
    now, slack = received_at.timestamp(), leeway.total_seconds()
    begins, ends = claims.get(NOT_BEFORE, 0), claims.get(EXPIRES, now + 1)
    if not isinstance(begins, _NUMBER) or not isinstance(ends, _NUMBER):
        return False
    return begins <= now + slack and ends > now - slack


def names_digest(claims: Claims, name: str, content: bytes) -> bool:
    """Tell whether a claim is the SHA-256 digest of some content, in hexadecimal."""
    digest = claims.get(name)
    return isinstance(digest, str) and signature.is_equal(
        signature.sha256_hex(content), digest.lower().encode("utf-8", "replace")
    )


def _encoded(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _decoded(part: bytes) -> dict[str, object] | None:
    try:
        value = msgspec.json.decode(urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (ValueError, RecursionError, OverflowError):  # bad base64, bad JSON, hostile JSON
        return None
    return value if isinstance(value, dict) else None
