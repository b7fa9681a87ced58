"""Signatures by private keys: whatever cannot be read matches nothing."""

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ledger.wire import public_keys

MESSAGE = b"what is said"
ED25519 = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
PUBLIC = ED25519.public_key().public_bytes_raw()


@cache
def an_rsa_key(bits: int = 2_048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, bits)


@cache
def a_certificate(kind: str = "rsa") -> bytes:
    key = {
        "rsa": an_rsa_key,
        "weak": lambda: an_rsa_key(1_024),
        "elliptic": lambda: ec.generate_private_key(ec.SECP256R1()),
    }[kind]()
    name, now = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "made up for tests")]),
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


# Ed25519


def test_the_owner_of_one_of_the_keys_signed() -> None:
    signature = ED25519.sign(MESSAGE)

    assert public_keys.ed25519_matches([b"2" * 32, PUBLIC], MESSAGE, signature)
    assert not public_keys.ed25519_matches([b"2" * 32], MESSAGE, signature)
    assert not public_keys.ed25519_matches([PUBLIC], MESSAGE + b" ", signature)
    assert not public_keys.ed25519_matches([], MESSAGE, signature)


@given(st.binary(max_size=40), st.binary(max_size=70))
def test_no_key_and_no_signature_raise_anything(key: bytes, signature: bytes) -> None:
    assert not public_keys.ed25519_matches([key], MESSAGE, signature)
    assert not public_keys.ed25519_matches([PUBLIC], MESSAGE, signature)


# RSA


def test_each_digest_has_a_function_of_its_own() -> None:
    sha1, sha256 = (an_rsa_key().sign(MESSAGE, PKCS1v15(), digest) for digest in (SHA1(), SHA256()))  # noqa: S303
    certificates = [b"no certificate", a_certificate()]

    assert public_keys.rsa_sha1_matches(certificates, MESSAGE, sha1)
    assert public_keys.rsa_sha256_matches(certificates, MESSAGE, sha256)
    assert not public_keys.rsa_sha1_matches(certificates, MESSAGE, sha256)
    assert not public_keys.rsa_sha256_matches(certificates, MESSAGE, sha1)
    assert not public_keys.rsa_sha256_matches(certificates, MESSAGE + b" ", sha256)
    assert not public_keys.rsa_sha256_matches([], MESSAGE, sha256)


@pytest.mark.parametrize("kind", ["weak", "elliptic"])
def test_a_key_of_another_kind_proves_nothing(kind: str) -> None:
    assert public_keys.rsa_key(a_certificate()) is not None
    assert public_keys.rsa_key(a_certificate(kind)) is None


@given(st.binary(max_size=60))
def test_no_certificate_and_no_rsa_signature_raise_anything(told: bytes) -> None:
    assert not public_keys.rsa_sha256_matches([told], MESSAGE, told)
    assert not public_keys.rsa_sha256_matches([a_certificate()], MESSAGE, told)
