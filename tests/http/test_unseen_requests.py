"""Requests that no adapter was written with, over HTTP, get the answers that their providers' pages lead to expect."""

import re
from typing import Any

import pytest

from tests.http import unseen_last as last
from tests.http import unseen_more as more
from tests.http import unseen_requests as first
from tests.http.callbacks import Callback, found, send
from tests.http.unseen_requests import ROTATED, SECRET, Unseen
from tests.plugins.service import Service
from tests.providers.requests import BASE_URL, NOW, REQUIRED_OPTIONS, header_pairs
from tests.providers.webhook_cases import CASES, PROVIDERS, Case

BY_NAME = {case.name: case for case in CASES}
TABLES = (
    first.META, first.DIALOG360, first.TWILIO, first.VIBER, first.VONAGE,
    more.INFOBIP, more.SINCH, more.TELNYX, more.MESSAGEBIRD, more.PLIVO,
    last.AWS, last.GUPSHUP, last.ROUTEMOBILE, last.STANDARD,
)  # fmt: skip
UNSEEN: dict[str, Unseen] = {name: unseen for table in TABLES for name, unseen in table.items()}


def account_of(case: Case) -> str:
    return "unseen-" + re.sub(r"[^a-z0-9]+", "-", case.name)


def accounts() -> dict[str, dict[str, Any]]:
    return {
        account_of(case): {
            "provider": case.provider.name,
            "channel": sorted(case.provider.channels)[0],
            "secrets": [case.configured(label).decode() for label in (SECRET, ROTATED)],
            "public_url": BASE_URL,
            "options": case.options or REQUIRED_OPTIONS.get(case.provider.name, {}),
        }
        for case in CASES
    }


@pytest.fixture(scope="module")
def service(start_module_service, new_database, tmp_path_factory) -> Service:
    clock = tmp_path_factory.mktemp("clock") / "now"
    clock.write_text(NOW.isoformat(), "utf-8")
    return start_module_service(new_database(), accounts=accounts(), clock=clock)


@pytest.mark.parametrize("name", UNSEEN)
def test_a_request_that_was_never_seen_gets_the_documented_answer(service, name):
    unseen = UNSEEN[name]
    case, request = BY_NAME[unseen.case], unseen.request()
    account = account_of(case)
    headers = {key.decode(): value.decode("latin-1") for key, value in header_pairs(request)}
    kept = len(service.captured(account))

    answer = send(service, Callback(account, request.body, headers, request.query.decode("latin-1"), request.method))

    assert answer.status_code == unseen.answer, answer.text
    assert len(service.captured(account)) - kept == unseen.kept
    channels = [channel.value for channel in case.provider.channels]
    listed = [message for channel in channels for message in found(service.api(account, channel), unseen.message)]
    assert tuple(sorted(message["status"] for message in listed)) == unseen.statuses


def test_every_provider_has_requests_that_were_never_seen():
    counted = dict.fromkeys(PROVIDERS, 0)
    for unseen in UNSEEN.values():
        counted[BY_NAME[unseen.case].provider.name] += 1

    assert min(counted.values()) >= 6
