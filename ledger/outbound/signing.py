"""Signatures of what we send, as the Standard Webhooks specification has them:

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

Version v1: HMAC-SHA256 over id, time and body, joined by dots. While a secret is being replaced there is a signature
under each, so that a receiver may change over whenever it likes.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from datetime import datetime
from os import urandom
from typing import Final

from ledger.store.destinations import Signer
from ledger.wire import signature

PREFIX: Final = "whsec_"
_KEY_BYTES: Final = 32
_KEY_BYTES_ALLOWED: Final = range(24, 65)


def new_secret() -> str:
    return PREFIX + b64encode(urandom(_KEY_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the bytes that sign. Raises ValueError for a secret of another form, without repeating it."""
    if not re.fullmatch(r"whsec_[A-Za-z0-9+/]+={0,2}", secret):
        raise ValueError("must be whsec_ and base64")
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be whsec_ and base64") from None
    if len(key) not in _KEY_BYTES_ALLOWED:
        raise ValueError("must be whsec_ and the base64 form of 24 to 64 bytes")
    return key


def in_use(signers: Iterable[Signer], now: datetime) -> tuple[Signer, ...]:
    return tuple(each for each in signers if each.until is None or each.until > now)


def headers(signers: Iterable[Signer], id_: str, now: datetime, body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the three headers of a request that is sent now."""
    sent_at = str(int(now.timestamp())).encode()
    text = b".".join((id_.encode(), sent_at, body))
    signed = [b"v1," + signature.hmac_base64(key_of(each.secret), text) for each in in_use(signers, now)]
    return [
        (b"webhook-id", id_.encode()),
        (b"webhook-timestamp", sent_at),
        (b"webhook-signature", b" ".join(signed)),
    ]
