"""The `poll` table of an account: what it may say, and what is said about what it may not."""

from pathlib import Path
from typing import Any

import pytest

from ledger.commands.admin import redacted
from ledger.config import BadSettings, Settings, load
from ledger.providers import PROVIDERS
from tests.plugins.service import toml

SECRET = "the secret of an API"


def loaded(tmp_path: Path, provider: str = "twilio", **poll: Any) -> Settings:
    file = tmp_path / "accounts.toml"
    table = {"provider": provider, "channel": "sms", "secrets": ["hook:x"], "poll": poll}
    if provider == "viber":
        table["channel"] = "viber"
    text = toml({"main": table}).replace('"true"', "true")
    file.write_text(text, "utf-8")
    environ = {"LEDGER_CONFIG": str(file), "TOKEN": SECRET, "SID": "AC1"}
    return load(environ, PROVIDERS)


def problem(tmp_path: Path, provider: str = "twilio", **poll: Any) -> str:
    with pytest.raises(BadSettings) as raised:
        loaded(tmp_path, provider, **poll)
    (found,) = raised.value.problems
    assert SECRET not in found
    return found.partition("accounts.main: ")[2]


def test_what_is_not_told_has_defaults_and_secrets_print_as_stars(tmp_path: Path) -> None:
    settings = loaded(tmp_path, secret="env:TOKEN", account="env:SID")

    polling = settings.accounts["main"].poll
    assert polling is not None
    assert (polling.base_url, polling.account, polling.user) == ("https://api.twilio.com", "AC1", None)
    assert (polling.rate, polling.concurrency, polling.timeout_seconds, polling.days) == (5, 4, 10, 14)
    assert polling.secret.reveal() == SECRET.encode()
    assert SECRET not in repr(settings) + str(redacted(settings))


def test_an_account_without_the_table_is_not_asked_about(tmp_path: Path) -> None:
    assert loaded(tmp_path).accounts["main"].poll is None


@pytest.mark.parametrize(
    ("poll", "said"),
    [
        ({"account": "AC1"}, "poll: Object missing required field `secret`"),
        ({"secret": SECRET}, "poll.account: required for this provider"),
        ({"secret": "env:NOT_SET", "account": "x"}, "poll.secret: environment variable NOT_SET is not set"),
        ({"secret": SECRET, "account": "x", "rat": 1}, "poll: Object contains unknown field `rat`"),
        ({"secret": SECRET, "account": "x", "rate": 0}, "poll.rate: must be from 0.01 to 1000"),
        ({"secret": SECRET, "account": "x", "concurrency": 65}, "poll.concurrency: must be from 1 to 64"),
        ({"secret": SECRET, "account": "x", "timeout_seconds": 21}, "poll.timeout_seconds: must be from 1 to 20"),
        ({"secret": SECRET, "account": "x", "days": 31}, "poll.days: must be from 1 to 30"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, poll: dict[str, Any], said: str) -> None:
    assert problem(tmp_path, **poll) == said


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example.com",
        "http://127.0.0.1.example.com",
        "ftp://127.0.0.1",
        "https://",
        "api.example.com",
        "https://user:pass@api.example.com",
        "https://api.example.com?x=1",
        "https://api.example.com#x",
        "https://[",
    ],
)
def test_only_an_encrypted_base_address_is_accepted(tmp_path: Path, base_url: str) -> None:
    assert problem(tmp_path, secret=SECRET, account="x", base_url=base_url).startswith("poll.base_url: ")


@pytest.mark.parametrize("base_url", ["https://api.example.com/v1/", "http://127.0.0.1:8081", "http://localhost:1"])
def test_this_machine_needs_no_encryption(tmp_path: Path, base_url: str) -> None:
    polling = loaded(tmp_path, secret=SECRET, account="x", base_url=base_url).accounts["main"].poll

    assert polling is not None
    assert polling.base_url == base_url.rstrip("/")


def test_a_provider_that_cannot_be_asked_says_so(tmp_path: Path) -> None:
    assert problem(tmp_path, "viber", secret=SECRET) == "poll: this provider cannot be asked"
