"""Signatures by a provider's private key, checked with what the provider publishes.

Total over any bytes: a key, certificate or signature that cannot be read matches nothing.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.x509 import load_pem_x509_certificate
from nacl.bindings import crypto_sign_BYTES, crypto_sign_open, crypto_sign_PUBLICKEYBYTES
from nacl.exceptions import CryptoError

#: Weaker keys prove nothing.
RSA_BITS_MIN: Final = 2_048
_REMEMBERED: Final = 64


def ed25519_matches(keys: Iterable[bytes], message: bytes, signature: bytes) -> bool:
    """Tell whether the owner of one of the keys (32 bytes each) signed the message."""
    if len(signature) != crypto_sign_BYTES:
        return False
    signed = signature + message
    for key in keys:
        if len(key) == crypto_sign_PUBLICKEYBYTES:
            try:
                crypto_sign_open(signed, key)
            except CryptoError:
                continue
            return True
    return False


def rsa_sha1_matches(certificates: Iterable[bytes], message: bytes, signature: bytes) -> bool:
    """Tell whether the owner of one of the PEM certificates signed the message's SHA-1 digest."""
    return _rsa_matches(certificates, message, signature, SHA1())  # noqa: S303  # what the provider offers


def rsa_sha256_matches(certificates: Iterable[bytes], message: bytes, signature: bytes) -> bool:
    """Tell whether the owner of one of the PEM certificates signed the message's SHA-256 digest."""
    return _rsa_matches(certificates, message, signature, SHA256())


def _rsa_matches(certificates: Iterable[bytes], message: bytes, signature: bytes, digest: HashAlgorithm) -> bool:
    for key in map(rsa_key, certificates):
        if key is None:
            continue
        try:
            key.verify(signature, message, PKCS1v15(), digest)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            continue
        return True
    return False


@lru_cache(_REMEMBERED)
def rsa_key(certificate: bytes) -> RSAPublicKey | None:
    """Return the public key of a PEM certificate; None if it cannot be read or is no RSA key worth the name."""
    try:
        key = load_pem_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= RSA_BITS_MIN else None
