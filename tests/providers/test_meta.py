"""What is particular to Meta: nested batches, groups, user ids in place of numbers, errors, the handshake."""

import json
from typing import Any

import pytest

from ledger.domain.status import FailureKind, Status
from ledger.providers.meta import PROVIDER
from ledger.wire.contract import Claim, Parsed, Secret
from tests.providers.webhook_cases import a_webhook, an_account, meta_status, outcome, sign_meta

ESCAPED = rb'{"n":"\u00e4\u00f6\u00e5"}'


def a_change(*statuses: object, field: str = "messages", **more: object) -> dict[str, Any]:
    return {"field": field, "value": {"metadata": {"phone_number_id": "2001"}, "statuses": list(statuses), **more}}


def parse(*changes: object) -> Parsed:
    return parse_body({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": list(changes)}]})


def parse_body(body: object) -> Parsed:
    parsed = outcome(PROVIDER, a_webhook(json.dumps(body).encode()))
    assert isinstance(parsed, Parsed)
    return parsed


def observed(**changed: object):
    (observation,) = parse(a_change({**meta_status(), **changed})).observations
    return observation


# Signature


@pytest.mark.parametrize(
    ("body", "digest"),
    [
        (
            b'{"object":"whatsapp_business_account","entry":[]}',
            "0ca28c0f1996234eb6829e59ad3c11a18161f6eb043943d601e420c312432cdf",
        ),
        (ESCAPED, "5584d9af0eeea6a7185259f8a769f9f4213bd073b35d75fd90df6e5ba69ff9dc"),
    ],
)
def test_the_known_signatures_are_accepted(body, digest):
    webhook = a_webhook(body, {"X-Hub-Signature-256": f"sha256={digest}"})

    assert PROVIDER.authenticate(webhook, an_account("meta", "app-secret-1"))


def test_the_bytes_received_are_signed_and_not_what_they_mean():
    webhook = sign_meta(ESCAPED, b"app-secret-1")
    unescaped = a_webhook(
        '{"n":"äöå"}'.encode(), [("x-hub-signature-256", webhook.headers.first("x-hub-signature-256") or b"")]
    )

    assert not PROVIDER.authenticate(unescaped, an_account("meta", "app-secret-1"))


def test_the_older_sha1_header_proves_nothing():
    headers = {"X-Hub-Signature": "sha1=c3ee1fe2d7d3ce8ca4a0b9f4cbbba1f1a0ba0a0c"}

    assert not PROVIDER.authenticate(a_webhook(b"{}", headers), an_account("meta", "app-secret-1"))


@pytest.mark.parametrize("prefix", [b"", b"sha1=", b"SHA256=", b"sha256:", b"sha256= "])
def test_a_signature_without_its_exact_prefix_is_refused(prefix):
    good = (sign_meta(b"{}", b"k").headers.first("x-hub-signature-256") or b"").removeprefix(b"sha256=")

    assert not PROVIDER.authenticate(
        a_webhook(b"{}", [("x-hub-signature-256", prefix + good)]), an_account("meta", "k")
    )


# Handshake


def handshake(query: str, verify_token: Secret | None = Secret("tök")) -> str | None:  # noqa: B008  # immutable
    assert PROVIDER.handshake is not None
    webhook = a_webhook(url=f"https://ledger.example.com/hooks/meta?{query}", method="GET")
    return PROVIDER.handshake(webhook, an_account("meta", "k", verify_token=verify_token))


def test_a_subscription_that_knows_the_token_gets_its_challenge_back():
    assert handshake("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=t%C3%B6k") == "1158201444"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "hub.mode=subscribe&hub.challenge=1",
        "hub.mode=subscribe&hub.verify_token=t%C3%B6k",
        "hub.challenge=1&hub.verify_token=t%C3%B6k",
        "hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=t%C3%B6k",
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=tok",
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=",
        "hub.mode=subscribe&hub.challenge=1&hub.verify_token=t%F6k",
        "hub.mode=subscribe&hub.challenge=&hub.verify_token=t%C3%B6k",
        "hub.mode=subscribe&hub.challenge=%3Cscript%3E&hub.verify_token=t%C3%B6k",
        "hub.mode=subscribe&hub.challenge=1%0A&hub.verify_token=t%C3%B6k",
        "hub.mode=subscribe&hub.challenge=" + "1" * 101 + "&hub.verify_token=t%C3%B6k",
        "hub.mode=subscribe&hub.verify_token=wrong&hub.verify_token=t%C3%B6k&hub.challenge=1",
    ],
)
def test_any_other_handshake_is_refused(query):
    assert handshake(query) is None


@pytest.mark.parametrize("verify_token", [None, Secret("")])
def test_an_account_without_a_verify_token_answers_no_handshake(verify_token):
    assert handshake("hub.mode=subscribe&hub.challenge=1&hub.verify_token=", verify_token) is None


# Batches


def test_every_status_of_every_change_of_every_entry_is_read():
    changes = [a_change(meta_status("a"), meta_status("b")), a_change(meta_status("c"))]

    parsed = parse_body({"entry": [{"changes": changes}, {"changes": [a_change(meta_status("d"))]}]})

    assert [seen.reference for seen in parsed.observations] == ["a", "b", "c", "d"]


def test_statuses_are_read_beside_inbound_messages_and_odd_contacts():
    change = a_change(meta_status(), messages=[{"id": "in-1"}, {"id": "in-2"}], contacts=[None, 5, {"wa_id": []}, "x"])

    parsed = parse(change)

    assert (len(parsed.observations), parsed.ignored) == (1, 2)


@pytest.mark.parametrize("messages", [None, {}, "x", 5, [None, 5]])
def test_odd_inbound_messages_cost_no_status(messages):
    assert len(parse(a_change(meta_status(), messages=messages)).observations) == 1


@pytest.mark.parametrize("field", ["calls", "message_template_status_update", "Messages"])
def test_a_change_of_another_field_is_ignored_whatever_it_holds(field):
    call = {"id": "wacid.1", "type": "call", "status": "RINGING", "timestamp": "1792065607"}

    parsed = parse(a_change(call, field=field), {"field": field, "value": "anything"}, a_change(meta_status()))

    assert (len(parsed.observations), parsed.ignored, parsed.unreadable) == (1, 2, ())


def test_a_change_that_does_not_name_its_field_is_read():
    change = a_change(meta_status())

    for unnamed in ({"value": change["value"]}, {**change, "field": None}, {**change, "field": ""}):
        assert len(parse(unnamed).observations) == 1


@pytest.mark.parametrize("subject", ["payment", "call"])
def test_the_status_of_a_payment_or_a_call_fails_no_message(subject):
    parsed = parse(a_change({**meta_status(), "type": subject, "status": "failed"}))

    assert (parsed.observations, parsed.ignored) == ((), 1)


@pytest.mark.parametrize("subject", ["message", None, [], {}, 5, "something new"])
def test_the_status_of_anything_else_is_read(subject):
    assert observed(type=subject).claim.status is Status.DELIVERED


@pytest.mark.parametrize("bad", [None, 5, "x", [], {"changes": {}}, {"changes": "x"}])
def test_a_bad_entry_is_captured_and_the_others_are_read(bad):
    parsed = parse_body({"entry": [bad, {"changes": [a_change(meta_status())]}]})

    assert (1, [json.dumps(bad).encode()]) == (len(parsed.observations), [each.item for each in parsed.unreadable])


@pytest.mark.parametrize(
    "bad",
    [None, 5, [], {"field": 5}, {}, {"field": "messages", "value": None}, a_change() | {"value": {"statuses": {}}}],
)
def test_a_bad_change_is_captured_and_the_others_are_read(bad):
    parsed = parse(bad, a_change(meta_status()))

    assert (1, [json.dumps(bad).encode()]) == (len(parsed.observations), [each.item for each in parsed.unreadable])


@pytest.mark.parametrize(
    "nothing", [{"entry": []}, {"entry": [{"changes": []}]}, {"entry": [{"changes": [a_change()]}]}]
)
def test_an_empty_batch_says_nothing(nothing):
    assert Parsed() == parse_body(nothing)


@pytest.mark.parametrize("entry", [{}, {"changes": None}])
def test_an_entry_without_changes_is_ignored(entry):
    assert Parsed(ignored=1) == parse_body({"entry": [entry]})


# Who


def test_a_message_to_a_group_is_one_message_a_participant():
    first = observed(recipient_type="group", recipient_id="12036300000@g.us", recipient_participant_id="12025550123")
    second = observed(recipient_type="group", recipient_id="12036300000@g.us", recipient_participant_id="12025550124")

    assert "wamid.A" == first.provider_message_id == second.provider_message_id  # a chain
    assert first.reference != second.reference
    assert first.reference.startswith("wamid.A")
    assert (first.recipient, first.recipient_raw, first.participant) == (
        "12036300000@g.us",
        "12036300000@g.us",
        "12025550123",
    )


def test_a_group_of_digits_only_is_no_phone_number():
    assert observed(recipient_type="group", recipient_id="120363000000").recipient == "120363000000"


def test_a_participant_known_by_user_id_only_is_told_apart_by_it():
    observation = observed(recipient_user_id=None, recipient_participant_user_id="US.1")

    assert (
        observation.reference,
        observation.participant,
        observation.recipient_user_id,
    ) == ("wamid.A|US.1", "US.1", "US.1")


@pytest.mark.parametrize("bad", [[], {}, True, 1.5, "\0"])
def test_a_participant_that_cannot_be_read_is_captured_and_not_taken_for_the_group(bad):
    parsed = parse(a_change({**meta_status(), "recipient_participant_id": bad}))

    assert (len(parsed.observations), len(parsed.unreadable)) == (0, 1)


def test_a_recipient_known_by_user_id_only_has_no_phone_number():
    observation = observed(recipient_id=None, recipient_user_id="US.9001")

    assert (
        observation.recipient,
        observation.recipient_raw,
        observation.recipient_user_id,
    ) == (None, None, "US.9001")


@pytest.mark.parametrize(
    ("told", "recipient"), [("12025550112", "+12025550112"), ("US.9001", "US.9001"), (12025550112, "+12025550112")]
)
def test_a_phone_number_gets_its_plus_and_anything_else_stays_as_sent(told, recipient):
    assert recipient == observed(recipient_id=told).recipient


@pytest.mark.parametrize("metadata", [None, {}, [], {"phone_number_id": None}, {"phone_number_id": []}])
def test_a_missing_business_number_costs_nothing(metadata):
    (observation,) = parse(a_change(meta_status(), metadata=metadata)).observations

    assert observation.provider_account is None


# Errors


@pytest.mark.parametrize(
    ("errors", "code", "text"),
    [
        ([{"code": 131026, "title": "T", "message": "M", "error_data": {"details": "D"}}], "131026", "D"),
        ([{"code": "131026", "title": "T", "message": "M", "error_data": {"details": " "}}], "131026", "M"),
        ([{"code": 470, "title": "T"}], "470", "T"),
        ([{"code": 1, "error_data": "D", "message": 5, "title": ["T"]}], "1", None),
        ([{"title": "T"}], None, "T"),
        ([None, {}, {"code": 2}, {"code": 3}], "2", None),
        ([{"code": True, "title": ""}], None, None),
        (None, None, None),
        ([], None, None),
        ({}, None, None),
        ("131026", None, None),
        ([[131026]], None, None),
    ],
)
def test_the_first_error_gives_its_code_and_its_most_detailed_text(errors, code, text):
    observation = observed(status="failed", errors=errors)

    assert (Claim(Status.FAILED, FailureKind.FAILED), code, text) == (
        observation.claim,
        observation.error_code,
        observation.error_text,
    )


def test_an_error_on_a_status_that_is_no_failure_is_kept_and_fails_nothing():
    observation = observed(status="sent", errors=[{"code": 130429, "title": "T"}])

    assert (observation.claim.status, observation.error_code) == (Status.SENT, "130429")


def test_an_error_text_with_bad_utf_8_is_still_read():
    body = json.dumps({"entry": [{"changes": [a_change(meta_status(status="failed"))]}]}).encode()
    damaged = body.replace(b'"D"', b'"caf\xe9"')

    parsed = PROVIDER.parse(a_webhook(damaged), an_account("meta"))

    assert [each.error_text for each in parsed.observations] == ["caf\N{REPLACEMENT CHARACTER}"]


def test_errors_of_the_account_are_alerts_and_no_observations():
    errors = [{"code": 130429, "title": "T"}, {"code": "80007"}, {"title": "no code"}, None]
    change = a_change(errors=errors)

    assert Parsed(alerts=("130429", "80007")) == parse(change)
    assert Parsed(alerts=("130429", "80007")) == parse({**change, "value": {"errors": errors, "statuses": None}})


@pytest.mark.parametrize("errors", [{}, [None], "x", 5, [5], [[]], [{"code": None}]])
def test_odd_errors_of_the_account_cost_no_status(errors):
    parsed = parse(a_change(meta_status(), errors=errors))

    assert (len(parsed.observations), parsed.alerts) == (1, ())


# Words


def test_a_reference_of_the_sender_is_kept_verbatim():
    assert observed(biz_opaque_callback_data="tenant=acme;ref=ö 42").client_reference == "tenant=acme;ref=ö 42"


def test_a_warning_is_known_and_claims_nothing():
    assert observed(status="warning").claim == Claim(Status.UNKNOWN)
    assert "warning" in PROVIDER.claims
