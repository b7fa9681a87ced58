"""Plivo's own rules: two versions of a signature, parts of a long message, a time a status."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from ledger.domain.observation import Observation
from ledger.domain.status import Channel
from ledger.providers import PROVIDERS
from ledger.wire.contract import Webhook
from tests.providers.requests import BASE_URL, a_webhook, an_account
from tests.providers.senders_more import FORM, plivo_callback, plivo_text, sign_plivo

PLIVO = PROVIDERS["plivo"]
ACCOUNT = an_account("plivo", "secret")
STRICT = an_account("plivo", "secret", options={"require_v3": True})
BODY = urlencode(plivo_callback()).encode()


def signed(text: bytes, secret: bytes = b"secret") -> str:
    return base64.b64encode(hmac.new(secret, text, hashlib.sha256).digest()).decode()


def by_v2(body: bytes = BODY, url: str = BASE_URL, **headers: str) -> Webhook:
    signature = signed(f"{url.partition('?')[0]}12345".encode())
    told = {"X-Plivo-Signature-V2": signature, "X-Plivo-Signature-V2-Nonce": "12345"}
    return a_webhook(body, {**FORM, **told, **headers}, url)


def observed(**fields: Any) -> Observation:
    body = urlencode(plivo_callback() | fields).encode()
    (observation,) = PLIVO.parse(sign_plivo(body, b"secret"), ACCOUNT).observations
    return observation


# Signatures


def test_version_2_proves_who_calls_and_not_what_is_said():
    assert PLIVO.authenticate(by_v2(), ACCOUNT)
    assert PLIVO.authenticate(by_v2(b"MessageUUID=another"), ACCOUNT)
    assert PLIVO.authenticate(by_v2(url=f"{BASE_URL}?tenant=acme"), ACCOUNT)


def test_an_account_may_refuse_version_2():
    assert not PLIVO.authenticate(by_v2(), STRICT)
    assert PLIVO.authenticate(sign_plivo(BODY, b"secret"), STRICT)


@pytest.mark.parametrize("header", ["X-Plivo-Signature-V3", "X-Plivo-Signature-Ma-V3"])
@pytest.mark.parametrize("value", ["forged", ""])
def test_a_bad_version_3_is_not_made_good_by_a_good_version_2(header, value):
    request = by_v2(**{header: value, "X-Plivo-Signature-V3-Nonce": "12345"})

    assert not PLIVO.authenticate(request, ACCOUNT)


@pytest.mark.parametrize("version", ["V2", "V3"])
@pytest.mark.parametrize("account", ["", "Ma-"])
def test_the_main_account_may_sign_for_a_subaccount(version, account):
    text = plivo_text(BASE_URL, BODY, "n") if version == "V3" else f"{BASE_URL}n".encode()
    headers = {f"X-Plivo-Signature-{account}{version}": signed(text), f"X-Plivo-Signature-{version}-Nonce": "n"}

    assert PLIVO.authenticate(a_webhook(BODY, {**FORM, **headers}), ACCOUNT)


def test_one_header_may_hold_several_signatures():
    good = sign_plivo(BODY, b"secret").headers.first("x-plivo-signature-v3").decode()
    headers = {"X-Plivo-Signature-V3": f"AAAA, {good},BBBB", "X-Plivo-Signature-V3-Nonce": "12345"}

    assert PLIVO.authenticate(a_webhook(BODY, {**FORM, **headers}), ACCOUNT)


def test_a_signature_without_its_nonce_is_refused():
    headers = {"X-Plivo-Signature-V3": signed(plivo_text(BASE_URL, BODY, ""))}

    assert not PLIVO.authenticate(a_webhook(BODY, {**FORM, **headers}), ACCOUNT)


@pytest.mark.parametrize("changed", ["?k=2", "?k=1&x=1", ""])
def test_version_3_covers_the_query_of_the_address(changed):
    request = sign_plivo(BODY, b"secret", f"{BASE_URL}?k=1")
    url = BASE_URL + changed

    assert PLIVO.authenticate(request, ACCOUNT)
    assert not PLIVO.authenticate(msgspec.structs.replace(request, url=url, query=changed[1:].encode()), ACCOUNT)


def test_a_report_by_get_is_signed_in_its_query():
    url = f"{BASE_URL}?{BODY.decode()}"
    headers = {
        "X-Plivo-Signature-V3": signed(plivo_text(url, b"", "n")),
        "X-Plivo-Signature-V3-Nonce": "n",
    }
    request = a_webhook(b"", headers, url, "GET")

    assert PLIVO.authenticate(request, ACCOUNT)
    assert [seen.reference for seen in PLIVO.parse(request, ACCOUNT).observations] == ["7b1b"]


# Parts


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("1 of 1", (None, None)),
        ("1 of 2", (1, 2)),
        ("2 of 2", (2, 2)),
        ("3 of 2", (None, None)),
        ("0 of 2", (None, None)),
        ("", (None, None)),
        ("one of two", (None, None)),
        ("1 of 99999", (None, None)),
        ("\u0661 of \u0662", (None, None)),
    ],
)
def test_a_report_tells_which_part_it_is_about(told, expected):
    observation = observed(PartInfo=told)

    assert expected == (observation.part, observation.parts)


def test_the_parts_of_a_message_belong_to_the_id_that_the_send_call_returned():
    observation = observed(MessageUUID="part-2", ParentMessageUUID="whole", PartInfo="2 of 2")

    assert (observation.reference, observation.part) == ("whole", 2)


# Fields


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ("queued", "QueuedTime"),
        ("sent", "SentTime"),
        ("delivered", "DeliveryReportTime"),
        ("undelivered", "DeliveryReportTime"),
        ("read", "DeliveryReportTime"),
    ],
)
def test_every_status_has_a_time_of_its_own(status, field):
    observation = observed(Status=status, **{field: "2026-10-15 09:00:00.000000"})

    assert observation.occurred_at == datetime(2026, 10, 15, 9, tzinfo=UTC)


def test_a_failure_before_sending_has_no_time():
    assert observed(Status="failed", DeliveryReportTime="").occurred_at is None


@pytest.mark.parametrize(("told", "expected"), [("000", None), ("", None), ("30", "30"), ("1000", "1000")])
def test_code_000_is_no_error(told, expected):
    assert expected == observed(ErrorCode=told).error_code


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sms", (Channel.SMS, None)),
        ("mms", (Channel.SMS, "mms")),
        ("whatsapp", (Channel.WHATSAPP, None)),
        ("pigeon", (None, "pigeon")),
    ],
)
def test_a_report_tells_its_channel(kind, expected):
    observation = observed(Type=kind)

    assert expected == (observation.channel, observation.transport)


def test_an_inbound_message_is_ignored():
    body = urlencode({"MessageUUID": "1", "Status": "received", "Text": "hello"}).encode()

    assert PLIVO.parse(sign_plivo(body, b"secret"), ACCOUNT).ignored == 1
