"""`migrate`, `doctor`, `config`, `secrets generate`, and how commands end when something is wrong."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger import __version__
from ledger.config import Settings
from ledger.store.migrations import migrations
from tests.plugins.service import ROOT

UNREACHABLE = "postgresql://somebody:canary-password@127.0.0.1:1/nothing"


@pytest.fixture
def empty_url(make_database) -> str:
    """A database without any table."""
    return make_database()


def altered(database_url: str, setting: str, value: str) -> None:
    """Change a setting of the test's own database for connections to come."""
    name = str(conninfo_to_dict(database_url)["dbname"])
    with psycopg.connect(database_url, autocommit=True) as connection:
        statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
        connection.execute(statement.format(sql.Identifier(name), sql.SQL(setting), sql.Literal(value)))


# Usage


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["--nothing"],
        ["migrate", "now"],
        ["keys"],
        ["keys", "steal"],
        ["keys", "create"],
        ["keys", "create", "--account", "meta-main"],
        ["keys", "create", "--account", "meta-main", "--channel", "telegram"],
        ["keys", "create", "--account", "meta-main", "--channel", "whatsapp", "--status-style", "pirate"],
        ["keys", "rotate"],
        ["history"],
        ["history", "abc"],
        ["history", "1", "--as-of", "yesterday"],
        ["history", "1", "--as-of", "2026-11-21T10:00:00"],
        ["correct", "1", "--to", "delivered", "--by", "me"],
        ["correct", "1", "--to", "pending", "--by", "me", "--why", "because"],
        ["secrets"],
        ["serve", "--port", "http"],
        ["serve", "--role", "boss"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_2_and_an_explanation(run, arguments):
    ended = run(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert "usage: status-ledger" in ended.err


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["keys", "create", "--help"], ["--version"]])
def test_help_and_version_are_no_errors(run, arguments):
    ended = run(*arguments)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out


def test_the_version_is_printed(run):
    assert run("--version").out == f"status-ledger {__version__}\n"


def test_the_program_runs_as_a_module_of_its_own(environ):
    ended = subprocess.run(
        [sys.executable, "-m", "ledger", "config", "--json"],
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert json.loads(ended.stdout)["port"] == 8080


EVERY_COMMAND = [
    ["migrate"],
    ["doctor"],
    ["config"],
    ["serve"],
    ["keys", "list"],
    ["keys", "create", "--account", "meta-main", "--channel", "whatsapp"],
    ["keys", "rotate", "key_1"],
    ["keys", "revoke", "key_1"],
    ["history", "1"],
    ["correct", "1", "--to", "failed", "--by", "a", "--why", "b"],
]


@pytest.mark.parametrize("arguments", EVERY_COMMAND, ids=" ".join)
def test_an_unknown_setting_stops_every_command_and_its_value_is_not_repeated(run, arguments):
    ended = run(*arguments, canary_setting="canary-value")

    assert (ended.code, ended.out) == (2, "")
    assert ended.errors == ["status-ledger: LEDGER_CANARY_SETTING: no such setting"]


@pytest.mark.parametrize("arguments", EVERY_COMMAND, ids=" ".join)
def test_every_bad_setting_is_named_and_no_value_is_repeated(run, arguments):
    ended = run(
        *arguments, port="canary-port", workers="canary-workers", master_key="canary-key", rate_limit="canary-limit"
    )

    assert ended.code == 2
    named = {line.split(": ")[1] for line in ended.errors}
    assert named == {"LEDGER_PORT", "LEDGER_WORKERS", "LEDGER_MASTER_KEY", "LEDGER_RATE_LIMIT"}
    assert "canary" not in ended.err


NEEDS_DATABASE = [arguments for arguments in EVERY_COMMAND if arguments not in (["config"], ["doctor"])]


@pytest.mark.parametrize("arguments", NEEDS_DATABASE, ids=" ".join)
def test_a_database_that_cannot_be_reached_is_told_in_one_line(run, arguments):
    ended = run(*arguments, database_url=UNREACHABLE)

    assert (ended.code, ended.out) == (1, "")
    assert len(ended.errors) == 1
    assert ended.err.startswith("status-ledger: ")
    assert "canary-password" not in ended.err


@pytest.mark.parametrize(
    "arguments", [one for one in NEEDS_DATABASE if one[0] not in ("migrate", "serve")], ids=" ".join
)
def test_a_database_without_tables_is_told_in_one_line(run, empty_url, arguments):
    ended = run(*arguments, database_url=empty_url)

    assert (ended.code, ended.out) == (1, "")
    assert len(ended.errors) == 1
    assert "status-ledger migrate" in ended.err


@pytest.mark.parametrize("arguments", NEEDS_DATABASE, ids=" ".join)
def test_another_partition_count_than_the_databases_is_refused(run, arguments):
    ended = run(*arguments, partitions="4")

    assert (ended.code, ended.out) == (1, "")
    assert ended.errors == ["status-ledger: the database has 1 partitions, LEDGER_PARTITIONS says 4"]


# migrate


def test_migrate_applies_what_is_missing_and_names_it(run, empty_url):
    names = [name for _, name, _ in migrations()]

    first = run("migrate", "--json", database_url=empty_url)
    second = run("migrate", "--json", database_url=empty_url)

    assert (first.code, first.json) == (0, {"applied": names})
    assert (second.code, second.json) == (0, {"applied": []})


def test_migrate_speaks_to_people(run, empty_url):
    names = [name for _, name, _ in migrations()]

    assert run("migrate", database_url=empty_url).out.splitlines() == [f"applied {name}" for name in names]
    assert run("migrate", database_url=empty_url).out == "nothing to apply\n"


def test_migrate_creates_as_many_partitions_as_are_set(run, empty_url):
    run("migrate", database_url=empty_url, partitions="16")

    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT count(*) FROM partition_heads").fetchone() == (16,)


# doctor


def findings(ended) -> dict[str, dict]:
    assert set(ended.json) == {"ok", "findings"}
    assert all(set(finding) == {"name", "ok", "detail"} for finding in ended.json["findings"])
    return {finding["name"]: finding for finding in ended.json["findings"]}


def test_doctor_finds_nothing_wrong(run):
    ended = run("doctor", "--json")

    assert (ended.code, ended.json["ok"]) == (0, True)
    assert {
        "server_version",
        "fsync",
        "full_page_writes",
        "synchronous_commit",
        "writable",
        "schema",
        "accounts",
    } <= set(findings(ended))


def test_doctor_speaks_to_people(run):
    ended = run("doctor")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0].split() == ["CHECK", "FOUND"]
    assert all(line.startswith("ok") for line in ended.out.splitlines()[1:])


@pytest.mark.parametrize(
    ("setting", "value", "finding"),
    [("synchronous_commit", "off", "synchronous_commit"), ("default_transaction_read_only", "on", "writable")],
)
def test_doctor_ends_with_3_when_the_database_would_lose_what_was_acknowledged(
    run, database_url, setting, value, finding
):
    altered(database_url, setting, value)

    ended = run("doctor", "--json", database_url=database_url)

    assert (ended.code, ended.json["ok"]) == (3, False)
    assert [name for name, found in findings(ended).items() if not found["ok"]] == [finding]


def test_doctor_ends_with_3_when_the_database_cannot_be_reached(run):
    ended = run("doctor", "--json", database_url=UNREACHABLE)

    assert ended.code == 3
    assert not findings(ended)["database"]["ok"]
    assert "canary-password" not in ended.out + ended.err


def test_doctor_ends_with_3_when_tables_are_missing(run, empty_url):
    ended = run("doctor", "--json", database_url=empty_url)

    assert ended.code == 3
    assert not findings(ended)["schema"]["ok"]
    assert "status-ledger migrate" in findings(ended)["schema"]["detail"]


def test_doctor_ends_with_3_when_the_partition_count_is_another(run):
    ended = run("doctor", "--json", partitions="2")

    assert ended.code == 3
    assert not findings(ended)["schema"]["ok"]


def test_doctor_ends_with_3_without_accounts(run, tmp_path):
    (tmp_path / "none.toml").write_text("")

    ended = run("doctor", "--json", config=str(tmp_path / "none.toml"))

    assert ended.code == 3
    assert [name for name, found in findings(ended).items() if not found["ok"]] == ["accounts"]


# config


def test_config_shows_every_setting_and_no_secret(run, command_url):
    ended = run("config", "--json", database_url=make_conninfo(command_url, password="canary-password"))

    assert ended.code == 0
    assert set(ended.json) == set(Settings.__struct_fields__)
    assert (ended.json["master_key"], ended.json["deployment_secret"]) == ("***", "***")
    assert "canary" not in ended.out
    assert ended.json["accounts"]["meta-main"] == {
        "provider": "meta",
        "channel": "whatsapp",
        "secrets": ["***", "***"],
        "verify_token": "***",
        "public_url": "http://127.0.0.1:8080/webhooks/meta-main",
        "conflicts": "keep",
        "options": {},
        "expected_seconds": None,
        "poll": None,
    }
    assert ended.json["accounts"]["twilio-main"]["public_url"] == "https://ledger.example.com/hooks/twilio"
    for secret in ("meta-secret", "meta-verify-token", "twilio-secret", "viber-secret"):
        assert secret not in ended.out


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:canary%20password@db.example.com:5432/ledger?sslmode=require",
        "postgresql://user:canary@db.example.com/ledger",
        "postgresql://user@db.example.com/ledger?password=canary",
        "host=db.example.com user=user password=canary dbname=ledger",
        "host=db.example.com user=canary password='canary word' dbname=ledger",
        "postgresql://canary:canary@canary/canary",
    ],
)
def test_config_shows_a_database_url_without_its_password(run, url):
    ended = run("config", "--json", database_url=url)

    shown = conninfo_to_dict(ended.json["database_url"])
    told = conninfo_to_dict(url)
    assert shown["password"] == "***"
    assert {**shown, "password": told["password"]} == told


def test_config_speaks_to_people(run):
    ended = run("config")

    assert (ended.code, ended.err) == (0, "")
    shown = dict(line.split(maxsplit=1) for line in ended.out.split("\n\n")[0].splitlines()[1:])
    assert shown["LEDGER_PORT"] == "8080"
    assert shown["LEDGER_MASTER_KEY"] == "***"
    assert re.search(
        r"^meta-main +meta +whatsapp +http://127.0.0.1:8080/webhooks/meta-main +2$", ended.out, re.MULTILINE
    )
    assert "secret-" not in ended.out


def test_config_says_what_is_in_force(run):
    shown = run(
        "config", "--json", rate_limit="off", port="0", evidence="digest", public_url="https://x.example/y/"
    ).json

    assert (shown["rate_limit"], shown["port"], shown["evidence"]) == ("off", 0, "digest")
    assert shown["public_url"] == "https://x.example/y"
    assert shown["accounts"]["meta-main"]["public_url"] == "https://x.example/y/webhooks/meta-main"
    assert run("config", "--json", rate_limit="7/60").json["rate_limit"] == "7/60"


def test_config_makes_nothing(run, tmp_path):
    before = sorted(Path(tmp_path).rglob("*"))

    run("config")
    run("config", "--json")

    assert before == sorted(Path(tmp_path).rglob("*"))


# secrets


def test_secrets_are_fresh_and_usable(run):
    first, second = run("secrets", "generate", "--json"), run("secrets", "generate", "--json")

    assert set(first.json) == {"LEDGER_MASTER_KEY", "LEDGER_DEPLOYMENT_SECRET"}
    assert all(len(base64.b64decode(value, validate=True)) == 32 for value in first.json.values())
    assert not set(first.json.values()) & set(second.json.values())
    settings = {name.removeprefix("LEDGER_").lower(): value for name, value in first.json.items()}
    assert run("config", **settings).code == 0


def test_secrets_come_as_an_environment_file(run):
    lines = run("secrets", "generate").out.splitlines()

    assert [line.partition("=")[0] for line in lines] == ["LEDGER_MASTER_KEY", "LEDGER_DEPLOYMENT_SECRET"]


def test_secrets_can_be_made_before_anything_is_set(monkeypatch, capfd, tmp_path):
    from ledger import __main__  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)

    assert __main__.main(["secrets", "generate"]) == 0
    assert list(tmp_path.iterdir()) == []
