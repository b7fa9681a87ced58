"""Infobip's own rules: names before groups, operators are no handsets, who a seen report is about."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.providers import PROVIDERS
from ledger.wire.contract import UNRECOGNISED, Parsed
from tests.providers.requests import an_account
from tests.providers.senders_more import infobip_report, send_infobip

INFOBIP = PROVIDERS["infobip"]
ACCOUNT = an_account("infobip", "hook:secret")
LOST, REFUSED = Claim(Status.FAILED, FailureKind.UNDELIVERED), Claim(Status.FAILED, FailureKind.FAILED)


def parse(*reports: Any) -> Parsed:
    return INFOBIP.parse(send_infobip(json.dumps({"results": list(reports)}).encode(), b"secret"), ACCOUNT)


def observed(**fields: Any) -> Observation:
    (observation,) = parse(infobip_report() | fields).observations
    return observation


def seen(**fields: Any) -> Observation:
    told = {"messageId": "ib-1", "sentAt": "2026-10-15T12:00:00.000+0000", "seenAt": "2026-10-15T14:00:01.250+0200"}
    (observation,) = parse(told | fields).observations
    return observation


@pytest.mark.parametrize(
    ("name", "group", "claim"),
    [
        ("DELIVERED_TO_OPERATOR", "DELIVERED", Claim(Status.SENT)),
        ("DELIVERED_TO_HANDSET", "DELIVERED", Claim(Status.DELIVERED)),
        ("EXPIRED_DLR_UNKNOWN", "EXPIRED", Claim(Status.SENT, closes=True)),
        ("EXPIRED_EXPIRED", "EXPIRED", LOST),
        ("EXPIRED_SOMETHING_NEW", "EXPIRED", LOST),
        ("PENDING_ACCEPTED", "PENDING", Claim(Status.QUEUED)),
        ("PENDING_SOMETHING_NEW", "PENDING", Claim(Status.SENT)),
        ("REJECTED_NETWORK", "REJECTED", REFUSED),
        ("UNDELIVERABLE_SOMETHING_NEW", "UNDELIVERABLE", LOST),
        ("DELIVERED_SOMETHING_NEW", "DELIVERED", UNRECOGNISED),
        ("SOMETHING_NEW", "SOMETHING", UNRECOGNISED),
    ],
)
def test_the_name_of_a_status_counts_and_a_new_name_counts_as_its_group(name, group, claim):
    observation = observed(status={"name": name, "groupName": group})

    assert (name, claim) == (observation.provider_status, observation.claim)


@pytest.mark.parametrize(
    ("name", "claim"),
    [("REJECTED_NETWORK", REFUSED), ("UNDELIVERABLE_SOMETHING_NEW", LOST), ("DELIVERED_SOMETHING_NEW", UNRECOGNISED)],
)
def test_a_new_name_without_a_group_counts_as_what_it_begins_with(name, claim):
    assert claim == observed(status={"name": name}).claim


@pytest.mark.parametrize(
    ("group", "claim"),
    [
        ("ACCEPTED", Claim(Status.QUEUED)),
        ("PENDING", Claim(Status.SENT)),
        ("DELIVERED", Claim(Status.DELIVERED)),
        ("EXPIRED", LOST),
        ("REJECTED", REFUSED),
        ("UNDELIVERABLE", LOST),
    ],
)
def test_without_a_name_the_group_speaks(group, claim):
    observation = observed(status={"groupName": group})

    assert (group, claim) == (observation.provider_status, observation.claim)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"id": 0, "name": "NO_ERROR", "description": "No Error"}, None),
        ({"id": 1, "name": "EC_UNKNOWN_SUBSCRIBER"}, "1"),
        ({"name": "EC_ABSENT_SUBSCRIBER"}, "EC_ABSENT_SUBSCRIBER"),
        ({"name": "NO_ERROR"}, None),
        (None, None),
    ],
)
def test_the_error_that_says_no_error_is_none(error, code):
    assert code == observed(error=error).error_code


def test_a_failure_without_an_error_is_described_by_its_status():
    status = {"name": "REJECTED_NETWORK", "groupName": "REJECTED", "description": "Network is forbidden"}

    assert observed(status=status, error=None).error_text == "Network is forbidden"


def test_the_time_of_a_report_is_when_it_was_done_in_utc_and_never_when_it_was_sent():
    assert observed().occurred_at == datetime(2026, 10, 15, 12, 0, 1, 250_000, tzinfo=UTC)
    assert observed(doneAt=None).occurred_at is None


def test_a_seen_report_says_so_at_the_time_it_was_seen():
    observation = seen()

    assert (observation.provider_status, observation.claim) == ("SEEN", Claim(Status.READ))
    assert observation.occurred_at == datetime(2026, 10, 15, 12, 0, 1, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("told", "recipient"),
    [
        ({"from": "12025550152", "to": "FakeBrand"}, "+12025550152"),
        ({"from": "12025550152", "to": "10203"}, "+12025550152"),
        ({"from": "447700900002", "to": "447700900129"}, "+447700900129"),
        ({"from": "FakeBrand", "to": "447700900129"}, "+447700900129"),
        ({"from": "12025550152"}, "+12025550152"),
        ({"to": "447700900129"}, "+447700900129"),
        ({"from": "FakeBrand", "to": "a-user"}, "a-user"),
        ({"sender": "FakeBrand", "destination": "447700900130"}, "+447700900130"),
        ({}, None),
    ],
)
def test_a_seen_report_is_about_the_phone_number_in_it(told, recipient):
    assert recipient == seen(**told).recipient


def test_in_a_delivery_report_the_sender_is_never_taken_for_the_recipient():
    told = {"from": "447700900002", "to": "Acme"}

    assert observed(**told).recipient == "Acme"


@pytest.mark.parametrize(
    ("channel", "expected"),
    [("SMS", Channel.SMS), ("WHATSAPP", Channel.WHATSAPP), ("VIBER_BM", Channel.VIBER), ("PIGEON", None), (None, None)],
)
def test_a_report_may_tell_its_channel(channel, expected):
    assert expected == observed(channel=channel).channel


def test_an_inbound_message_is_ignored_and_its_neighbours_are_read():
    inbound = {"messageId": "in-1", "from": "447700900123", "to": "Acme", "receivedAt": "2026-10-15T12:00:00.000+0000"}

    parsed = parse(inbound, infobip_report())

    assert (parsed.ignored, len(parsed.observations), parsed.unreadable) == (1, 1, ())


def test_a_report_of_a_deletion_is_kept_unread():
    parsed = parse({"messageId": "ib-1", "to": "447700900129", "deletedAt": "2026-10-15T12:00:00.000+0000"})

    assert (parsed.observations, len(parsed.unreadable)) == ((), 1)


def test_a_damaged_description_costs_no_status():
    body = (
        b'{"results":[{"messageId":"ib-1","status":{"name":"REJECTED_NETWORK","groupName":"REJECTED",'
        b'"description":"no \xff way"}}]}'
    )

    (observation,) = INFOBIP.parse(send_infobip(body, b"secret"), ACCOUNT).observations

    assert ("REJECTED_NETWORK", "no \N{REPLACEMENT CHARACTER} way") == (
        observation.provider_status,
        observation.error_text,
    )
