"""The generic adapter: everything about a sender is in the options."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from ledger.domain.observation import Claim
from ledger.domain.status import Channel, FailureKind, Status
from ledger.providers import PROVIDERS
from ledger.wire.contract import UNRECOGNISED, Account, Malformed, Parsed
from tests.providers.requests import a_webhook, an_account
from tests.providers.senders_more import (
    SECONDS,
    configured_whpk,
    configured_whsec,
    sign_standard,
    sign_standard_v1a,
    standard_headers,
    standard_report,
)

STANDARD = PROVIDERS["standardwebhooks"]
SECRET = configured_whsec(b"secret")


def an_account_of(**options: Any) -> Account:
    return an_account("standardwebhooks", SECRET, options=options)


def parse(body: object, name: str = "msg_1", **options: Any) -> Parsed:
    request = sign_standard(json.dumps(body).encode(), b"secret", name=name)
    account = an_account_of(**options)
    assert STANDARD.authenticate(request, account)
    return STANDARD.parse(request, account)


def observed(body: object, **options: Any) -> Any:
    (observation,) = parse(body, **options).observations
    return observation


# Signatures


def test_an_account_may_know_secrets_and_public_keys_together():
    account = an_account("standardwebhooks", configured_whpk(b"new"), configured_whsec(b"old"))

    assert STANDARD.authenticate(sign_standard(b"{}", b"old"), account)
    assert STANDARD.authenticate(sign_standard_v1a(b"{}", b"new"), account)
    assert not STANDARD.authenticate(sign_standard(b"{}", b"new"), account)
    assert not STANDARD.authenticate(sign_standard_v1a(b"{}", b"old"), account)


@pytest.mark.parametrize("version", ["v1", "v1a"])
def test_one_good_signature_in_a_list_suffices(version):
    sign = sign_standard if version == "v1" else sign_standard_v1a
    good = sign(b"{}", b"secret").headers.first("webhook-signature").decode()
    account = an_account("standardwebhooks", SECRET, configured_whpk(b"secret"))

    for several in (f"v1,AAAA {good}", f"{good} v2,AAAA", f"odd , v1a,AAAA  {good} "):
        request = a_webhook(b"{}", standard_headers("msg_1", SECONDS, several))
        assert STANDARD.authenticate(request, account), several


def test_a_signature_of_one_version_is_none_of_the_other():
    good = sign_standard(b"{}", b"secret").headers.first("webhook-signature").decode().removeprefix("v1,")

    for version in ("v1a,", "v2,", ",", ""):
        request = a_webhook(b"{}", standard_headers("msg_1", SECONDS, version + good))
        assert not STANDARD.authenticate(request, an_account("standardwebhooks", SECRET)), version


def test_the_older_header_names_are_understood_and_not_mixed_with_the_new_ones():
    request = sign_standard(b"{}", b"secret", prefix="svix")
    mixed = {**standard_headers("msg_1", SECONDS, "v1,AAAA"), "svix-signature": "v1,AAAA"}

    assert STANDARD.authenticate(request, an_account_of())
    assert not STANDARD.authenticate(a_webhook(b"{}", mixed), an_account_of())


def test_the_name_and_the_time_are_signed():
    good = sign_standard(b"{}", b"secret").headers.first("webhook-signature").decode()

    for name, at in (("msg_2", SECONDS), ("msg_1", SECONDS + 1), ("", SECONDS)):
        assert not STANDARD.authenticate(a_webhook(b"{}", standard_headers(name, at, good)), an_account_of())


def test_a_name_with_a_dot_is_refused():
    assert not STANDARD.authenticate(sign_standard(b"{}", b"secret", name="msg.1"), an_account_of())


@pytest.mark.parametrize("configured", [SECRET, SECRET.removeprefix(b"whsec_"), SECRET.rstrip(b"=")])
def test_a_secret_may_be_written_with_and_without_prefix_and_padding(configured):
    assert STANDARD.authenticate(sign_standard(b"{}", b"secret"), an_account("standardwebhooks", configured))


@pytest.mark.parametrize("secret", [b"whsec_", b"whsec_!", b"whsk_AAAA", b"whpk_", b"whpk_AAAA", b"", b"not base64"])
def test_what_is_no_secret_is_told_and_proves_nothing(secret):
    assert STANDARD.check_secret(secret, an_account_of())
    assert not STANDARD.authenticate(sign_standard(b"{}", b"secret"), an_account("standardwebhooks", secret))


@pytest.mark.parametrize("secret", [SECRET, configured_whpk(b"secret")])
def test_what_is_a_secret_is_one(secret):
    assert STANDARD.check_secret(secret, an_account_of()) is None


def test_an_account_may_accept_older_signatures():
    request = sign_standard(b"{}", b"secret", at=SECONDS - 3_600)

    assert not STANDARD.authenticate(request, an_account_of())
    assert STANDARD.authenticate(request, an_account_of(age_seconds_max=7_200))


# Fields


def test_the_fields_are_where_the_account_says():
    body = {
        "eventType": "sms_undelivered",
        "occurred": 1_792_065_601_250,
        "message": {"ids": ["m-1"], "to.number": "447700900123"},
        "failure": {"reason": {"code": 30_003, "text": "Unreachable"}},
        "kind": "SMS",
        "ours": "order-42",
    }
    fields = {
        "message_id": "message.ids[0]",
        "status": "$.eventType",
        "occurred_at": "occurred",
        "recipient": 'message["to.number"]',
        "error_code": "failure.reason.code",
        "error_text": "failure.reason.text",
        "channel": "kind",
        "client_reference": "$.ours",
    }

    observation = observed(body, fields=fields, words={"SMS_Undelivered": "undelivered"})

    assert (observation.reference, observation.recipient, observation.channel) == ("m-1", "+447700900123", Channel.SMS)
    assert (observation.error_code, observation.error_text) == ("30003", "Unreachable")
    assert observation.claim == Claim(Status.FAILED, FailureKind.UNDELIVERED)
    assert observation.occurred_at == datetime(2026, 10, 15, 12, 0, 1, 250_000, tzinfo=UTC)
    assert (observation.client_reference, observation.event_id) == ("order-42", "msg_1")


@pytest.mark.parametrize(
    ("meaning", "claim"),
    [
        ("nothing", Claim(Status.UNKNOWN)),
        ("queued", Claim(Status.QUEUED)),
        ("sent", Claim(Status.SENT)),
        ("closed", Claim(Status.SENT, closes=True)),
        ("delivered", Claim(Status.DELIVERED)),
        ("read", Claim(Status.READ)),
        ("deleted", Claim(Status.DELETED)),
        ("failed", Claim(Status.FAILED, FailureKind.FAILED)),
        ("undelivered", Claim(Status.FAILED, FailureKind.UNDELIVERED)),
    ],
)
def test_a_word_means_what_the_account_says(meaning, claim):
    observation = observed(standard_report(status="Zugestellt"), words={"zugestellt": meaning})

    assert ("Zugestellt", claim) == (observation.provider_status, observation.claim)


def test_the_accounts_words_go_before_the_words_that_explain_themselves():
    observation = observed(standard_report(status="delivered"), words={"delivered": "sent"})

    assert observation.claim == Claim(Status.SENT)


def test_a_word_that_the_account_gave_no_meaning_is_unknown():
    assert observed(standard_report(status="bounced")).claim is UNRECOGNISED


def test_words_about_something_else_are_ignored():
    parsed = parse({"data": {"status": "Contact.Created"}}, others=["contact.created"])

    assert (parsed.ignored, parsed.observations, parsed.unreadable) == (1, (), ())


def test_times_without_a_zone_are_no_instants_unless_the_account_says_utc():
    body = standard_report() | {"timestamp": "2026-10-15T12:00:01"}

    assert observed(body).occurred_at is None
    assert observed(body, utc=True).occurred_at == datetime(2026, 10, 15, 12, 0, 1, tzinfo=UTC)


# Several reports


def test_reports_may_be_in_a_list_and_share_what_is_beside_it():
    items = [{"id": "m-1", "s": "sent"}, {"id": "m-2"}, {"id": "m-3", "s": "read"}]
    body = {"at": "2026-10-15T12:00:01Z", "reports": items}
    fields = {"message_id": "id", "status": "s", "occurred_at": "$.at"}

    parsed = parse(body, items="reports", fields=fields)

    assert [(seen.reference, seen.occurred_at) for seen in parsed.observations] == [
        (name, datetime(2026, 10, 15, 12, 0, 1, tzinfo=UTC)) for name in ("m-1", "m-3")
    ]
    assert [json.loads(each.item) for each in parsed.unreadable] == [items[1]]
    assert [seen.event_id for seen in parsed.observations] == ["msg_1#0", "msg_1#2"]


def test_the_body_may_be_a_list():
    parsed = parse([standard_report("m-1"), standard_report("m-2")])

    assert [seen.reference for seen in parsed.observations] == ["m-1", "m-2"]


@pytest.mark.parametrize("body", [{}, {"reports": 5}, {"reports": None}])
def test_a_body_without_the_list_is_malformed(body):
    with pytest.raises(Malformed):
        parse(body, items="reports")


def test_recipients_may_share_an_id():
    observation = observed(standard_report("m-1"), shared_ids=True)

    assert (observation.reference, observation.provider_message_id) == ("m-1|+447700900123", "m-1")


def test_where_recipients_share_an_id_one_is_needed():
    body = standard_report()
    del body["data"]["to"]

    assert len(parse(body, shared_ids=True).unreadable) == 1


def test_a_repeat_under_the_same_name_is_the_same_event():
    first = parse(standard_report(), name="msg_7")
    again = parse(standard_report(), name="msg_7")

    assert first == again


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"fields": {"message_id": ""}},
        {"fields": {"message_id": "a..b"}},
        {"fields": {"message_id": "a[x]"}},
        {"fields": {"nothing": "a"}},
        {"items": "[["},
        {"words": {"x": "teleported"}},
        {"age_seconds_max": 5},
        {"age_seconds_max": 10_000_000},
        {"utc": "yes"},
        {"colour": "red"},
    ],
)
def test_options_that_cannot_be_used_are_refused(options):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, STANDARD.options)
