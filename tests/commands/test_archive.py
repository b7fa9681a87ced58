"""`archive` and `restore`: what leaves the log, that it can be shown, and that it comes back as it was."""

import gzip
import json
from pathlib import Path

import psycopg
import pytest

from ledger.commands import archive
from tests.http.callbacks import history, meta, meta_status, new_phone, new_wamid, only, send


@pytest.fixture
def ledger_service(start_service, database_url):
    return start_service(database_url, "--role", "web")


@pytest.fixture
def environ(ledger_service):
    return {name: value for name, value in ledger_service.environ.items() if name.startswith("LEDGER_")}


@pytest.fixture
def api(ledger_service):
    return ledger_service.api()


@pytest.fixture
def sql(ledger_service):
    def run(statement, *parameters):
        with psycopg.connect(ledger_service.database_url, autocommit=True) as connection:
            return connection.execute(statement, parameters)

    return run


@pytest.fixture
def message(ledger_service, api):
    return a_message(ledger_service, api)


def a_message(service, api, phone=None):
    wamid, phone = new_wamid(), phone or new_phone()
    for second, status in enumerate(("sent", "delivered", "read")):
        send(service, meta({**meta_status(wamid, status, second), "recipient_id": phone}))
    return only(api, wamid)


def _text(file):
    return gzip.decompress(file.read_bytes()).decode()


def events(sql):
    return sql("SELECT count(*) FROM events").fetchone()[0]


def test_old_messages_leave_the_log_and_the_log_still_verifies(*, run, api, message, sql, tmp_path, ledger_service):
    before = history(api, message)

    ended = run("archive", tmp_path / "old", "--older-than", "0s", "--json")

    assert (ended.code, ended.json["events"], ended.json["removed"], events(sql)) == (0, 3, 3, 0)
    assert run("verify", "--json").json["ok"]
    (file,) = [Path(name) for name in ended.json["files"]]
    assert file.name == "p000-000000000000001-000000000000003.jsonl.gz"
    lines = [json.loads(line) for line in _text(file).splitlines()]
    assert [line["position"] for line in lines[1:-1]] == [item["position"] for item in before]
    assert lines[0]["format"] == "status-ledger-log.v1"
    assert message["recipient"] not in _text(file)


def test_status_stays_and_history_says_where_it_is(run, api, message, tmp_path):
    run("archive", tmp_path / "old", "--older-than", "0s")

    shown = api.get(f"/v1/messages/{message['message_id']}").json()
    answer = api.get(f"/v1/messages/{message['message_id']}/history")
    told = run("history", message["message_id"])

    assert (shown["status"], shown["recipient"]) == ("READ", message["recipient"])
    assert (answer.status_code, answer.json()["code"]) == (410, "archived")
    assert (told.code, "status-ledger restore" in told.err) == (1, True)
    assert run("prove", message["message_id"], "-o", tmp_path / "bundle.zip").code == 3


def test_one_message_comes_back_as_it_was(*, run, api, message, sql, tmp_path, ledger_service):
    other = a_message(ledger_service, api)
    before = history(api, message)
    run("archive", tmp_path / "old", "--older-than", "0s")

    ended = run("restore", tmp_path / "old", "--message", message["message_id"], "--json")

    assert (ended.code, ended.json) == (0, {"streams": 1, "events": 3})
    assert history(api, message) == before
    assert api.get(f"/v1/messages/{other['message_id']}/history").status_code == 410
    assert run("verify", "--json").json["ok"]
    assert run("prove", message["message_id"], "-o", tmp_path / "bundle.zip").code == 0
    assert run("restore", tmp_path / "old", "--all", "--json").json == {"streams": 1, "events": 3}
    assert events(sql) == 6
    assert sql("SELECT sum(removed) FROM archives").fetchone()[0] == 0
    assert run("archive", tmp_path / "old", "--older-than", "0s", "--json").json["removed"] == 6


def test_a_repeat_is_recognised_and_a_late_report_counts(*, run, api, message, sql, tmp_path, ledger_service):
    wamid = message["provider_message_id"]
    run("archive", tmp_path / "old", "--older-than", "0s")

    send(ledger_service, meta(meta_status(wamid, "sent", 0)))
    assert events(sql) == 0
    send(ledger_service, meta(meta_status(wamid, "played", 9)))

    assert events(sql) == 1
    assert api.get(f"/v1/messages/{message['message_id']}").json()["version"] == 4
    assert run("verify", "--json").json["ok"]
    second = run("archive", tmp_path / "old", "--older-than", "0s", "--json").json
    assert (second["events"], second["removed"], events(sql)) == (1, 1, 0)
    run("restore", tmp_path / "old", "--all")
    assert len(history(api, message)) == 4


def test_what_is_recent_goes_on_or_is_held_stays(*, run, api, message, sql, tmp_path, ledger_service):
    held, going_on = a_message(ledger_service, api), a_message(ledger_service, api)
    run("hold", "--message", held["message_id"], "--by", "counsel", "--why", "case 1")
    assert run("archive", tmp_path / "young", "--older-than", "1h", "--json").json["files"] == []
    send(ledger_service, meta(meta_status(going_on["provider_message_id"], "played", 9)))
    first = run("archive", tmp_path / "old", "--older-than", "0s", "--json").json

    assert (first["events"], first["removed"]) == (10, 7)
    kept = {row[0] for row in sql("SELECT DISTINCT stream_id FROM events")}
    assert len(kept) == 1
    assert api.get(f"/v1/messages/{held['message_id']}/history").status_code == 200
    assert run("verify", "--json").json["ok"]
    run("release", "--message", held["message_id"])
    assert run("archive", tmp_path / "old", "--older-than", "0s", "--json").json["removed"] == 3


def test_a_message_and_its_registration_leave_together(run, api, sql, tmp_path, ledger_service):
    message_id = api.post("/v1/messages", json={"channel": "whatsapp"}).json()["message_id"]
    wamid = new_wamid()
    api.post(f"/v1/messages/{message_id}/handoff", json={"provider_message_id": wamid})
    send(ledger_service, meta(meta_status(wamid, "read")))
    before = api.get(f"/v1/messages/{message_id}/history").json()

    run("archive", tmp_path / "old", "--older-than", "0s")
    assert events(sql) == 0
    assert api.get(f"/v1/messages/{message_id}").json()["status"] == "READ"
    run("restore", tmp_path / "old", "--message", message_id)

    assert api.get(f"/v1/messages/{message_id}/history").json() == before


def test_an_archived_message_is_erased_as_well(run, api, message, tmp_path):
    run("archive", tmp_path / "old", "--older-than", "0s")

    assert run("erase", "--message", message["message_id"], "--yes", "--by", "a", "--why", "b").code == 0
    run("restore", tmp_path / "old", "--message", message["message_id"])

    assert api.get(f"/v1/messages/{message['message_id']}").json()["recipient"] is None
    shown = api.get(f"/v1/messages/{message['message_id']}/history").json()["items"]
    assert [item["kind"] for item in shown] == ["observation"] * 3 + ["erasure"]
    assert all(item["evidence"] is None for item in shown)
    assert run("verify", "--json").json["ok"]


def test_files_without_taking_anything_out_are_verified_without_a_database(run, message, sql, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FILE_EVENTS", 2)
    ended = run("archive", tmp_path / "copy", "--older-than", "0s", "--keep", "--json")
    key = run("checkpoint", "--public-key").out.strip()
    assert (len(ended.json["files"]), events(sql)) == (2, 3)

    good = run("verify", "--files", tmp_path / "copy", "--key", key, "--json", database_url="", config="nowhere")

    assert (good.code, good.json["checked"], good.json["checkpoints"]) == (0, 3, 1)


def _rewrite(file, change):
    lines = _text(file).splitlines(keepends=True)
    change(lines)
    with gzip.open(file, "wt") as out:
        out.writelines(lines)


def test_only_what_left_comes_back(run, api, message, sql, tmp_path):
    """A file that somebody changed, and with all hashes computed again."""
    run("archive", tmp_path / "old", "--older-than", "0s")
    (file,) = (tmp_path / "old").iterdir()
    _rewrite(file, lambda lines: lines.__setitem__(2, json.dumps(json.loads(lines[2]) | {"state": "AAAA"}) + "\n"))

    ended = run("restore", file, "--message", message["message_id"])

    assert (ended.code, events(sql)) == (3, 0)
    assert "not the one that left" in ended.err


def test_a_restore_with_a_file_missing_changes_nothing(*, run, api, message, sql, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FILE_EVENTS", 1)
    run("archive", tmp_path / "old", "--older-than", "0s")
    sorted((tmp_path / "old").iterdir())[1].unlink()

    ended = run("restore", tmp_path / "old", "--message", message["message_id"])

    assert (ended.code, events(sql)) == (3, 0)
    assert "are missing" in ended.err


def test_what_is_altered_among_archived_events_is_found(*, run, api, message, sql, tmp_path, ledger_service):
    held = a_message(ledger_service, api)
    run("hold", "--message", held["message_id"], "--by", "a", "--why", "b")
    run("archive", tmp_path / "old", "--older-than", "0s")
    position = held["message_id"] // 256

    sql("UPDATE events SET state = state || '\\x00'::bytea WHERE position = %s", position)
    altered = run("verify", "--json").json
    sql("UPDATE events SET state = substr(state, 1, length(state) - 1) WHERE position = %s", position)
    sql("UPDATE archived_hashes SET hashes = set_byte(hashes, 5, get_byte(hashes, 5) # 1)")
    hashes = run("verify", "--json").json

    assert altered["first_bad"]["position"] == position
    assert hashes["ok"] is False


def test_nothing_leaves_that_a_read_model_has_not_read(run, api, message, sql, tmp_path):
    sql(
        "INSERT INTO projection_generations (projection, generation, shape, rules, state) "
        "VALUES ('p', 1, 1, '', 'live')"
    )
    sql("INSERT INTO projection_cursors (projection, generation, partition, position) VALUES ('p', 1, 0, 2)")

    ended = run("archive", tmp_path / "old", "--older-than", "0s", "--json")

    assert (ended.json["events"], ended.json["removed"]) == (2, 0)


@pytest.mark.parametrize("age", ["", "d", "-1d", "1y", "1.5d", "1 d"])
def test_an_age_that_is_none_is_bad_usage(run, tmp_path, age):
    assert run("archive", tmp_path, "--older-than", age).code == 2
