"""The search of every server's log finds what is planted, however it is written, and nothing else."""

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.http.callbacks import new_phone, new_wamid
from tests.plugins.service import ACCOUNTS, DEPLOYMENT_SECRET, MASTER_KEY, Service, Starter, starting
from tests.plugins.spills import canary, found_in, secrets_of

SECRET = "meta-secret-new"
PHONE = new_phone()


def line(text: str) -> str:
    return json.dumps({"event": "webhook_refused", "told": text})


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (SECRET, "a secret"),
        (f"x{SECRET.upper()}x", "a secret"),
        (base64.b64encode(f"name:{SECRET}".encode()).decode(), "a secret"),
        (SECRET.encode().hex(), "a secret"),
        (canary("a secret, & made up"), "a secret"),
        (quote("a secret, & made up", safe=""), "a secret"),
        (PHONE, "a phone number"),
        (f"to{PHONE}.", "a phone number"),
        (f"?To=%2B{PHONE}&", "a phone number"),
        (f"whatsapp:+{PHONE}", "a phone number"),
        (PHONE.encode().hex(), "a phone number"),
        *((base64.b64encode(b"a" * shift + PHONE.encode()).decode(), "a phone number") for shift in range(4)),
        (new_wamid(PHONE), "a phone number"),
        (new_wamid(PHONE).removeprefix("wamid."), "a phone number"),
        ("wamid.one-7", "a provider's id"),
        ("slk_" + "x" * 43, "an API key"),
        ("whsec_" + "x" * 32, "a webhook secret"),
    ],
)
def test_what_is_planted_is_found_and_its_event_is_named(text: str, kind: str) -> None:
    found = found_in(f"{line('started')}\n{line(text)}\n", [SECRET])

    assert f"{kind} in the event 'webhook_refused'" in found
    assert not [each for each in found if text in each]


def test_a_line_that_is_no_event_is_searched_too() -> None:
    assert found_in(f"Traceback: {PHONE}", []) == ["a phone number in a line of 22 characters that is no event"]


@pytest.mark.parametrize(
    "text",
    [
        "wamid.*** slk_*** +***",
        "9007199254740991",
        "0.12025550123",
        "a1202555-0123-4567-8901-120255501234",
        "120255501231202555012312025550123120255501231202",
        "2026-11-26T12:02:55.012345Z",
    ],
)
def test_what_is_masked_or_nobodys_is_not_found(text: str) -> None:
    assert found_in(line(text), [SECRET]) == []


def test_the_log_of_a_server_is_searched_for_all_it_was_given(database_url: str, tmp_path: Path) -> None:
    def serve_and_plant(start: Starter) -> Service:
        service = start(database_url)
        service.printed = line(DEPLOYMENT_SECRET) + "\n"
        return service

    known = None
    with (
        pytest.raises(AssertionError, match="a secret in the event 'webhook_refused'"),
        starting(lambda: tmp_path) as start,
    ):
        known = secrets_of(serve_and_plant(start).environ)

    assert known is not None
    assert {MASTER_KEY, DEPLOYMENT_SECRET} < known
    assert {secret for account in ACCOUNTS.values() for secret in account["secrets"]} < known
    assert ACCOUNTS["meta-main"]["verify_token"] in known
