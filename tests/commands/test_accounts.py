"""`accounts list` and `accounts check`: configuration, callback address, why a request is refused."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Ended, Run
from tests.plugins.service import toml

URL = "https://status.example.com/webhooks"
SECRET = "canary-secret-of-an-account"
ACCOUNTS: dict[str, dict[str, Any]] = {
    "meta-main": {
        "provider": "meta",
        "channel": "whatsapp",
        "secrets": [SECRET, "an older one"],
        "public_url": f"{URL}/meta-main",
    },
    "meta-plain": {
        "provider": "meta",
        "channel": "whatsapp",
        "secrets": [SECRET],
        "public_url": "http://status.example.com/hooks",
    },
    "meta-local": {"provider": "meta", "channel": "whatsapp", "secrets": [SECRET]},
    "twilio-main": {
        "provider": "twilio",
        "channel": "sms",
        "secrets": [SECRET],
        "public_url": f"{URL}/twilio-main",
    },
    "sinch-main": {"provider": "sinch", "channel": "sms", "secrets": [SECRET], "public_url": f"{URL}/sinch-main"},
    "telnyx-main": {
        "provider": "telnyx",
        "channel": "sms",
        "secrets": [base64.b64encode(bytes(32)).decode(), SECRET],
        "public_url": f"{URL}/telnyx-main",
    },
    "token-main": {
        "provider": "gupshup",
        "channel": "whatsapp",
        "secrets": ["a secret/with odd=signs"],
        "public_url": f"{URL}/token-main",
    },
    "aws-main": {
        "provider": "aws",
        "channel": "sms",
        "secrets": [],
        "public_url": f"{URL}/aws-main",
        "options": {"topics": ["arn:aws:sns:eu-west-1:123456789012:sms-events"]},
    },
    "vonage-main": {"provider": "vonage", "channel": "sms", "secrets": [SECRET], "public_url": f"{URL}/vonage-main"},
}


@pytest.fixture(autouse=True)
def _accounts(environ: dict[str, str]) -> None:
    """The commands read this file, and no database: there is none at this address."""
    environ["LEDGER_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    Path(environ["LEDGER_CONFIG"]).write_text(toml(ACCOUNTS), "utf-8")


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Path]:
    """Write a request to a file."""

    def write(**told: Any) -> Path:
        path = tmp_path / "request.json"
        path.write_text(json.dumps(told), "utf-8")
        return path

    return write


def found(ended: Ended) -> dict[str, tuple[bool, str]]:
    return {each["name"]: (each["ok"], each["detail"]) for each in ended.json["findings"]}


def a_report(at: int, body: str = '{"batch_id":"b"}', secret: str = SECRET) -> dict[str, Any]:
    """Return a signed request of a provider that signs a time."""
    digest = hmac.new(secret.encode(), f"{body}.n.{at}".encode(), hashlib.sha256).digest()
    headers = {
        "X-Sinch-Webhook-Signature": base64.b64encode(digest).decode(),
        "X-Sinch-Webhook-Signature-Nonce": "n",
        "X-Sinch-Webhook-Signature-Timestamp": str(at),
    }
    return {"method": "POST", "url": f"{URL}/sinch-main", "headers": headers, "body": body}


# Listing


def test_accounts_are_listed_with_the_address_that_the_provider_is_told(run: Run) -> None:
    listed = run("accounts", "list", "--json")

    addresses = {each["account"]: each["callback_url"] for each in listed.json["items"]}
    assert listed.code == 0
    assert set(ACCOUNTS) == set(addresses)
    assert addresses["meta-main"] == f"{URL}/meta-main"
    assert addresses["meta-local"] == "http://127.0.0.1:8080/webhooks/meta-local"


def test_accounts_are_listed_for_people_too(run: Run) -> None:
    listed = run("accounts", "list")

    assert listed.code == 0
    assert f"twilio-main  twilio    sms       1        {URL}/twilio-main" in listed.out


def test_no_secret_is_listed(run: Run) -> None:
    for arguments in (("list",), ("list", "--json"), *(("check", name) for name in ACCOUNTS)):
        shown = run("accounts", *arguments)

        assert SECRET not in shown.out + shown.err
        assert "odd" not in shown.out + shown.err


# Checking


def test_an_account_in_order_is_found_in_order(run: Run) -> None:
    checked = run("accounts", "check", "twilio-main", "--json")

    assert checked.code == 0
    assert checked.json["ok"]
    assert checked.json["callback_url"] == f"{URL}/twilio-main"
    assert checked.json["methods"] == ["POST"]
    assert found(checked)["secrets"] == (True, "1, any of which may sign")


def test_the_address_is_the_first_thing_printed(run: Run) -> None:
    checked = run("accounts", "check", "meta-main")

    assert checked.code == 0
    assert checked.out.startswith(f"{URL}/meta-main\n")


def test_an_address_without_encryption_is_a_problem(run: Run) -> None:
    checked = run("accounts", "check", "meta-plain", "--json")

    assert checked.code == 3
    assert not found(checked)["address"][0]


def test_a_path_that_the_proxy_has_to_rewrite_is_told(run: Run) -> None:
    checked = run("accounts", "check", "meta-plain", "--json")

    assert found(checked)["forwarding"] == (True, "calls have to arrive as /webhooks/meta-plain: the proxy has to rewrite the path")  # fmt: skip  # noqa: E501


def test_an_address_that_only_this_machine_reaches_is_told_and_no_problem(run: Run) -> None:
    checked = run("accounts", "check", "meta-local", "--json")

    assert checked.code == 0
    assert "public_url" in found(checked)["address"][1]


def test_a_secret_that_is_none_of_its_kind_is_a_problem_and_is_not_repeated(run: Run) -> None:
    checked = run("accounts", "check", "telnyx-main", "--json")

    assert checked.code == 3
    assert not found(checked)["secrets"][0]
    assert found(checked)["secrets"][1].startswith("number 2 ")
    assert SECRET not in checked.out


def test_an_address_that_carries_a_secret_is_shown_with_stars(run: Run) -> None:
    checked = run("accounts", "check", "token-main", "--json")

    assert checked.json["callback_url"] == f"{URL}/token-main?token=***"


def test_an_account_that_needs_no_secret_may_have_none(run: Run) -> None:
    checked = run("accounts", "check", "aws-main", "--json")

    assert checked.code == 0
    assert found(checked)["secrets"] == (True, "none, and none is needed")


def test_a_missing_verify_token_is_told(run: Run) -> None:
    assert "verify_token" in found(run("accounts", "check", "meta-main", "--json"))["handshake"][1]


def test_an_unknown_account_is_bad_usage(run: Run) -> None:
    ended = run("accounts", "check", "nobody")

    assert ended.code == 2
    assert len(ended.errors) == 1


def test_bad_settings_are_named(run: Run, environ: dict[str, str]) -> None:
    Path(environ["LEDGER_CONFIG"]).write_text(toml({"one": {"provider": "meta", "channel": "sms", "secrets": ["s"]}}))

    ended = run("accounts", "check", "one")

    assert ended.code == 2
    assert "accounts.one: channel must be one of" in ended.err


# Explaining


def test_an_authentic_request_is_explained_as_such(run: Run, recorded: Callable[..., Path]) -> None:
    request = recorded(**a_report(int(time.time())))

    checked = run("accounts", "check", "sinch-main", "--explain", request, "--json")

    assert checked.code == 0
    assert checked.json["request"]["authentic"]


def test_the_time_of_receipt_may_be_recorded_too(run: Run, recorded: Callable[..., Path]) -> None:
    request = recorded(**a_report(1_792_065_607), received_at="2026-10-15T14:00:10+02:00")

    checked = run("accounts", "check", "sinch-main", "--explain", request, "--json")

    assert checked.json["request"]["authentic"]


def test_a_stale_request_is_told_from_a_forged_one(run: Run, recorded: Callable[..., Path]) -> None:
    request = recorded(**a_report(1_700_000_000))

    checked = run("accounts", "check", "sinch-main", "--explain", request, "--json")

    assert checked.code == 3
    assert checked.json["request"]["why"].startswith("would be authentic at 2023-11-14T22:13:20Z")


def test_the_text_that_was_signed_is_shown_byte_for_byte(run: Run, recorded: Callable[..., Path]) -> None:
    now = int(time.time())
    request = recorded(**a_report(now, body='{"name":"Żółw"}', secret="another"))

    checked = run("accounts", "check", "sinch-main", "--explain", request, "--json")

    told = checked.json["request"]
    assert checked.code == 3
    assert not told["authentic"]
    assert told["signed_text"] == f'{{"name":"Żółw"}}.n.{now}'
    assert base64.b64decode(told["signed_text_base64"]).decode() == told["signed_text"]


def test_the_text_that_was_signed_is_printed_for_people(run: Run, recorded: Callable[..., Path]) -> None:
    now = int(time.time())
    request = recorded(**a_report(now, secret="another"))

    checked = run("accounts", "check", "sinch-main", "--explain", request)

    assert checked.out.endswith(f'what the signature is computed over:\n{{"batch_id":"b"}}.n.{now}\n')


def test_a_recorded_request_does_nothing_to_the_terminal(run: Run, recorded: Callable[..., Path]) -> None:
    body = "\x1b]0;owned\x07\x1b[2Jnew\rline"
    request = recorded(url=URL, headers={"X-Hub-Signature-256": "sha256=00"}, body=body)

    shown = run("accounts", "check", "meta-main", "--explain", request)

    assert shown.out.endswith("\\x1b]0;owned\\x07\\x1b[2Jnew\\rline\n")
    assert not set(shown.out) & set("\x1b\x07\r")


def test_the_accounts_own_address_counts_and_a_difference_is_told(run: Run, recorded: Callable[..., Path]) -> None:
    request = recorded(
        url="http://10.0.0.7:8080/webhooks/twilio-main?ref=42",
        headers={"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": "AAAA"},
        body="MessageSid=SM1&MessageStatus=sent",
    )

    told = run("accounts", "check", "twilio-main", "--explain", request, "--json").json["request"]

    assert told["signed_text"] == f"{URL}/twilio-main?ref=42MessageSidSM1MessageStatussent"
    assert "the recorded address is not the account's" in told["why"]


def test_bytes_that_are_no_text_can_be_recorded_and_shown(run: Run, recorded: Callable[..., Path]) -> None:
    request = recorded(
        url=URL, headers={"X-Hub-Signature-256": "sha256=00"}, body_base64=base64.b64encode(b"\xff{}").decode()
    )

    told = run("accounts", "check", "meta-main", "--explain", request, "--json").json["request"]

    assert told["signed_text"] == "\\xff{}"
    assert base64.b64decode(told["signed_text_base64"]) == b"\xff{}"


def test_a_request_that_the_provider_will_repeat_signed_is_told(run: Run, recorded: Callable[..., Path]) -> None:
    request = recorded(url=URL, headers={"Content-Type": "application/json"}, body='{"message_uuid":"u"}')

    told = run("accounts", "check", "vonage-main", "--explain", request, "--json").json["request"]

    assert "503" in told["why"]


def test_a_request_of_a_provider_that_signs_nothing_has_no_text(run: Run, recorded: Callable[..., Path]) -> None:
    request = recorded(url=f"{URL}/token-main?token=wrong", body="{}")

    told = run("accounts", "check", "token-main", "--explain", request, "--json").json["request"]

    assert told["signed_text"] is None
    assert "none of the account's secrets" in told["why"]


@pytest.mark.parametrize("place", ["url", "body"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_secret_within_the_request_is_starred(
    run: Run, recorded: Callable[..., Path], place: str, form: tuple[str, ...]
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": "AAAA"}
    held = {"url": f"{URL}/twilio-main?token={SECRET}", "body": f"a={SECRET}&b=1"}
    request = recorded(**{"url": URL, "body": "a=1", place: held[place], "headers": headers})

    shown = run("accounts", "check", "twilio-main", "--explain", request, *form)

    assert "***" in shown.out
    for secret in (SECRET, base64.b64encode(SECRET.encode()).decode()[4:-4]):
        assert secret not in shown.out + shown.err


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"url": 5}', '{"method": "POST"}', '{"url": "x", "headers": {"a": "ż"}}',
     '{"url": "x", "received_at": "2026-10-15T12:00:00"}', '{"url": "x", "body_base64": "!"}', "[" * 100_000],
)  # fmt: skip
def test_a_file_that_is_no_request_is_bad_usage(run: Run, tmp_path: Path, content: str) -> None:
    file = tmp_path / "request.json"
    file.write_text(content, "utf-8")

    ended = run("accounts", "check", "meta-main", "--explain", file)

    assert ended.code == 2
    assert len(ended.errors) == 1


def test_a_file_that_is_not_there_is_bad_usage(run: Run, tmp_path: Path) -> None:
    assert run("accounts", "check", "meta-main", "--explain", tmp_path / "nothing.json").code == 2
