"""`keys create | list | rotate | revoke`."""

import re
from datetime import datetime

import psycopg
import pytest

from ledger.domain.status import Channel, Style
from ledger.store.keys import KeyState

SHOWN_FIELDS = {"id", "key", "account", "channel", "status_style", "created_at"}
LISTED_FIELDS = {"id", "account", "channel", "status_style", "state", "created_at", "ended_at", "replaced_by"}


@pytest.fixture
def create(run):
    def create(*arguments, account="meta-main", channel="whatsapp"):
        ended = run("keys", "create", "--account", account, "--channel", channel, "--json", *arguments)
        assert ended.code == 0, ended.err
        return ended.json

    return create


def listed(run):
    return {key["id"]: key for key in run("keys", "list", "--json").json["items"]}


def test_a_new_key_is_shown_once_and_works(create, parts):
    made = create()

    assert set(made) == SHOWN_FIELDS
    assert re.fullmatch(r"slk_[A-Za-z0-9_-]{43}", made["key"])
    assert (made["account"], made["channel"], made["status_style"]) == ("meta-main", "whatsapp", "unified")
    found = parts.keys.find(made["key"])
    assert (found.id, found.account, found.channel, found.state) == (
        made["id"],
        "meta-main",
        Channel.WHATSAPP,
        KeyState.ACTIVE,
    )
    assert datetime.fromisoformat(made["created_at"]).tzinfo is not None


def test_the_style_can_be_chosen(create, parts):
    made = create("--status-style", "channel")

    assert made["status_style"] == "channel"
    assert parts.keys.find(made["key"]).status_style is Style.CHANNEL


def test_a_new_key_is_printed_for_people(run, parts):
    lines = run("keys", "create", "--account", "twilio-main", "--channel", "whatsapp").out.splitlines()

    found = parts.keys.find(lines[0])
    assert lines[1] == f"{found.id}: account twilio-main, channel whatsapp. The key is not shown again."


def test_keys_differ(create):
    assert len({create()["key"] for _ in range(5)}) == 5


def test_an_account_that_is_not_configured_is_bad_usage(run):
    ended = run("keys", "create", "--account", "nobody", "--channel", "sms")

    assert (ended.code, ended.out) == (2, "")
    assert ended.errors == [f"status-ledger: no account 'nobody' in {ended.err.split(' in ')[1].strip()}"]


def test_a_channel_that_the_provider_does_not_have_is_bad_usage(run):
    ended = run("keys", "create", "--account", "meta-main", "--channel", "sms")

    assert (ended.code, ended.out) == (2, "")
    assert ended.errors == ["status-ledger: provider meta has no channel sms"]


def test_the_list_holds_every_key_and_no_secret(create, run):
    made = [create(), create(account="twilio-main", channel="sms")]

    ended = run("keys", "list", "--json")

    ids = [key["id"] for key in made]
    keys = [key for key in ended.json["items"] if key["id"] in ids]
    assert [key["id"] for key in keys] == ids
    assert all(set(key) == LISTED_FIELDS for key in keys)
    assert [key["state"] for key in keys] == ["active", "active"]
    assert all(key["ended_at"] is None and key["replaced_by"] is None for key in keys)
    assert not [key for key in made if key["key"] in ended.out]


def test_the_list_is_printed_for_people(create, run):
    made = create()

    heading, *lines = run("keys", "list").out.splitlines()
    (line,) = [line for line in lines if line.startswith(made["id"])]

    assert heading.split() == ["ID", "ACCOUNT", "CHANNEL", "STYLE", "STATE", "CREATED"]
    assert line.split() == [made["id"], "meta-main", "whatsapp", "unified", "active", made["created_at"]]


def test_no_keys_are_no_error(run, database_url):
    assert run("keys", "list", "--json", database_url=database_url).json == {"items": []}
    assert run("keys", "list", database_url=database_url).out.split() == [
        "ID",
        "ACCOUNT",
        "CHANNEL",
        "STYLE",
        "STATE",
        "CREATED",
    ]


def test_rotation_replaces_a_key_and_remembers_the_old_one(create, run, parts):
    old = create("--status-style", "channel")

    ended = run("keys", "rotate", old["id"], "--json")

    new = ended.json
    assert (ended.code, set(new)) == (0, SHOWN_FIELDS)
    assert (new["account"], new["channel"], new["status_style"]) == ("meta-main", "whatsapp", "channel")
    assert new["key"] != old["key"]
    assert parts.keys.find(old["key"]).state is KeyState.ROTATED
    assert parts.keys.find(new["key"]).state is KeyState.ACTIVE
    keys = listed(run)
    assert (keys[old["id"]]["state"], keys[old["id"]]["replaced_by"]) == ("rotated", new["id"])
    assert keys[old["id"]]["ended_at"] is not None


def test_revocation_withdraws_a_key(create, run, parts):
    made = create()

    ended = run("keys", "revoke", made["id"], "--json")

    assert (ended.code, set(ended.json), ended.json["state"]) == (0, LISTED_FIELDS, "revoked")
    assert parts.keys.find(made["key"]).state is KeyState.REVOKED
    assert listed(run)[made["id"]]["replaced_by"] is None


def test_revocation_speaks_to_people(create, run):
    made = create()

    assert run("keys", "revoke", made["id"]).out == f"revoked {made['id']}\n"


@pytest.mark.parametrize("action", ["rotate", "revoke"])
def test_only_an_active_key_can_be_ended(create, run, action):
    made = create()
    run("keys", "revoke", made["id"])

    again = run("keys", action, made["id"])
    unknown = run("keys", action, "key_unknown")

    assert (again.code, again.out, again.errors) == (1, "", [f"status-ledger: no active key {made['id']}"])
    assert (unknown.code, unknown.out, unknown.errors) == (1, "", ["status-ledger: no active key key_unknown"])


def test_a_rotated_key_is_not_rotated_again(create, run):
    made = create()
    run("keys", "rotate", made["id"])

    before = listed(run)

    assert run("keys", "rotate", made["id"]).code == 1
    assert before == listed(run)


def test_no_key_is_stored(create, run, command_url):
    made = [create(), run("keys", "rotate", create()["id"], "--json").json]

    with psycopg.connect(command_url) as connection:
        stored = "\n".join(row[0] for row in connection.execute("SELECT t::text FROM api_keys t"))

    for key in made:
        assert key["id"] in stored
        assert key["key"] not in stored
        assert key["key"].removeprefix("slk_") not in stored
        assert key["key"].encode().hex() not in stored
