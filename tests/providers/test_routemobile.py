"""Route Mobile's own rules: seconds or milliseconds, words with and without a capital."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.domain.status import FailureKind, Status
from ledger.providers import PROVIDERS
from ledger.wire.contract import Parsed
from tests.providers.requests import an_account
from tests.providers.senders_more import routemobile_report, send_with_token

ROUTEMOBILE = PROVIDERS["routemobile"]


def parse(**fields: Any) -> Parsed:
    body = json.dumps(routemobile_report() | fields).encode()
    return ROUTEMOBILE.parse(send_with_token(body, b"secret"), an_account("routemobile", "secret"))


@pytest.mark.parametrize("told", [1792065606, 1792065606000, "1792065606"])
def test_a_time_may_be_in_seconds_or_milliseconds(told):
    (observation,) = parse(message_time=told).observations

    assert observation.occurred_at == datetime(2026, 10, 15, 12, 0, 6, tzinfo=UTC)


@pytest.mark.parametrize("word", ["Sent", "sent"])
def test_a_word_is_understood_with_and_without_a_capital(word):
    (observation,) = parse(message_status=word).observations

    assert (word, Status.SENT) == (observation.provider_status, observation.claim.status)


def test_an_expired_message_left_and_did_not_arrive():
    (observation,) = parse(message_status="expired").observations

    assert (observation.claim.status, observation.claim.kind) == (Status.FAILED, FailureKind.UNDELIVERED)


def test_an_inbound_message_is_ignored():
    assert parse(service_type="mo", message_status=None).ignored == 1
