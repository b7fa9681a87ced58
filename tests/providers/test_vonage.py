"""Vonage's own rules: tokens that name a digest, signed parameters, two shapes of a status and one of a receipt."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from ledger.domain.observation import Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.providers import PROVIDERS
from ledger.wire.contract import Webhook
from tests.providers.requests import BASE_URL, a_webhook, an_account
from tests.providers.senders_more import (
    FORM,
    JSON,
    SECONDS,
    a_token,
    sign_vonage,
    sign_vonage_receipt,
    vonage_message,
    vonage_receipt,
    vonage_text,
)

VONAGE = PROVIDERS["vonage"]
ACCOUNT = an_account("vonage", "secret")
BODY = json.dumps(vonage_message()).encode()
METHODS = ["md5hash", "md5", "sha1", "sha256", "sha512"]


def status(**fields: Any) -> Observation:
    body = json.dumps(vonage_message() | fields).encode()
    (observation,) = VONAGE.parse(sign_vonage(body, b"secret"), ACCOUNT).observations
    return observation


def receipt(**fields: Any) -> Observation:
    body = urlencode(vonage_receipt() | fields).encode()
    (observation,) = VONAGE.parse(sign_vonage_receipt(body, b"secret"), ACCOUNT).observations
    return observation


def as_json(told: dict[str, Any]) -> Webhook:
    """Return a receipt as JSON, signed over its values as they are written there."""
    written = {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
    signed = hashlib.md5(vonage_text(written.items()) + b"secret", usedforsecurity=False).hexdigest()
    return a_webhook(json.dumps({**told, "sig": signed}).encode(), JSON)


# Authentication


@pytest.mark.parametrize("scheme", ["bearer ", "BEARER ", "Bearer  "])
def test_the_name_of_the_scheme_may_be_written_in_any_case(scheme):
    token = sign_vonage(BODY, b"secret").headers.first("authorization").decode().removeprefix("Bearer ")

    assert VONAGE.authenticate(a_webhook(BODY, {**JSON, "Authorization": scheme + token}), ACCOUNT)


@pytest.mark.parametrize(
    "claims",
    [
        {"payload_hash": None},
        {"payload_hash": ""},
        {"payload_hash": 5},
        {"payload_hash": hashlib.sha256(b"another body").hexdigest()},
        {"iat": None},
        {"iat": "yesterday"},
        {"iat": True},
        {"exp": SECONDS - 1},
        {"exp": "never"},
        {"nbf": SECONDS + 1},
    ],
)
def test_a_token_must_name_the_bodys_digest_and_its_own_time(claims):
    assert not VONAGE.authenticate(sign_vonage(BODY, b"secret", **claims), ACCOUNT)


def test_the_digest_may_be_written_in_capitals():
    digest = hashlib.sha256(BODY).hexdigest().upper()

    assert VONAGE.authenticate(sign_vonage(BODY, b"secret", payload_hash=digest), ACCOUNT)


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "RS256"}, {"alg": "HS384"}, {"alg": 5}, {"crit": ["b64"]}])
def test_the_token_does_not_choose_its_algorithm(header):
    claims = {"iat": SECONDS, "payload_hash": hashlib.sha256(BODY).hexdigest()}
    token = a_token(b"secret", claims, **header)

    assert not VONAGE.authenticate(a_webhook(BODY, {**JSON, "Authorization": f"Bearer {token}"}), ACCOUNT)


def test_a_bad_token_is_not_made_good_by_a_signature_beside_it():
    signed = sign_vonage_receipt(urlencode(vonage_receipt()).encode(), b"secret")

    assert not VONAGE.authenticate(a_webhook(signed.body, {**FORM, "Authorization": "Bearer e30.e30.x"}), ACCOUNT)


@pytest.mark.parametrize("method", METHODS)
def test_a_receipt_may_be_signed_by_every_method_there_is(method):
    request = sign_vonage_receipt(urlencode(vonage_receipt()).encode(), b"secret", method=method)

    assert VONAGE.authenticate(request, ACCOUNT)


@pytest.mark.parametrize("chosen", METHODS)
def test_with_a_method_chosen_no_other_counts(chosen):
    account = an_account("vonage", "secret", options={"signature_method": chosen})
    body = urlencode(vonage_receipt()).encode()

    accepted = [
        each for each in METHODS if VONAGE.authenticate(sign_vonage_receipt(body, b"secret", method=each), account)
    ]

    assert accepted == [chosen]


def test_a_receipt_is_the_same_by_get_by_form_and_as_json():
    signed = sign_vonage_receipt(urlencode(vonage_receipt()).encode(), b"secret")
    by_get = a_webhook(url=f"{BASE_URL}?{signed.body.decode()}", method="GET")
    in_json = a_webhook(json.dumps(dict(parse_qsl(signed.body.decode()))).encode(), JSON)

    told = []
    for request in (signed, by_get, in_json):
        assert VONAGE.authenticate(request, ACCOUNT)
        (observation,) = VONAGE.parse(request, ACCOUNT).observations
        told.append((observation.reference, observation.client_reference, observation.occurred_at))

    assert told == [("0A01", "order 42 & more", datetime(2026, 10, 15, 12, 0, 5, tzinfo=UTC))] * 3


@pytest.mark.parametrize("price", [0.0333, 0, 12, True, None])
def test_what_is_no_text_in_json_is_signed_as_it_is_written(price):
    request = as_json({**vonage_receipt(), "timestamp": str(SECONDS), "price": price})

    assert VONAGE.authenticate(request, ACCOUNT)


def test_names_that_imitate_what_separates_them_are_refused():
    told = {"messageId": "0A01", "status": "failed", "timestamp": str(SECONDS), "a=b&c": "d"}
    text = "".join(f"&{name}={value}" for name, value in sorted(told.items())).encode()
    signed = hashlib.md5(text + b"secret", usedforsecurity=False).hexdigest()

    assert not VONAGE.authenticate(a_webhook(urlencode({**told, "sig": signed}).encode(), FORM), ACCOUNT)


def test_a_large_unsigned_body_is_not_searched_for_a_signature():
    body = b'{"sig":"' + b"0" * 32 + b'"' + b"".join(b',"%d":1' % number for number in range(200_000)) + b"}"

    assert not VONAGE.authenticate(a_webhook(body, JSON), ACCOUNT)


# Without a signature


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, JSON),
        (urlencode(vonage_receipt()).encode(), FORM),
        (b"", {}),
        (b"{", JSON),
    ],
)
def test_a_request_without_any_signature_is_asked_for_again(body, headers):
    assert VONAGE.asks_again(a_webhook(body, headers), ACCOUNT)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, {**JSON, "Authorization": "Bearer forged"}),
        (BODY, {**JSON, "Authorization": ""}),
        (b"messageId=1&sig=00", FORM),
        (b"messageId=1&sig=00&sig=01", FORM),
        (b"messageId=1&sig=", FORM),
        (b'{"messageId":"1","sig":"00"}', JSON),
    ],
)
def test_a_request_with_a_bad_signature_is_not(body, headers):
    assert not VONAGE.asks_again(a_webhook(body, headers), ACCOUNT)


# Statuses


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        ({"title": 1180, "detail": "Absent"}, "1180", "Absent"),
        ({"title": "1180", "detail": "Absent"}, "1180", "Absent"),
        ({"title": "Rejected", "type": "https://developer.vonage.com/api-errors/messages#1260"}, "1260", None),
        ({"type": "https://developer.vonage.com/api-errors/messages#1260"}, "1260", None),
        ({"type": "https://developer.vonage.com/api-errors/messages"}, None, None),
        ({"error": {"title": 1300, "detail": "Not on the network"}}, "1300", "Not on the network"),
        ({"code": 1300, "reason": "Not on the network"}, "1300", "Not on the network"),
        ({}, None, None),
        (None, None, None),
        ("broken", None, None),
    ],
)
def test_an_error_is_found_wherever_it_is(error, code, text):
    observation = status(error=error)

    assert (code, text) == (observation.error_code, observation.error_text)


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("sms", (Channel.SMS, None)),
        ("mms", (Channel.SMS, "mms")),
        ("rcs", (Channel.SMS, "rcs")),
        ("whatsapp", (Channel.WHATSAPP, None)),
        ("viber_service", (Channel.VIBER, None)),
        ("messenger", (None, "messenger")),
        ("pigeon", (None, "pigeon")),
    ],
)
def test_a_status_tells_its_channel(channel, expected):
    observation = status(channel=channel)

    assert expected == (observation.channel, observation.transport)


def test_the_older_shape_names_channel_and_recipient_in_an_object():
    told = {"to": {"type": "viber_service_msg", "number": "447700900127"}, "channel": None}

    observation = status(**told)

    assert (observation.channel, observation.recipient) == (Channel.VIBER, "+447700900127")


def test_an_id_of_messenger_is_no_phone_number():
    assert status(channel="messenger", to="447700900127").recipient == "447700900127"


def test_a_whatsapp_user_may_be_known_by_an_id_only():
    observation = status(to=None)

    assert (observation.recipient, observation.recipient_user_id) == (None, "GB.1")


@pytest.mark.parametrize(
    "body",
    [
        {"message_uuid": "u", "message_type": "text", "text": "hello", "channel": "sms"},
        {"messageId": "m", "msisdn": "447700900123", "text": "hello", "type": "text"},
    ],
)
def test_an_inbound_message_is_ignored(body):
    parsed = VONAGE.parse(a_webhook(json.dumps(body).encode(), JSON), ACCOUNT)

    assert (parsed.ignored, parsed.observations, parsed.unreadable) == (1, (), ())


# Receipts


def test_the_recipient_of_a_receipt_is_called_msisdn():
    observation = receipt(msisdn="447700900123", to="Acme")

    assert (observation.recipient, observation.channel) == ("+447700900123", Channel.SMS)


@pytest.mark.parametrize(("told", "expected"), [("0", None), ("00", None), ("", None), ("3", "3"), ("99", "99")])
def test_code_0_of_a_receipt_is_no_error(told, expected):
    assert expected == receipt(**{"err-code": told}).error_code


def test_the_carriers_date_is_kept_as_text():
    assert receipt(scts="2610151200").date_text == "2610151200"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("unknown", (Status.SENT, None, True)),
        ("expired", (Status.FAILED, FailureKind.UNDELIVERED, False)),
        ("rejected", (Status.FAILED, FailureKind.FAILED, False)),
    ],
)
def test_an_expired_message_is_not_delivered_and_an_unknown_one_is_over(word, expected):
    claim = receipt(status=word).claim

    assert expected == (claim.status, claim.kind, claim.closes)


@pytest.mark.parametrize("odd", [1.5, 1e3, [], {}, True])
def test_an_id_of_a_receipt_in_json_is_a_text_or_a_whole_number(odd):
    parsed = VONAGE.parse(a_webhook(json.dumps({"messageId": odd, "status": "failed"}).encode(), JSON), ACCOUNT)

    assert not parsed.observations
    assert len(parsed.unreadable) == 1
