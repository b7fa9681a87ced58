"""MessageBird's own rules: three signatures, recipients who share an id, interactions, errors in several places."""

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from ledger.domain.observation import Observation
from ledger.domain.status import Channel, Status
from ledger.providers import PROVIDERS
from ledger.wire.contract import Parsed
from tests.providers.requests import BASE_URL, NOW, a_webhook, an_account
from tests.providers.senders_more import (
    JSON,
    SECONDS,
    a_token,
    bird_event,
    messagebird_report,
    sign_bird,
    sign_messagebird,
)

MESSAGEBIRD = PROVIDERS["messagebird"]
ACCOUNT = an_account("messagebird", "secret")
QUERY = urlencode(messagebird_report()).encode()
BODY = json.dumps(bird_event()).encode()


def report(**fields: Any) -> Observation:
    query = urlencode(messagebird_report() | fields).encode()
    (observation,) = MESSAGEBIRD.parse(sign_messagebird(query, b"secret"), ACCOUNT).observations
    return observation


def parse(event: dict[str, Any]) -> Parsed:
    return MESSAGEBIRD.parse(sign_bird(json.dumps(event).encode(), b"secret"), ACCOUNT)


def message(event: str = "viber.outbound", **payload: Any) -> Observation:
    told = bird_event() | {"event": event}
    told["payload"] |= payload
    (observation,) = parse(told).observations
    return observation


# Tokens


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_token_may_use_three_algorithms(algorithm):
    assert MESSAGEBIRD.authenticate(sign_messagebird(QUERY, b"secret", algorithm=algorithm), ACCOUNT)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "Somebody"},
        {"iss": None},
        {"url_hash": None},
        {"url_hash": hashlib.sha256(BASE_URL.encode()).hexdigest()},
        {"payload_hash": hashlib.sha256(b"").hexdigest()},
        {"exp": None},
        {"nbf": None},
        {"exp": "soon"},
        {"exp": SECONDS - 2},
        {"nbf": SECONDS + 2},
    ],
)
def test_a_token_must_name_issuer_address_beginning_and_end(claims):
    assert not MESSAGEBIRD.authenticate(sign_messagebird(QUERY, b"secret", **claims), ACCOUNT)


@pytest.mark.parametrize("changed", ["&", "&x=1", "#", "%20"])
def test_the_whole_address_counts(changed):
    request = sign_messagebird(QUERY, b"secret")
    url = request.url + changed

    assert not MESSAGEBIRD.authenticate(msgspec.structs.replace(request, url=url), ACCOUNT)


def test_a_body_must_be_named_too():
    url_hash = hashlib.sha256(BASE_URL.encode()).hexdigest()
    claims = {"iss": "MessageBird", "nbf": SECONDS, "exp": SECONDS + 60, "url_hash": url_hash}
    named = a_token(b"secret", claims | {"payload_hash": hashlib.sha256(BODY).hexdigest()})
    unnamed = a_token(b"secret", claims)

    verdicts = [
        MESSAGEBIRD.authenticate(a_webhook(body, {**JSON, "MessageBird-Signature-JWT": token}), ACCOUNT)
        for body, token in ((BODY, named), (BODY, unnamed), (b"{}", named))
    ]

    assert verdicts == [True, False, False]


def test_a_bad_token_is_not_made_good_by_a_signature_beside_it():
    request = sign_bird(BODY, b"secret")
    headers = {**JSON, "MessageBird-Signature-JWT": "x.y.z"} | {
        name: request.headers.first(name.lower()).decode()
        for name in ("MessageBird-Signature", "MessageBird-Request-Timestamp")
    }

    assert MESSAGEBIRD.authenticate(request, ACCOUNT)
    assert not MESSAGEBIRD.authenticate(a_webhook(BODY, headers), ACCOUNT)


# Signatures


@pytest.mark.parametrize("age", [timedelta(0), timedelta(hours=4), timedelta(hours=24)])
def test_a_repeat_keeps_the_time_of_the_first_attempt_and_is_accepted(age):
    request = msgspec.structs.replace(sign_bird(BODY, b"secret"), received_at=NOW + age)

    assert MESSAGEBIRD.authenticate(request, ACCOUNT)


def test_the_older_scheme_signs_the_sorted_query_in_place_of_the_address():
    told = {"status": "delivered", "id": "b6aa", "recipient": "447700900123", "reference": "a b&c é"}
    digest = hashlib.sha256(b"").digest()
    text = f"{SECONDS}\n{urlencode(sorted(told.items()))}\n".encode() + digest
    signature = base64.b64encode(hmac.new(b"secret", text, hashlib.sha256).digest()).decode()
    headers = {"MessageBird-Signature": signature, "MessageBird-Request-Timestamp": str(SECONDS)}

    def asked(pairs: dict[str, str]) -> bool:
        return MESSAGEBIRD.authenticate(a_webhook(b"", headers, f"{BASE_URL}?{urlencode(pairs)}", "GET"), ACCOUNT)

    assert asked(told)
    assert not asked(told | {"status": "sent"})


# Reports of the SMS API


def test_recipients_share_an_id_and_have_a_name_each():
    observation = report(id="b6aa", recipient="447700900123")

    assert (observation.reference, observation.provider_message_id) == ("b6aa|+447700900123", "b6aa")


def test_a_report_without_a_recipient_is_kept_unread():
    query = urlencode(messagebird_report() | {"recipient": ""}).encode()

    parsed = MESSAGEBIRD.parse(sign_messagebird(query, b"secret"), ACCOUNT)

    assert (parsed.observations, [each.item for each in parsed.unreadable]) == ((), [query])


@pytest.mark.parametrize(("told", "expected"), [("", None), ("0", None), ("103", "103")])
def test_code_0_is_no_error(told, expected):
    assert expected == report(statusErrorCode=told).error_code


def test_the_reason_of_a_success_is_no_error():
    assert report(status="delivered", statusReason="successfully delivered").error_text is None
    assert report(status="delivery_failed", statusReason="opted out").error_text == "opted out"


def test_a_phone_that_is_off_is_no_failure():
    assert report(status="buffered").claim.status is Status.SENT


# Events of Channels


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("sms.outbound", (Channel.SMS, None)),
        ("rcs.outbound", (Channel.SMS, "rcs")),
        ("whatsapp.outbound", (Channel.WHATSAPP, None)),
        ("viber.outbound", (Channel.VIBER, None)),
        ("email.outbound", (None, "email")),
    ],
)
def test_the_event_tells_the_channel(event, expected):
    observation = message(event)

    assert expected == (observation.channel, observation.transport)


@pytest.mark.parametrize("event", ["whatsapp.inbound", "channel.created", "inbound", "outbound.something"])
def test_an_event_about_something_else_is_ignored(event):
    assert parse(bird_event() | {"event": event}).ignored == 1


@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        ({"error": {"code": "recipient_unreachable", "description": "d"}}, "recipient_unreachable", "d"),
        ({"error": {"meta_error_code": 131026, "description": "d"}}, "131026", "d"),
        ({"error": {"carrier_error_code": "30003"}}, "30003", "r"),
        ({"error": None, "failure": {"code": 7, "description": "f"}}, "7", "f"),
        ({"error": None, "failure": {"source": {"code": "131047"}, "code": 7}}, "131047", "r"),
        ({"error": None}, None, "r"),
    ],
)
def test_an_error_is_found_wherever_it_is(payload, code, text):
    observation = message(status="delivery_failed", **payload)

    assert (code, text) == (observation.error_code, observation.error_text)


def test_a_message_that_the_sender_deleted_from_the_records_was_not_undone():
    observation = message(status="deleted")

    assert observation.claim.status is Status.UNKNOWN


@pytest.mark.parametrize("kind", ["read", "opened"])
def test_an_interaction_is_about_the_message_it_names(kind):
    told = {"id": "interaction-1", "messageId": "m-1", "type": kind, "createdAt": "2026-10-15T12:05:00Z"}

    (observation,) = parse({"event": "whatsapp.interaction", "payload": told}).observations

    assert (observation.reference, observation.claim.status) == ("m-1", Status.READ)
    assert observation.occurred_at is not None


@pytest.mark.parametrize("kind", ["clicked", "replied", None])
def test_an_interaction_that_is_no_reading_is_ignored(kind):
    told = {"id": "interaction-1", "messageId": "m-1", "type": kind}

    assert parse({"event": "whatsapp.interaction", "payload": told}).ignored == 1
