"""Every recorded request, sent to a running server, is answered as noted and found through the native API.

The server's clock for webhooks stands where it stood when a request was recorded: signatures have times.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.providers import PROVIDERS
from tests.http.callbacks import Callback, found, history, send
from tests.plugins.service import Service
from tests.providers.requests import NOW
from tests.providers.webhook_cases import all_recorded

WEBHOOKS = dict(all_recorded("webhook"))
HANDSHAKES = dict(all_recorded("webhook_verification"))

#: Channels a key may have, by provider.
CHANNELS = {name: sorted(provider.channels) for name, provider in PROVIDERS.items()}


def configured_url(payload: dict[str, Any]) -> str:
    return payload.get("configured_url") or payload["url"].partition("?")[0]


def place(payload: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return what makes an account of its own: provider, public URL, secret and options."""
    return payload["provider"], configured_url(payload), payload["secret"], json.dumps(payload.get("options", {}))


PLACES = {place(payload): "" for payload in WEBHOOKS.values()}
PLACES = {told: f"{told[0]}-{number}" for number, told in enumerate(PLACES)}


def accounts() -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = {
        name: {
            "provider": provider,
            "channel": CHANNELS[provider][0],
            "secrets": [secret],
            "public_url": url,
            "options": json.loads(options),
        }
        for (provider, url, secret, options), name in PLACES.items()
    }
    tables |= {f"{name}-decoy": {**table, "secrets": ["another"]} for name, table in tables.items()}
    for payload in HANDSHAKES.values():
        tables[_account_at(payload["url"].partition("?")[0])]["verify_token"] = payload["secret"]
    return tables


def _account_at(url: str) -> str:
    return next(name for (_, known, _, _), name in PLACES.items() if known == url)


@pytest.fixture(scope="module")
def clock(tmp_path_factory) -> Path:
    """The file that tells the server's clock."""
    file = tmp_path_factory.mktemp("clock") / "now"
    file.write_text(NOW.isoformat(), "utf-8")
    return file


@pytest.fixture(scope="module")
def recorded(start_module_service, new_database, clock) -> Service:
    return start_module_service(new_database(), accounts=accounts(), clock=clock)


@pytest.fixture(scope="module")
def keys(recorded) -> dict[str, list[str]]:
    """One key for every channel of every account."""
    return {
        name: [recorded.new_key(name, channel)[1] for channel in CHANNELS[provider]]
        for (provider, _, _, _), name in PLACES.items()
    }


@pytest.fixture
def deliver(recorded, clock):
    """Sends a recorded request to an account, at the time when it was recorded."""

    def deliver(payload: dict[str, Any], name: str) -> int:
        clock.write_text(payload["verify"].get("now") or NOW.isoformat(), "utf-8")
        query = payload["url"].partition("?")[2]
        headers = {key: value for key, value in payload["headers"].items() if key.lower() != "content-length"}
        callback = Callback(name, payload["body"].encode(), headers, query, payload["method"])
        return send(recorded, callback).status_code

    return deliver


def seen(service: Service, keys: list[str], expected: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the message that an expectation is about, and its history."""
    matches = [
        (message, service.client(key))
        for key in keys
        for message in found(service.client(key), expected["provider_message_id"])
        if message["participant"] == expected.get("participant")
    ]
    if len(matches) > 1:  # recipients share the id
        matches = [(message, client) for message, client in matches if message["recipient"] == expected["recipient"]]
    ((message, client),) = matches
    return message, history(client, message)


def as_instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


@pytest.mark.parametrize("name", WEBHOOKS)
def test_a_recorded_callback_is_on_record_as_noted(recorded, keys, deliver, name):
    payload = WEBHOOKS[name]
    account = PLACES[place(payload)]

    answered = deliver(payload, account)

    assert payload.get("expect_http", 200) == answered
    for expected in payload["expect"]:
        message, events = seen(recorded, keys[account], expected)
        told = [
            event
            for event in events
            if (event["provider_status"], as_instant(event["occurred_at"]))
            == (expected["provider_status"], as_instant(expected["occurred_at"]))
        ]
        assert [(event["error_code"], event["participant"]) for event in told] == [
            (expected["error_code"], expected.get("participant"))
        ]
        assert expected["recipient"] in (None, message["recipient"])
        assert (message["status"] == "FAILED") == (message["failure"] is not None)
        for implied in payload.get("implies", ()):
            assert message[f"{implied}_at"] is not None


@pytest.mark.parametrize("name", [name for name, payload in WEBHOOKS.items() if not payload["expect"]])
def test_a_recorded_callback_about_nothing_of_ours_records_nothing(recorded, deliver, name):
    payload = WEBHOOKS[name]
    before = recorded.rows("SELECT count(*) FROM events")

    answered = deliver(payload, PLACES[place(payload)])

    assert answered == 200
    assert before == recorded.rows("SELECT count(*) FROM events")
    assert recorded.rows("SELECT count(*) FROM captures") == [(0,)]


@pytest.mark.parametrize("name", WEBHOOKS)
def test_a_recorded_callback_sent_again_adds_no_event(recorded, deliver, name):
    payload = WEBHOOKS[name]
    account = PLACES[place(payload)]
    original = payload.get("duplicate_of")
    first = WEBHOOKS[f"{payload['provider']}/{original}"] if original else payload
    deliver(first, account)
    before = recorded.rows("SELECT count(*) FROM events")

    answered = deliver(payload, account)

    assert answered == 200
    assert before == recorded.rows("SELECT count(*) FROM events")


@pytest.mark.parametrize("name", WEBHOOKS)
def test_a_recorded_callback_is_refused_under_another_secret(recorded, deliver, name):
    payload = WEBHOOKS[name]
    before = recorded.rows("SELECT count(*) FROM events")

    answered = deliver(payload, f"{PLACES[place(payload)]}-decoy")

    assert answered == 401
    assert before == recorded.rows("SELECT count(*) FROM events")


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_recorded_handshake_is_answered_as_noted(recorded, name):
    payload = HANDSHAKES[name]
    url, _, query = payload["url"].partition("?")

    answer = recorded.client().get(f"/webhooks/{_account_at(url)}?{query}", headers=payload["headers"])

    assert answer.status_code in payload.get("expect_http_any_of", [payload["expect_http"]])
    assert answer.headers["content-type"].startswith("text/plain") == (answer.status_code == 200)
    assert answer.headers["x-content-type-options"] == "nosniff"
    if "expect_body" in payload:
        assert payload["expect_body"] == answer.text
    else:
        assert "1158201445" not in answer.text


def test_every_recorded_word_reaches_the_log(recorded, deliver):
    for payload in WEBHOOKS.values():
        assert deliver(payload, PLACES[place(payload)]) == 200

    (recorded_count,) = recorded.rows("SELECT count(*) FROM events")[0]

    noted = {
        (
            PLACES[place(payload)],
            told["provider_message_id"],
            told.get("participant") or told["recipient"],
            told["provider_status"],
            told["occurred_at"],
        )
        for payload in WEBHOOKS.values()
        for told in payload["expect"]
    }
    assert recorded_count == len(noted) > 30
