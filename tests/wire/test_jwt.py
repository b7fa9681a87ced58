"""Tokens: the caller chooses the algorithm, the token never does, and no bytes raise anything."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.wire import jwt

SECRET = b"secret"
NOW = datetime(2026, 10, 15, 12, 30, tzinfo=UTC)
SECONDS = int(NOW.timestamp())


def part(value: object) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def a_token(
    claims: object = {"a": 1}, secret: bytes = SECRET, header: object = {"alg": "HS256"}, digest: str = "sha256"
) -> bytes:
    head = part(header) + b"." + part(claims)
    return head + b"." + part(hmac.new(secret, head, digest).digest())


def read(token: bytes, *secrets: bytes, allowed: tuple[str, ...] = ("HS256",)) -> Any:
    return jwt.claims_of(token, secrets or (SECRET,), allowed)


@pytest.mark.parametrize(("name", "digest"), [("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")])
def test_a_token_of_an_allowed_algorithm_tells_its_claims(name: str, digest: str) -> None:
    assert read(a_token(header={"alg": name}, digest=digest), allowed=(name,)) == {"a": 1}


def test_any_of_several_secrets_may_have_signed() -> None:
    assert read(a_token(secret=b"old"), b"new", b"old") == {"a": 1}
    assert read(a_token(secret=b"another"), b"new", b"old") is None


HEADERS = [
    *({"alg": name} for name in ("none", "None", "hs256", "RS256", "HS512", None, 1, ["HS256"])),
    *({"alg": "HS256", "crit": names} for names in ([], ["exp"])),
    *({}, [], "HS256", None, b"\xff"),
]


@pytest.mark.parametrize("header", HEADERS)
def test_any_other_header_is_refused(header: object) -> None:
    assert read(a_token(header=header)) is None


@pytest.mark.parametrize("claims", [[], "x", 5, None, b"", b"\xff", b"[" * 5_000])
def test_claims_that_are_no_object_are_refused(claims: object) -> None:
    assert read(a_token(claims)) is None


@pytest.mark.parametrize("signature", [b"", b"AAAA", b"=", b"\xff"])
def test_another_signature_is_refused(signature: bytes) -> None:
    head, _, _ = a_token().rpartition(b".")

    assert read(head + b"." + signature) is None


def test_a_signature_with_padding_is_another_spelling_and_refused() -> None:
    assert read(a_token() + b"=") is None


def test_a_token_of_any_length_is_not_read() -> None:
    assert read(a_token({"a": "x" * jwt.TOKEN_BYTES_MAX})) is None


@given(st.binary(max_size=200) | st.text("abcXYZ019._-=", max_size=100).map(str.encode))
def test_no_bytes_raise_anything(token: bytes) -> None:
    assert read(token) is None


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, True),
        ({"nbf": SECONDS, "exp": SECONDS + 1}, True),
        ({"nbf": SECONDS + 1}, False),
        ({"exp": SECONDS}, False),
        ({"exp": SECONDS + 0.5}, True),
        ({"exp": "never"}, False),
        ({"nbf": None}, False),
        ({"exp": 10**400}, True),
    ],
)
def test_a_token_is_good_from_its_beginning_to_before_its_end(claims: dict[str, object], expected: bool) -> None:
    assert expected == jwt.is_current(claims, NOW)


def test_leeway_counts_on_both_sides() -> None:
    leeway = timedelta(seconds=1)

    assert jwt.is_current({"nbf": SECONDS + 1}, NOW, leeway)
    assert jwt.is_current({"exp": SECONDS}, NOW, leeway)
    assert not jwt.is_current({"nbf": SECONDS + 2}, NOW, leeway)
    assert not jwt.is_current({"exp": SECONDS - 1}, NOW, leeway)


@pytest.mark.parametrize("digest", [None, "", 5, "ż", "0" * 64, [hashlib.sha256(b"x").hexdigest()]])
def test_only_the_digest_itself_names_a_content(digest: object) -> None:
    good = hashlib.sha256(b"x").hexdigest()

    assert jwt.names_digest({"h": good}, "h", b"x")
    assert jwt.names_digest({"h": good.upper()}, "h", b"x")
    assert not jwt.names_digest({"h": digest}, "h", b"x")
    assert not jwt.names_digest({}, "h", b"x")
