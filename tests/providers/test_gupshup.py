"""Gupshup's own rules: which of two ids names a message, two formats, two clocks."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.domain.observation import Observation
from ledger.domain.status import Status
from ledger.providers import PROVIDERS
from ledger.wire.contract import Parsed
from tests.providers.requests import an_account
from tests.providers.senders import wrap_meta
from tests.providers.senders_more import gupshup_event, gupshup_status, send_with_token

GUPSHUP = PROVIDERS["gupshup"]
ACCOUNT = an_account("gupshup", "secret")


def parse(body: bytes) -> Parsed:
    return GUPSHUP.parse(send_with_token(body, b"secret"), ACCOUNT)


def event(**payload: Any) -> Observation:
    told = gupshup_event()
    told["payload"] |= payload
    (observation,) = parse(json.dumps(told).encode()).observations
    return observation


def status(**fields: Any) -> Observation:
    (observation,) = parse(wrap_meta([json.dumps(gupshup_status() | fields).encode()])).observations
    return observation


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"id": "gs-1", "gsId": None}, "gs-1"),
        ({"id": "wamid.A", "gsId": "gs-1"}, "gs-1"),
        ({"id": "wamid.A", "gsId": None}, "wamid.A"),
    ],
)
def test_gupshups_own_id_names_a_message_where_there_is_one(payload, expected):
    observation = event(**payload)

    assert (expected, expected) == (observation.reference, observation.provider_message_id)


def test_in_the_format_of_the_cloud_api_its_own_id_takes_the_place_of_whatsapps():
    assert status(gs_id="gs-1").reference == "gs-1"
    assert status(gs_id=None).reference == "wamid.A"


def test_a_member_of_a_group_stays_one():
    observation = status(gs_id="gs-1", recipient_type="group", recipient_participant_id="447700900123")

    assert (observation.reference, observation.provider_message_id) == ("gs-1|447700900123", "gs-1")


def test_whatsapps_own_time_goes_before_gupshups():
    assert event(payload={"ts": 1792065601}).occurred_at == datetime(2026, 10, 15, 12, 0, 1, tzinfo=UTC)
    assert event(payload={}).occurred_at == datetime(2026, 10, 15, 12, 0, 1, 250_000, tzinfo=UTC)


@pytest.mark.parametrize("told", ["1792065607", "1792065607000", 1792065607])
def test_a_time_may_be_in_seconds_or_milliseconds(told):
    assert status(timestamp=told).occurred_at == datetime(2026, 10, 15, 12, 0, 7, tzinfo=UTC)


def test_a_message_that_waits_at_gupshup_is_queued():
    assert event(type="enqueued").claim.status is Status.QUEUED


@pytest.mark.parametrize("kind", ["message", "user-event", "billing-event", "system-event"])
def test_an_event_about_something_else_is_ignored(kind):
    assert parse(json.dumps(gupshup_event() | {"type": kind}).encode()).ignored == 1


def test_a_masked_recipient_is_kept_as_it_is():
    assert status(recipient_id="4477009XXXXX").recipient == "4477009XXXXX"
