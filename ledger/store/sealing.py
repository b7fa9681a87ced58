"""Sealing of personal data: AES-256-GCM under one data key a message, data keys wrapped by the master key.

Sealed bytes are `nonce (12) | ciphertext | tag (16)`. The additional data binds them to their place (stream, version,
purpose), so a sealed field moved elsewhere does not open. Deleting a message's data key erases everything sealed under
it and changes no byte that the hash chain covers.
"""

from os import urandom
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.wire.contract import Secret

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
#: Names the master key that wrapped a data key, so that a second one can be introduced.
_MASTER_KEY_ID: Final = b"\x01"


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
        return cls(urandom(KEY_BYTES))

    def seal(self, data: bytes, bound_to: bytes) -> bytes:
        nonce = urandom(_NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, data, bound_to)

    def open(self, sealed: bytes, bound_to: bytes) -> bytes:
        """Raise SealBroken if the bytes were altered or belong elsewhere."""
        try:
            return self._aes.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)
        except (InvalidTag, ValueError):
            raise SealBroken("sealed data does not open under this key") from None

    def __repr__(self) -> str:
        return "DataKey('***')"


class MasterKey:
    """Wraps and unwraps data keys."""

    __slots__ = ("_aes",)

    def __init__(self, key: Secret) -> None:
        """Raise ValueError unless the key has 32 bytes."""
        if len(key.reveal()) != KEY_BYTES:
            raise ValueError("the master key must have 32 bytes")
        self._aes = AESGCM(key.reveal())

    def wrap(self, key: DataKey, stream_id: UUID) -> bytes:
        nonce = urandom(_NONCE_BYTES)
        return _MASTER_KEY_ID + nonce + self._aes.encrypt(nonce, key._key, stream_id.bytes)

    def unwrap(self, wrapped: bytes, stream_id: UUID) -> DataKey:
        """Raise SealBroken if another master key wrapped it."""
        if wrapped[:1] != _MASTER_KEY_ID:
            raise SealBroken("the data key was wrapped by an unknown master key")
        nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        try:
            return DataKey(self._aes.decrypt(nonce, sealed, stream_id.bytes))
        except (InvalidTag, ValueError):
            raise SealBroken("the data key does not open under this master key") from None


def place(stream_id: UUID, version: int, purpose: bytes) -> bytes:
    """Return the additional data that binds sealed bytes to one version of one stream."""
    return stream_id.bytes + version.to_bytes(8, "big") + purpose
