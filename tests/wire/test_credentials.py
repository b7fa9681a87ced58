"""Secrets that stand in for a signature: where they travel, and that no other place counts."""

import base64
import hashlib
import hmac
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.status import Channel
from ledger.wire import credentials
from ledger.wire.contract import Account, Headers, Secret, Webhook
from ledger.wire.credentials import Credentials

BODY = b'{"a":1}'


def an_account(*secrets: str, **options: Any) -> Account:
    return Account(
        name="account-1",
        provider="provider-1",
        channel=Channel.SMS,
        secrets=tuple(map(Secret, secrets)),
        public_url="https://h/p",
        options=msgspec.convert(options, Credentials),
    )


def a_webhook(query: str = "", **headers: str) -> Webhook:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Webhook(method="POST", url="https://h/p", query=query.encode(), headers=Headers(raw), body=BODY)


def are_good(webhook: Webhook, account: Account) -> bool:
    authenticate, _ = credentials.scheme(Credentials)
    return authenticate(webhook, account)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    "given", [basic("u:p"), basic("u:p").replace("Basic", "basic"), basic("u:p").replace(" ", "   ")]
)
def test_a_password_travels_as_http_knows_it(given: str) -> None:
    assert are_good(a_webhook(authorization=given), an_account("u:other", "u:p"))


@pytest.mark.parametrize("given", ["", "Basic", "Basic ", basic("u:q"), basic("p:u"), "Bearer dTpw", "dTpw", "u:p"])
def test_another_password_is_refused(given: str) -> None:
    assert not are_good(a_webhook(authorization=given), an_account("u:p"))


def test_a_header_of_ours_carries_the_secret() -> None:
    account = an_account("old", "new", auth="header")

    assert are_good(a_webhook(x_webhook_secret="new"), account)
    assert not are_good(a_webhook(x_webhook_secret="newer"), account)
    assert not are_good(a_webhook(x_other="new"), account)


def test_the_header_may_have_another_name_in_any_case() -> None:
    account = an_account("s", auth="header", name="X-Our-Own")

    assert are_good(a_webhook(x_our_own="s"), account)
    assert not are_good(a_webhook(x_webhook_secret="s"), account)


def test_a_parameter_of_the_address_carries_the_secret_decoded() -> None:
    account = an_account("a b/c", auth="query")

    assert are_good(a_webhook("x=1&token=a+b%2Fc"), account)
    assert not are_good(a_webhook("token=a%20b"), account)
    assert not are_good(a_webhook("TOKEN=a+b%2Fc"), account)
    assert not are_good(a_webhook(), account)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha="])
def test_a_digest_of_the_body_may_be_sent(algorithm: str, encoding: str, prefix: str) -> None:
    raw = hmac.new(b"s", BODY, algorithm).digest()
    told = prefix + (raw.hex() if encoding == "hex" else base64.b64encode(raw).decode())
    account = an_account("s", auth="hmac", name="x-sig", algorithm=algorithm, encoding=encoding, prefix=prefix)

    assert are_good(a_webhook(x_sig=told), account)
    assert not are_good(a_webhook(x_sig=told), an_account("t", auth="hmac", name="x-sig", algorithm=algorithm))
    assert not are_good(a_webhook(x_sig=hashlib.new(algorithm, BODY).hexdigest()), account)


@pytest.mark.parametrize("auth", ["basic", "header", "query"])
def test_an_empty_secret_lets_nobody_in(auth: str) -> None:
    for webhook in (a_webhook("token="), a_webhook(authorization="Basic "), a_webhook(x_webhook_secret="")):
        assert not are_good(webhook, an_account("", auth=auth))


def test_a_secret_in_another_place_than_the_accounts_is_refused() -> None:
    told = a_webhook("token=u:p", x_webhook_secret="u:p", authorization=basic("u:p"))

    for auth in ("basic", "header", "query"):
        assert are_good(told, an_account("u:p", auth=auth))
    assert not are_good(a_webhook("token=u:p", x_webhook_secret="u:p"), an_account("u:p"))


@pytest.mark.parametrize(
    "options",
    [
        {"auth": "hmac"},
        {"auth": "basic", "name": "x"},
        {"auth": "nothing"},
        {"colour": "red"},
        {"auth": "hmac", "name": "x", "algorithm": "md5"},
    ],
)
def test_options_that_contradict_themselves_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, Credentials)


def test_a_password_without_a_name_is_told() -> None:
    assert credentials.check_secret(b"password", an_account("x"))
    assert credentials.check_secret(b"user:password", an_account("x")) is None
    assert credentials.check_secret(b"token", an_account("x", auth="header")) is None


def test_only_a_digest_is_computed_over_something() -> None:
    _, signed_text = credentials.scheme(Credentials)

    assert signed_text(a_webhook(), an_account("s", auth="hmac", name="x")) == BODY
    assert signed_text(a_webhook(), an_account("s", auth="query")) is None


@given(st.binary(max_size=60), st.sampled_from(["basic", "header", "query"]))
def test_no_header_and_no_query_raise_anything(told: bytes, auth: str) -> None:
    headers = Headers([(b"authorization", told), (b"x-webhook-secret", told)])
    webhook = Webhook(method="POST", url="u", query=b"token=" + told, headers=headers, body=b"")

    assert (
        are_good(webhook, an_account("a secret longer than what is drawn, whatever that may turn out to be", auth=auth))
        is False
    )
