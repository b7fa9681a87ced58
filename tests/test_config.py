"""Settings: what each accepts, what it refuses, and that no refusal repeats a value."""

import base64
from pathlib import Path
from typing import Any

import pytest

from ledger.config import BadSettings, RateLimit, Settings, load
from ledger.domain.status import Channel
from ledger.providers import PROVIDERS
from tests.plugins.service import toml

CANARY = "canary-value-5558675309"


def key(length: int) -> str:
    return base64.b64encode(bytes(range(length))).decode()


SECRETS = {"LEDGER_MASTER_KEY": key(32), "LEDGER_DEPLOYMENT_SECRET": key(16)}


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found where settings look by default."""
    monkeypatch.chdir(tmp_path)


def read(**settings: str) -> Settings:
    return load({f"LEDGER_{name.upper()}": value for name, value in settings.items()}, PROVIDERS)


def problems(environ: dict[str, str]) -> list[str]:
    """Return what is wrong with an environment, having checked that no canary is repeated."""
    with pytest.raises(BadSettings) as refused:
        load(environ, PROVIDERS)
    assert CANARY not in str(refused.value)
    assert CANARY not in repr(refused.value)
    return refused.value.problems


# Environment


def test_without_any_setting_the_defaults_hold():
    assert read() == Settings()
    assert Settings().is_embedded
    assert Settings().keeps_items


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("data_dir", "/var/lib/ledger", Path("/var/lib/ledger")),
        ("host", "192.0.2.1", "192.0.2.1"),
        ("host", "::", "::"),
        ("port", "0", 0),
        ("port", "65535", 65_535),
        ("port", "08080", 8_080),
        ("workers", "1", 1),
        ("workers", "64", 64),
        ("partitions", "1", 1),
        ("partitions", "256", 256),
        ("evidence", "full", "full"),
        ("evidence", "digest", "digest"),
        ("body_bytes_max", "1024", 1_024),
        ("body_bytes_max", "67108864", 67_108_864),
        ("queue_max", "1", 1),
        ("queue_max", "1000000", 1_000_000),
        ("rate_limit", "off", None),
        ("rate_limit", "1/1", RateLimit(1, 1)),
        ("rate_limit", "100/60", RateLimit(100, 60)),
        ("public_url", "https://status.example.com", "https://status.example.com"),
        ("public_url", "https://status.example.com/a/b/", "https://status.example.com/a/b"),
        ("public_url", "https://user:password@status.example.com:8443/#x", "https://status.example.com:8443"),
        ("log_format", "json", "json"),
        ("log_format", "console", "console"),
        ("log_level", "debug", "debug"),
        ("log_level", "error", "error"),
    ],
)
def test_a_setting_is_read(name, text, value):
    assert getattr(read(**{name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", CANARY),
        ("port", "-1"),
        ("port", "65536"),
        ("port", "80.0"),
        ("port", " 80"),
        ("port", "٨٠"),
        ("port", "1" * 40),
        ("workers", "0"),
        ("workers", "65"),
        ("workers", CANARY),
        ("partitions", "0"),
        ("partitions", "3"),
        ("partitions", "512"),
        ("partitions", "01"),
        ("partitions", CANARY),
        ("evidence", "Full"),
        ("evidence", "none"),
        ("evidence", CANARY),
        ("body_bytes_max", "1023"),
        ("body_bytes_max", "67108865"),
        ("body_bytes_max", "4 MB"),
        ("queue_max", "0"),
        ("queue_max", "1000001"),
        ("rate_limit", "0/1"),
        ("rate_limit", "1/0"),
        ("rate_limit", "100"),
        ("rate_limit", "100/s"),
        ("rate_limit", "OFF"),
        ("rate_limit", CANARY),
        ("public_url", CANARY),
        ("public_url", f"ftp://{CANARY}/"),
        ("public_url", "https://"),
        ("public_url", f"https://{CANARY}:99999999/"),
        ("public_url", f"https://[{CANARY}/"),
        ("log_format", "xml"),
        ("log_level", "INFO"),
        ("log_level", CANARY),
        ("database_url", CANARY),
        ("database_url", f"postgresql://user:{CANARY}@[host/db"),
        ("database_url", f"host=x {CANARY}"),
        ("database_url", "env:CANARY_UNSET"),
        ("database_url", "file:/nowhere/at/all"),
        ("master_key", CANARY),
        ("master_key", f"{CANARY}==="),
        ("master_key", key(31)),
        ("master_key", key(33)),
        ("master_key", key(32)[:-1]),
        ("master_key", "file:/nowhere/at/all"),
        ("deployment_secret", CANARY),
        ("deployment_secret", key(15)),
        ("deployment_secret", key(65)),
        ("deployment_secret", "env:CANARY_UNSET"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_setting(name, text):
    (problem,) = problems(SECRETS | {f"LEDGER_{name.upper()}": text})

    assert problem.startswith(f"LEDGER_{name.upper()}: ")
    assert len(text) < 9 or text.startswith(("env:", "file:")) or text not in problem


def test_every_problem_is_told_at_once():
    told = problems(
        {"LEDGER_PORT": CANARY, "LEDGER_COLOUR": CANARY, "LEDGER_WORKERS": "0", "LEDGER_CONFIG": "absent.toml"}
    )

    assert [problem.partition(":")[0] for problem in told] == [
        "LEDGER_PORT",
        "LEDGER_COLOUR",
        "LEDGER_WORKERS",
        "LEDGER_CONFIG",
    ]


@pytest.mark.parametrize("name", ["LEDGER_", "LEDGER_COLOUR", "LEDGER_ACCOUNTS", "LEDGER_DATABASE", "LEDGER_PORT_"])
def test_an_unknown_name_is_refused(name):
    assert problems({name: CANARY}) == [f"{name}: no such setting"]


def test_other_variables_are_not_ours():
    assert load({"PATH": "/bin", "ledger_port": "x", "XLEDGER_PORT": "x"}, PROVIDERS) == Settings()


def test_an_empty_value_counts_as_unset():
    assert read(port="", database_url="", config="", rate_limit="") == Settings()


@pytest.mark.parametrize("value", ["y", "YES", "t", "true", "On", "1"])
def test_the_librarys_database_functions_are_refused(value):
    (problem,) = problems({"POSTGRES_ENABLE_DB_FUNCTIONS": value})

    assert problem.startswith("POSTGRES_ENABLE_DB_FUNCTIONS: ")


def test_the_librarys_database_functions_may_be_off():
    assert load({"POSTGRES_ENABLE_DB_FUNCTIONS": "n"}, PROVIDERS) == Settings()


# Secrets


@pytest.mark.parametrize(
    "url", ["postgresql://u:p@h:5432/d?sslmode=require", "postgres://h/d", "host=h dbname=d", "postgresql://"]
)
def test_a_database_url_is_kept_as_it_is(url):
    settings = load(SECRETS | {"LEDGER_DATABASE_URL": url}, PROVIDERS)

    assert settings.database_url is not None
    assert settings.database_url.reveal().decode() == url
    assert not settings.is_embedded


def test_a_configured_database_needs_both_secrets():
    told = problems({"LEDGER_DATABASE_URL": f"postgresql://u:{CANARY}@h/d"})

    assert [problem.partition(":")[0] for problem in told] == ["LEDGER_MASTER_KEY", "LEDGER_DEPLOYMENT_SECRET"]
    assert all("status-ledger secrets generate" in problem for problem in told)


def test_a_secret_may_be_in_another_variable_or_in_a_file(tmp_path):
    (tmp_path / "key").write_text(f"\n {key(32)}\n\n")
    environ = {
        "LEDGER_MASTER_KEY": f"file:{tmp_path / 'key'}",
        "LEDGER_DEPLOYMENT_SECRET": "env:ELSEWHERE",
        "LEDGER_DATABASE_URL": "env:DATABASE",
        "ELSEWHERE": key(64),
        "DATABASE": "postgresql://h/d",
    }

    settings = load(environ, PROVIDERS)

    assert settings.master_key is not None
    assert settings.deployment_secret is not None
    assert settings.database_url is not None
    assert settings.master_key.reveal() == bytes(range(32))
    assert settings.deployment_secret.reveal() == bytes(range(64))
    assert settings.database_url.reveal() == b"postgresql://h/d"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_file_without_a_secret_is_refused(tmp_path, content):
    (tmp_path / "key").write_bytes(content)

    (problem,) = problems({"LEDGER_MASTER_KEY": f"file:{tmp_path / 'key'}"})

    assert problem.startswith("LEDGER_MASTER_KEY: file ")


def test_secrets_print_as_stars():
    settings = load(SECRETS | {"LEDGER_DATABASE_URL": f"postgresql://u:{CANARY}@h/d"}, PROVIDERS)

    for printed in (repr(settings), str(settings), f"{settings}"):
        assert CANARY not in printed
        assert key(32) not in printed
        assert repr(bytes(range(32)))[2:-1] not in printed


# Accounts


def accounts(path: Path, *names: str, **fields: Any) -> dict[str, str]:
    """Write an accounts file and return the environment that names it."""
    table = {"provider": "meta", "channel": "whatsapp", "secrets": [CANARY]} | fields
    table = {name: value for name, value in table.items() if value is not None}
    path.write_text(toml(dict.fromkeys(names or ("main",), table)), "utf-8")
    return {"LEDGER_CONFIG": str(path)}


def test_accounts_are_read(tmp_path):
    environ = accounts(
        tmp_path / "a.toml",
        "meta-main",
        verify_token="token",
        public_url="https://u:p@x.example/hook?a=b#c",
        conflicts="delivery-wins",
    )

    account = load(environ, PROVIDERS).accounts["meta-main"]

    assert (account.name, account.provider, account.channel) == ("meta-main", "meta", Channel.WHATSAPP)
    assert [secret.reveal().decode() for secret in account.secrets] == [CANARY]
    assert account.verify_token is not None
    assert account.verify_token.reveal() == b"token"
    assert account.public_url == "https://x.example/hook?a=b"
    assert account.conflicts == "delivery-wins"


def test_what_an_account_does_not_say_has_a_default(tmp_path):
    environ = accounts(tmp_path / "a.toml", "main")

    account = load(environ, PROVIDERS).accounts["main"]

    assert (account.verify_token, account.conflicts) == (None, "keep")
    assert account.public_url == "http://127.0.0.1:8080/webhooks/main"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"LEDGER_HOST": "10.0.0.1", "LEDGER_PORT": "80"}, "http://10.0.0.1:80/webhooks/main"),
        ({"LEDGER_HOST": "::1"}, "http://[::1]:8080/webhooks/main"),
        ({"LEDGER_PUBLIC_URL": "https://x.example/y/", "LEDGER_HOST": "10.0.0.1"}, "https://x.example/y/webhooks/main"),
    ],
)
def test_the_default_callback_address_follows_the_services(tmp_path, settings, expected):
    environ = accounts(tmp_path / "a.toml") | settings

    assert load(environ, PROVIDERS).accounts["main"].public_url == expected


def test_an_accounts_secrets_may_be_elsewhere(tmp_path):
    (tmp_path / "secret").write_text("from a file\n")
    environ = accounts(
        tmp_path / "a.toml",
        secrets=["env:APP_SECRET", f"file:{tmp_path / 'secret'}", "as it is"],
        verify_token="env:TOKEN",
    )

    account = load(environ | {"APP_SECRET": "from a variable", "TOKEN": "token"}, PROVIDERS).accounts["main"]

    assert [secret.reveal() for secret in account.secrets] == [b"from a variable", b"from a file", b"as it is"]
    assert account.verify_token is not None
    assert account.verify_token.reveal() == b"token"


def test_the_default_file_is_read_if_it_is_there_and_may_be_absent(tmp_path):
    assert load({}, PROVIDERS).accounts == {}

    accounts(tmp_path / "ledger.toml", "main")

    assert set(load({}, PROVIDERS).accounts) == {"main"}


def test_a_file_that_is_named_must_exist():
    assert problems({"LEDGER_CONFIG": "nowhere.toml"}) == ["LEDGER_CONFIG: file nowhere.toml does not exist"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"provider": None}, "provider"),
        ({"provider": CANARY}, "provider"),
        ({"provider": 5}, "provider"),
        ({"channel": None}, "channel"),
        ({"channel": CANARY}, "channel"),
        ({"channel": "sms"}, "channel"),
        ({"secrets": None}, "secrets"),
        ({"secrets": []}, "secrets"),
        ({"secrets": [""]}, "secrets"),
        ({"secrets": CANARY}, "secrets"),
        ({"secrets": [5]}, "secrets"),
        ({"secrets": ["good", "env:UNSET"]}, "secrets"),
        ({"secrets": ["file:/nowhere/at/all"]}, "secrets"),
        ({"verify_token": ""}, "verify_token"),
        ({"verify_token": "env:UNSET"}, "verify_token"),
        ({"verify_token": [CANARY]}, "verify_token"),
        ({"public_url": CANARY}, "public_url"),
        ({"public_url": f"https://u:{CANARY}@:80/"}, "public_url"),
        ({"public_url": f"https://{CANARY}:port/"}, "public_url"),
        ({"conflicts": CANARY}, "conflicts"),
        ({"poll": CANARY}, "poll"),
        ({"secret": CANARY}, "secret"),
        ({"colour": CANARY}, "colour"),
    ],
)
def test_a_wrong_account_is_refused_by_its_name_and_field(tmp_path, fields, named):
    path = tmp_path / "a.toml"

    (problem,) = problems(accounts(path, **fields))

    assert problem.startswith(f"{path}: accounts.main: ")
    assert named in problem.removeprefix(f"{path}: accounts.main: ")


@pytest.mark.parametrize("name", ["Main", "a_b", "a.b", "ä", "a" * 41, "a b", ""])
def test_an_account_has_a_plain_name(tmp_path, name):
    path = tmp_path / "a.toml"
    path.write_text(f'[accounts."{name}"]\nprovider = "meta"\nchannel = "whatsapp"\nsecrets = ["{CANARY}"]\n', "utf-8")

    (problem,) = problems({"LEDGER_CONFIG": str(path)})

    assert f"accounts.{name}: the name must be 1 to 40 of a-z, 0-9 and -" in problem


def test_every_wrong_account_is_told(tmp_path):
    told = problems(accounts(tmp_path / "a.toml", "one", "two", "three", channel=CANARY))

    assert [problem.split(": ")[1] for problem in told] == ["accounts.one", "accounts.two", "accounts.three"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f'[accounts.main]\nsecrets = ["{CANARY}"', "not readable as TOML (at"),
        (f"{CANARY}", "not readable as TOML (at"),
        (f'[accounts.main]\nprovider = "{CANARY}"\nprovider = "{CANARY}"\n', "not readable as TOML (at"),
        (f'[accounts.main]\nprovider = "{CANARY}\n', "not readable as TOML (at"),
        (f'accounts = "{CANARY}"', "accounts"),
        (f'[account.main]\nprovider = "{CANARY}"\n', "account"),
        (f'[accounts]\nmain = "{CANARY}"\n', "accounts"),
    ],
)
def test_an_unreadable_file_is_told_by_the_place_and_not_by_its_content(tmp_path, content, told):
    path = tmp_path / "a.toml"
    path.write_text(content, "utf-8")

    (problem,) = problems({"LEDGER_CONFIG": str(path)})

    assert problem.startswith(f"{path}: ")
    assert told in problem


def test_a_file_that_is_no_text_or_no_file_is_refused(tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xff\xfe\x00")

    assert problems({"LEDGER_CONFIG": str(path)}) == [f"{path}: not readable as TOML"]
    assert problems({"LEDGER_CONFIG": str(tmp_path)}) == [f"{tmp_path}: not readable as TOML"]
