"""Sealing of personal data: AES-256-GCM under one data key a message, data keys wrapped by the master key.

Sealed bytes are `nonce (12) | ciphertext | tag (16)`. The additional data binds them to their place (stream, version,
purpose), so a sealed field moved elsewhere does not open. Deleting a message's data key erases everything sealed under
it and changes no byte that the hash chain covers.
"""

from functools import lru_cache
from os import urandom
from threading import local
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.wire.contract import Secret

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_KEYS_REMEMBERED: Final = 16_384
#: Names the master key that wrapped a data key, so that a second one can be introduced.
_MASTER_KEY_ID: Final = b"\x01"


class _Random(local):
    """Random bytes of the system, drawn many at a time: a call for every nonce would give up the interpreter each time.

    One a thread, so that no byte is ever handed out twice.
    """

    _DRAWN = 4_096

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        at, end = self._at, self._at + count
        if end > len(self._bytes):
            self._bytes = urandom(self._DRAWN)
            at, end = 0, count
        self._at = end
        return self._bytes[at:end]


_random: Final = _Random()


class SealBroken(Exception):
    """Sealed data does not open: wrong master key, or altered bytes."""


class DataKey:
    """The key of one message."""

    __slots__ = ("_aes", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aes = AESGCM(key)

    @classmethod
    def generate(cls) -> "DataKey":
        return cls(_random.take(KEY_BYTES))

    def seal(self, data: bytes, bound_to: bytes) -> bytes:
        nonce = _random.take(_NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, data, bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """Raise SealBroken if the bytes were altered or belong elsewhere."""
        try:
            return self._aes.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)
        except (InvalidTag, ValueError):
            raise SealBroken("sealed data does not open under this key") from None

    def reveal(self) -> bytes:
        """Return the key itself, for whoever is to open one message without us."""
        return self._key

    def __repr__(self) -> str:
        return "DataKey('***')"


class MasterKey:
    """Wraps and unwraps data keys. Remembers the last it unwrapped: statements about a message come close together."""

    __slots__ = ("_aes", "_other", "_unwrapped")

    def __init__(self, key: Secret, other: Secret | None = None) -> None:
        """`other` is the key before or the next one: it unwraps, and never wraps.

        Raise ValueError unless the keys have 32 bytes.
        """
        if any(len(each.reveal()) != KEY_BYTES for each in (key, other or key)):
            raise ValueError("the master key must have 32 bytes")
        self._aes = AESGCM(key.reveal())
        self._other = None if other is None else AESGCM(other.reveal())
        self._unwrapped = lru_cache(_KEYS_REMEMBERED)(self._unwrap)

    def wrap(self, key: DataKey, stream_id: UUID) -> bytes:
        nonce = _random.take(_NONCE_BYTES)
        return _MASTER_KEY_ID + nonce + self._aes.encrypt(nonce, key._key, stream_id.int.to_bytes(16, "big"))

    def unwrap(self, wrapped: bytes, stream_id: UUID) -> DataKey:
        """Raise SealBroken if another master key wrapped it."""
        return self._unwrapped(wrapped, stream_id.int)

    def _unwrap(self, wrapped: bytes, stream: int) -> DataKey:
        if wrapped[:1] != _MASTER_KEY_ID:
            raise SealBroken("the data key was wrapped by an unknown master key")
        nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        for aes in (self._aes, self._other):
            if aes is not None:
                try:
                    return DataKey(aes.decrypt(nonce, sealed, stream.to_bytes(16, "big")))
                except (InvalidTag, ValueError):
                    continue
        raise SealBroken("the data key does not open under this master key")

    def rewrapped(self, wrapped: bytes, stream_id: UUID) -> bytes | None:
        """Return a data key wrapped by this key; None if it is so already. Raises SealBroken if neither opens it."""
        nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        try:
            self._aes.decrypt(nonce, sealed, stream_id.bytes)
        except (InvalidTag, ValueError):
            return self.wrap(self._unwrap(wrapped, stream_id.int), stream_id)
        return None


def place(stream_id: UUID, version: int, purpose: bytes) -> bytes:
    """Return the additional data that binds sealed bytes to one version of one stream."""
    return (stream_id.int << 64 | version).to_bytes(24, "big") + purpose
