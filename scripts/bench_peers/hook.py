"""What both peers that take callbacks share: the signature, and as much of the body as they need.

Lean on purpose, as a good hand-written handler would be: one typed decoder, no defence against hostile input beyond
what the decoder gives.
"""

import hmac
from typing import Final

import msgspec

from scripts.bench_suite.callbacks import SECRET

_SECRET: Final = SECRET.encode()


class _Error(msgspec.Struct):
    code: int


class Status(msgspec.Struct):
    id: str
    status: str
    timestamp: str
    recipient_id: str
    errors: list[_Error] = []


class _Value(msgspec.Struct):
    statuses: list[Status] = []


class _Change(msgspec.Struct):
    value: _Value


class _Entry(msgspec.Struct):
    changes: list[_Change]


class _Body(msgspec.Struct):
    entry: list[_Entry]


_decode: Final = msgspec.json.Decoder(_Body).decode


def is_signed(body: bytes, signature: str) -> bool:
    expected = "sha256=" + hmac.digest(_SECRET, body, "sha256").hex()
    return hmac.compare_digest(expected, signature)


def statuses(body: bytes) -> list[Status]:
    return [status for entry in _decode(body).entry for change in entry.changes for status in change.value.statuses]
