"""Sinch's own rules: recipients of a batch, codes that are states, a fallback that is no end."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.domain.observation import Observation
from ledger.domain.status import Channel, Status
from ledger.providers import PROVIDERS
from ledger.wire import decoding
from ledger.wire.contract import Parsed
from tests.providers.requests import an_account
from tests.providers.senders_more import send_infobip, sign_sinch, sinch_message, sinch_recipient

SINCH = PROVIDERS["sinch"]
ACCOUNT = an_account("sinch", "secret")


def parse(told: object) -> Parsed:
    return SINCH.parse(sign_sinch(json.dumps(told).encode(), b"secret"), ACCOUNT)


def message(**report: Any) -> Observation:
    told = sinch_message()
    told["message_delivery_report"] |= report
    (observation,) = parse(told).observations
    return observation


def recipient(**fields: Any) -> Observation:
    (observation,) = parse(sinch_recipient() | fields).observations
    return observation


def a_batch(*groups: object) -> dict[str, Any]:
    return {"batch_id": "01FC", "type": "delivery_report_sms", "statuses": list(groups), "total_message_count": 3}


def a_group(status: str, *recipients: object, code: int = 0) -> dict[str, Any]:
    return {"status": status, "code": code, "count": len(recipients), "recipients": list(recipients)}


# Reports about a whole batch


def test_a_batch_is_told_recipient_by_recipient():
    told = a_batch(a_group("Delivered", "447700900123", "447700900124"), a_group("Cancelled", "447700900125", code=407))

    observations = parse(told).observations

    assert [(seen.reference, seen.provider_status, seen.error_code) for seen in observations] == [
        ("01FC|+447700900123", "Delivered", None),
        ("01FC|+447700900124", "Delivered", None),
        ("01FC|+447700900125", "Cancelled", "407"),
    ]
    assert {seen.provider_message_id for seen in observations} == {"01FC"}
    assert {seen.occurred_at for seen in observations} == {None}


@pytest.mark.parametrize("group", [{"status": "Delivered", "count": 3}, {"status": "Delivered", "recipients": []}])
def test_a_summary_cannot_be_attributed_and_is_kept(group):
    parsed = parse(a_batch(group, a_group("Failed", "447700900123")))

    assert [json.loads(each.item) for each in parsed.unreadable] == [group]
    assert [seen.provider_status for seen in parsed.observations] == ["Failed"]


@pytest.mark.parametrize("bad", [None, 5, [], {"recipients": ["447700900123"]}, {"status": "Failed", "recipients": 7}])
def test_a_bad_group_is_kept_and_its_neighbours_are_read(bad):
    parsed = parse(a_batch(a_group("Delivered", "447700900123"), bad, a_group("Failed", "447700900124")))

    assert [seen.recipient for seen in parsed.observations] == ["+447700900123", "+447700900124"]
    assert len(parsed.unreadable) == 1


@pytest.mark.parametrize("bad", [None, "", 1.5, {}, "\0"])
def test_a_bad_recipient_is_kept_and_its_neighbours_are_read(bad):
    parsed = parse(a_batch(a_group("Delivered", "447700900123", bad, 447700900124)))

    assert [seen.recipient for seen in parsed.observations] == ["+447700900123", "+447700900124"]
    assert len(parsed.unreadable) == 1


def test_a_large_batch_is_not_stored_with_every_recipient():
    numbers = [f"4477{number:08}" for number in range(5_000)]
    body = json.dumps(a_batch(a_group("Delivered", *numbers))).encode()

    observations = SINCH.parse(sign_sinch(body, b"secret"), ACCOUNT).observations

    assert len(body) > decoding.EVIDENCE_BYTES_MAX
    assert len(observations) == 5_000
    assert max(len(seen.item) for seen in observations) < 100


def test_a_small_batch_is_the_evidence_of_each_of_its_recipients():
    told = a_batch(a_group("Delivered", "447700900123"))

    assert [json.loads(seen.item) for seen in parse(told).observations] == [told]


# SMS


@pytest.mark.parametrize(("code", "expected"), [(0, None), (400, None), (401, None), (402, "402"), (1, "1")])
def test_a_code_that_names_a_state_is_no_error(code, expected):
    assert expected == recipient(code=code).error_code


@pytest.mark.parametrize("word", ["Delivered", "DELIVERED", "delivered"])
def test_words_are_understood_in_any_case_and_kept(word):
    observation = recipient(status=word)

    assert (word, Status.DELIVERED) == (observation.provider_status, observation.claim.status)


def test_mms_is_told_from_sms():
    observation = recipient(type="recipient_delivery_report_mms")

    assert (observation.channel, observation.transport) == (Channel.SMS, "mms")


def test_the_operators_own_time_is_not_taken_for_the_reports():
    assert recipient(at=None).occurred_at is None


@pytest.mark.parametrize(
    "at", ["2026-10-15T12:00:01.25", "2026-10-15T12:00:01.250Z", "2026-10-15T14:00:01.250000123+02:00"]
)
def test_a_time_without_a_zone_is_utc_and_digits_beyond_microseconds_are_dropped(at):
    assert recipient(at=at).occurred_at == datetime(2026, 10, 15, 12, 0, 1, 250_000, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["mo_text", "mo_binary", "mo_media"])
def test_an_inbound_sms_is_ignored(kind):
    assert parse({"type": kind, "id": "1", "from": "447700900123", "body": "hello"}).ignored == 1


# Conversation


def test_while_a_fallback_is_running_nothing_is_over():
    observation = message(status="SWITCHING_CHANNEL")

    assert observation.claim.status is Status.UNKNOWN
    assert not observation.claim.closes
    assert observation.error_code == "RECIPIENT_NOT_REACHABLE"


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("VIBERBM", (Channel.VIBER, None)),
        ("WHATSAPP", (Channel.WHATSAPP, None)),
        ("SMS", (Channel.SMS, None)),
        ("RCS", (Channel.SMS, "rcs")),
        ("MESSENGER", (None, "messenger")),
    ],
)
def test_a_report_tells_its_channel(channel, expected):
    observation = message(channel_identity={"channel": channel, "identity": "447700900123"})

    assert expected == (observation.channel, observation.transport)


def test_an_identity_on_another_channel_is_no_phone_number():
    assert message(channel_identity={"channel": "MESSENGER", "identity": "447700900123"}).recipient == "447700900123"


@pytest.mark.parametrize("event", ["message", "event", "contact_create_notification", "message_submit_notification"])
def test_another_kind_of_event_is_ignored(event):
    assert parse({"app_id": "01APP", "event_time": "2026-10-15T12:00:01Z", event: {"id": "1"}}).ignored == 1


# Authentication


def test_a_signature_is_not_replaced_by_a_password():
    assert not SINCH.authenticate(send_infobip(b"{}", b"secret"), an_account("sinch", "hook:secret"))


def test_an_account_without_signatures_may_ask_for_a_password():
    account = an_account("sinch", "hook:secret", options={"auth": "basic"})

    assert SINCH.authenticate(send_infobip(b"{}", b"secret"), account)
    assert not SINCH.authenticate(send_infobip(b"{}", b"another"), account)
    assert not SINCH.authenticate(sign_sinch(b"{}", b"hook:secret"), account)


@pytest.mark.parametrize("at", ["", "soon", "-1", "1792067400.5", "0", "99999999999", "١٧٩٢٠٦٧٤٠٠"])
def test_a_signature_without_a_plausible_time_is_refused(at):
    assert not SINCH.authenticate(sign_sinch(b"{}", b"secret", at.encode().decode("latin-1")), ACCOUNT)
