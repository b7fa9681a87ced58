"""Signatures as the Standard Webhooks specification has them:

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

Version v1 is HMAC-SHA256 with secrets `whsec_…`, version v1a Ed25519 with public keys `whpk_…`; a request may carry
several signatures and an account may know several secrets of both kinds. The older header names begin with `svix`. An
id with a dot is refused, as the specification demands: the dot is what separates the signed parts.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

from ledger.wire import public_keys, signature
from ledger.wire.contract import Account, Webhook

SECRET, PUBLIC_KEY = b"whsec_", b"whpk_"


def is_authentic(webhook: Webhook, account: Account, age_max: timedelta) -> bool:
    """Check one of the signatures over id, time and body, no older than that."""
    told = _told(webhook)
    text = _signed_text(told, webhook.body)
    if text is None or not signature.is_fresh_at(told.timestamp, webhook.received_at, age_max):
        return False
    given = [each for value in told.signatures for each in value.split()]
    secrets = signature.usable(account.secrets)
    symmetric = (key for secret in secrets if (key := _secret(secret)))
    if signature.matches_any((b"v1," + signature.hmac_base64(key, text) for key in symmetric), given):
        return True
    return _is_signed_by_owner(text, given, [key for secret in secrets if (key := _public_key(secret))])


def _is_signed_by_owner(text: bytes, given: Sequence[bytes], keys: Sequence[bytes]) -> bool:
    signatures = (signature.unbase64(each.removeprefix(b"v1a,")) for each in given if each.startswith(b"v1a,"))
    return any(public_keys.ed25519_matches(keys, text, value) for value in signatures if value)


def signed_text(webhook: Webhook, account: Account) -> bytes | None:
    """Return id, time and body, joined by dots; None without an id, or with one that has a dot."""
    return _signed_text(_told(webhook), webhook.body)


def _signed_text(told: "_Told", body: bytes) -> bytes | None:
    if not told.id or not told.timestamp or b"." in told.id:
        return None
    return b".".join((told.id, told.timestamp, body))


def id_of(webhook: Webhook) -> bytes | None:
    """Return what identifies a request across its repetitions."""
    return _told(webhook).id


def check_secret(secret: bytes, account: Account) -> str | None:
    """Say what is wrong with a secret that neither version can use."""
    key = _public_key(secret)
    if secret.startswith(PUBLIC_KEY):
        return None if key and len(key) == 32 else "is no public key: whpk_ and the base64 form of 32 bytes"
    return None if _secret(secret) else "is no secret: whsec_ and the base64 form of 24 to 64 bytes"


class _Told(NamedTuple):
    """The three headers."""

    id: bytes | None
    timestamp: bytes | None
    signatures: Sequence[bytes]


def _told(webhook: Webhook) -> _Told:
    """Read the headers under the names that the request signs with; under the present ones if it does not."""
    headers = webhook.headers
    signatures = headers.all("webhook-signature")
    if not signatures and (older := headers.all("svix-signature")):
        return _Told(headers.first("svix-id"), headers.first("svix-timestamp"), older)
    return _Told(headers.first("webhook-id"), headers.first("webhook-timestamp"), signatures)


@lru_cache(256)
def _secret(configured: bytes) -> bytes | None:
    if configured.startswith(PUBLIC_KEY):
        return None
    encoded = configured.removeprefix(SECRET)
    return signature.unbase64(encoded + b"=" * (-len(encoded) % 4))


@lru_cache(256)
def _public_key(configured: bytes) -> bytes | None:
    return signature.unbase64(configured.removeprefix(PUBLIC_KEY)) if configured.startswith(PUBLIC_KEY) else None
