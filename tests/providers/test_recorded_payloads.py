"""Every recorded request is authentic, and says exactly what was noted down when it was recorded."""

from datetime import datetime
from typing import Any

import pytest

from ledger.domain.observation import Observation
from ledger.providers import PROVIDERS
from ledger.wire.contract import UNRECOGNISED, Secret
from tests.providers.webhook_cases import all_recorded, an_account, as_webhook, recorded_account

WEBHOOKS = dict(all_recorded("webhook"))
HANDSHAKES = dict(all_recorded("webhook_verification"))

#: What a recording calls a field of an observation.
FIELDS = {
    "provider_message_id": "provider_message_id",
    "provider_status": "provider_status",
    "occurred_at": "occurred_at",
    "error_code": "error_code",
    "error_text": "error_text",
    "recipient": "recipient",
    "recipient_raw": "recipient_raw",
    "recipient_user_id": "recipient_user_id",
    "participant": "participant",
    "part": "part",
    "parts": "parts",
    "account": "provider_account",
    "event_id": "event_id",
    "opaque": "client_reference",
    "raw_dlr_done_date": "date_text",
}


def noted(expected: dict[str, Any]) -> dict[str, Any]:
    values = {FIELDS[name]: value for name, value in expected.items()}
    told_at = values["occurred_at"]
    return {**values, "occurred_at": datetime.fromisoformat(told_at) if told_at else None}


def seen(observation: Observation, expected: dict[str, Any]) -> dict[str, Any]:
    return {FIELDS[name]: getattr(observation, FIELDS[name]) for name in expected}


def parsed(name: str) -> tuple[Observation, ...]:
    payload = WEBHOOKS[name]
    return PROVIDERS[payload["provider"]].parse(as_webhook(payload), recorded_account(payload)).observations


@pytest.mark.parametrize("name", WEBHOOKS)
def test_a_recorded_request_is_authentic_under_its_own_secret_only(name):
    payload, provider = WEBHOOKS[name], PROVIDERS[WEBHOOKS[name]["provider"]]

    assert payload["verify"]["valid"]
    assert provider.authenticate(as_webhook(payload), recorded_account(payload, "wrong", payload["secret"]))
    assert not provider.authenticate(as_webhook(payload), recorded_account(payload, payload["secret"][::-1]))


@pytest.mark.parametrize("name", WEBHOOKS)
def test_a_recorded_request_says_what_was_noted(name):
    payload, provider = WEBHOOKS[name], PROVIDERS[WEBHOOKS[name]["provider"]]

    found = provider.parse(as_webhook(payload), recorded_account(payload))

    expected = [noted(each) for each in payload["expect"]]
    assert expected == [seen(each, told) for each, told in zip(found.observations, payload["expect"], strict=True)]
    assert found.unreadable == ()
    assert found.observations or found.ignored or found.alerts


@pytest.mark.parametrize("name", WEBHOOKS)
def test_the_words_of_recorded_requests_are_all_known(name):
    assert all(each.claim is not UNRECOGNISED for each in parsed(name))


@pytest.mark.parametrize("name", [name for name, payload in WEBHOOKS.items() if "duplicate_of" in payload])
def test_a_resent_request_gives_equal_observations(name):
    original = f"{WEBHOOKS[name]['provider']}/{WEBHOOKS[name]['duplicate_of']}"

    assert parsed(original) == parsed(name)


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_recorded_handshake_is_answered_as_noted(name):
    payload, provider = HANDSHAKES[name], PROVIDERS[HANDSHAKES[name]["provider"]]
    account = an_account(provider.name, verify_token=Secret("fake-verify-token-1"))

    assert provider.handshake is not None
    assert payload.get("expect_body") == provider.handshake(as_webhook(payload), account)
