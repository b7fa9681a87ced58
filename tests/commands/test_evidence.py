"""`verify`, `checkpoint`, `prove`, `access` over what a running server recorded."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import psycopg
import pytest

from tests.http.callbacks import meta, meta_failure, meta_status, new_wamid, only, send


@pytest.fixture(scope="module")
def ledger_service(start_module_service, new_database):
    return start_module_service(new_database())


@pytest.fixture
def environ(ledger_service, tmp_path):
    """Commands here look at what a running server recorded."""
    return {name: value for name, value in ledger_service.environ.items() if name.startswith("LEDGER_")}


@pytest.fixture
def api(ledger_service):
    return ledger_service.api()


@pytest.fixture
def read(ledger_service, api):
    wamid = new_wamid()
    for second, status in enumerate(("sent", "delivered", "read")):
        send(ledger_service, meta(meta_status(wamid, status, second)))
    return only(api, wamid)


@pytest.fixture
def sql(ledger_service):
    def run(statement, *parameters):
        with psycopg.connect(ledger_service.database_url, autocommit=True) as connection:
            return connection.execute(statement, parameters)

    return run


# Verify ---------------------------------------------------------------------------------------------------------------


def test_a_good_log_is_ok(run, read):
    run("checkpoint")
    ended = run("verify", "--json")

    assert ended.code == 0
    assert (ended.json["ok"], ended.json["first_bad"], ended.json["why"]) == (True, None, None)
    assert ended.json["checked"] >= 3
    assert ended.json["checkpoints"] >= 1


def test_a_bad_log_exits_3_and_names_the_place(run, read, sql):
    sql("UPDATE events SET recorded_at = recorded_at + interval '1 hour' WHERE position = 2")
    stream_id, version = sql("SELECT stream_id::text, version FROM events WHERE position = 2").fetchone()
    try:
        ended, told = run("verify", "--json"), run("verify")
    finally:
        sql("UPDATE events SET recorded_at = recorded_at - interval '1 hour' WHERE position = 2")

    place = {"partition": 0, "position": 2, "stream_id": stream_id, "version": version}
    assert (ended.code, ended.json["ok"], ended.json["first_bad"]) == (3, False, place)
    assert told.code == 3
    assert f"NOT OK at position 2 of partition 0, version {version} of stream {stream_id}:" in told.out


def test_verification_goes_on_from_a_file_and_from_a_checkpoint(run, read, ledger_service, tmp_path):
    place, held = tmp_path / "place.json", tmp_path / "held.txt"
    first = run("verify", "--json", "--resume", place).json["checked"]
    held.write_text(run("checkpoint").out, "utf-8")
    send(ledger_service, meta(meta_status(new_wamid(), "sent")))

    assert run("verify", "--json", "--resume", place).json["checked"] == 1
    assert run("verify", "--json", "--resume", place).json["checked"] == 0
    assert run("verify", "--json", "--from-checkpoint", held).json["checked"] == 1
    assert run("verify", "--json", "--against", held).json["checked"] == first + 1


def test_a_checkpoint_held_elsewhere_that_the_log_does_not_fit_is_found(run, read, sql, tmp_path):
    """The whole log rewritten, and what the owner of the database holds removed: only the copy elsewhere tells."""
    held = tmp_path / "held.txt"
    held.write_text(run("checkpoint").out, "utf-8")
    position, before = sql("SELECT position, hash FROM partition_heads").fetchone()
    sql("UPDATE partition_heads SET hash = sha256(hash)")
    sql("UPDATE events SET hash = sha256(hash) WHERE position = %s", position)
    try:
        ended = run("verify", "--json", "--from-checkpoint", held)
    finally:
        sql("UPDATE partition_heads SET hash = %s", before)
        sql("UPDATE events SET hash = %s WHERE position = %s", before, position)

    assert (ended.code, ended.json["first_bad"]["position"]) == (3, position)


@pytest.mark.parametrize(
    ("option", "content"),
    [("--from-checkpoint", "nothing"), ("--against", None), ("--resume", "{}"), ("--key", "name+00000000+AAAA")],
)
def test_bad_files_are_bad_usage(run, read, tmp_path, option, content):
    file = tmp_path / "file"
    if content is not None and option != "--key":
        file.write_text(content, "utf-8")

    ended = run("verify", option, content if option == "--key" else file)

    assert (ended.code, ended.out) == (2, "")
    assert option in ended.err


def test_a_checkpoint_of_another_key_is_not_begun_from(run, read, tmp_path):
    held = tmp_path / "held.txt"
    held.write_text(run("checkpoint").out, "utf-8")
    other = "name+25afb7f4+ASl0FoLhP+DTZ8cOiFTb43BYCzn54CQZwcZWEfzdFDkW"

    ended = run("verify", "--from-checkpoint", held, "--key", other)

    assert ended.code == 2


#: A column of a message's row, and how it is forged and mended.
COLUMNS = {
    "version": ("version + 1", "version - 1"),
    "status": ("'FAILED'", "'READ'"),
    "delivered_at": ("delivered_at - interval '1 hour'", "delivered_at + interval '1 hour'"),
    "channel": ("'sms'", "'whatsapp'"),
    "failure_category": ("'content'", "NULL"),
    "linked_to": ("gen_random_uuid()", "NULL"),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_one_message_is_verified_with_its_row(run, read, sql, column):
    forged, mended = COLUMNS[column]
    good = run("verify", "--message", read["message_id"], "--json")
    update = f"UPDATE current_status SET {column} = %s WHERE message_id = {read['message_id']}"  # noqa: S608
    sql(update % forged)
    try:
        bad = run("verify", "--message", read["message_id"], "--json")
    finally:
        sql(update % mended)

    assert (good.code, good.json["ok"], good.json["checked"]) == (0, True, 3)
    assert (bad.code, bad.json["ok"]) == (3, False)
    assert bad.json["first_bad"]["position"] == read["message_id"] // 256
    assert "says something else" in bad.json["why"]


def test_verification_runs_in_little_memory(ledger_service, read):
    """The command loads nothing but what it needs."""
    program = (
        "import re, sys; from ledger.__main__ import main; code = main(['verify']); "
        "most = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]; "
        "print(code, most, 'starlette' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], env=ledger_service.environ, capture_output=True, text=True, check=False
    )

    code, kilobytes, heavy = done.stdout.split()[-3:]
    assert (code, heavy) == ("0", "False"), done.stderr
    assert int(kilobytes) <= 64 * 1024


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_covers_everything_and_is_printed_as_a_note(run, read, sql):
    told, shown = run("checkpoint"), run("checkpoint", "--json").json["items"]

    (position,) = sql("SELECT position FROM partition_heads").fetchone()
    (item,) = shown
    assert told.out == item["note"]
    assert (item["partition"], item["position"]) == (0, position)
    assert f"\n{position}\n" in told.out


def test_public_keys_are_those_of_the_endpoint(run, read, ledger_service):
    run("checkpoint")
    keys = run("checkpoint", "--public-key").out.splitlines()

    (item,) = ledger_service.client().get("/v1/checkpoints").json()["items"]
    assert keys == [item["public_key"]]


def test_a_restore_is_put_on_record_by_name(run, read):
    assert run("checkpoint", "--after-restore").code == 2


# Proofs ---------------------------------------------------------------------------------------------------------------

#: Runs a script in a Python that has nothing but the standard library and `cryptography`.
ALONE = """
import runpy, sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        allowed = {*sys.stdlib_module_names, "cryptography", "_cffi_backend", "__main__"}
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def unpacked(bundle: Path) -> Path:
    with zipfile.ZipFile(bundle) as archive:
        assert archive.namelist() == ["README.txt", "verify.py", "bundle.json"]
        archive.extractall(bundle.parent / "unpacked")
    return bundle.parent / "unpacked"


def verified(directory: Path, *arguments: str) -> tuple[int, str]:
    """Run a bundle's script in a process that can import nothing but the standard library and `cryptography`."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(directory / "verify.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=directory,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_proof_is_verified_by_the_script_that_comes_with_it(run, read, tmp_path, ledger_service):
    ended = run("prove", read["message_id"], "-o", tmp_path / "bundle.zip", "--json")
    assert (ended.code, ended.json["events"]) == (0, 3)
    directory = unpacked(tmp_path / "bundle.zip")
    (held,) = ended.json["checkpoints"]
    (tmp_path / "held.txt").write_text(held, "utf-8")
    key = run("checkpoint", "--public-key").out.strip()

    code, told = verified(directory, "--key", key, "--checkpoint", str(tmp_path / "held.txt"))

    assert code == 0
    assert told.endswith(f"PROVED: 3 events of message {read['message_id']} are in the log as shown.\n")
    assert f"recipient: {read['recipient']}" in told
    assert f"provider_message_id: {read['provider_message_id']}" in told
    assert "status_after: READ" in told


def test_a_sealed_proof_shows_nobody_and_proves_the_same(run, read, tmp_path):
    run("prove", read["message_id"], "-o", tmp_path / "bundle.zip", "--sealed")

    code, told = verified(unpacked(tmp_path / "bundle.zip"))

    assert code == 0
    assert "bytes that only the message's data key opens" in told
    assert read["recipient"] not in told
    assert "The key came with the bundle." in told


def test_a_proof_of_a_message_that_was_handed_off_has_both_its_streams(run, api, ledger_service, tmp_path):
    message_id = api.post("/v1/messages", json={"channel": "whatsapp"}).json()["message_id"]
    wamid = new_wamid()
    api.post(f"/v1/messages/{message_id}/handoff", json={"provider_message_id": wamid})
    send(ledger_service, meta(meta_failure(wamid, 5)))

    ended = run("prove", message_id, "-o", tmp_path / "bundle.zip", "--json")

    assert ended.json["events"] == 5
    assert verified(unpacked(tmp_path / "bundle.zip"))[0] == 0


def _flip(text):
    return ("B" if text[0] == "A" else "A") + text[1:]


FORGERIES = {
    "a state": lambda bundle: bundle["events"][1].update(state=_flip(bundle["events"][1]["state"])),
    "a position": lambda bundle: bundle["events"][1].update(position=bundle["events"][1]["position"] + 1),
    "a time": lambda bundle: bundle["events"][1].update(recorded_at=bundle["events"][1]["recorded_at"] + 1),
    "a type": lambda bundle: bundle["events"][1].update(type="corrected.v1"),
    "a path": lambda bundle: bundle["events"][1].update(path=bundle["events"][1]["path"][:-1]),
    "a previous hash": lambda bundle: bundle["events"][1].update(previous=_flip(bundle["events"][1]["previous"])),
    "an event left out": lambda bundle: bundle["events"].pop(1),
    "events of another message": lambda bundle: bundle.update(message_id=bundle["message_id"] + 256),
    "no events": lambda bundle: bundle.update(events=[]),
    "the checkpoint's size": lambda bundle: bundle["checkpoints"].update(
        {"0": bundle["checkpoints"]["0"].replace("\n", "\n1", 1)}
    ),
    "another key": lambda bundle: bundle.update(
        public_keys=["name+25afb7f4+ASl0FoLhP+DTZ8cOiFTb43BYCzn54CQZwcZWEfzdFDkW"]
    ),
    "another format": lambda bundle: bundle.update(format="status-ledger-proof.v2"),
    "a data key": lambda bundle: bundle.update(data_keys=dict.fromkeys(bundle["data_keys"], "A" * 43 + "=")),
    "no numbers": lambda bundle: bundle["events"][0].update(position="1"),
    "no checkpoint": lambda bundle: bundle.update(checkpoints={}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_proof_is_refused(run, read, tmp_path, forgery):
    run("prove", read["message_id"], "-o", tmp_path / "bundle.zip")
    directory = unpacked(tmp_path / "bundle.zip")
    bundle = json.loads((directory / "bundle.json").read_text("utf-8"))
    FORGERIES[forgery](bundle)
    (directory / "bundle.json").write_text(json.dumps(bundle), "utf-8")

    code, told = verified(directory)

    assert code == 1
    assert "NOT PROVED" in told
    assert "\nPROVED" not in told


def test_a_proof_under_another_checkpoint_than_the_one_held_is_refused(run, read, tmp_path, ledger_service):
    held = tmp_path / "held.txt"
    run("prove", read["message_id"], "-o", tmp_path / "bundle.zip")
    note = run("checkpoint").out.split("\n")
    held.write_text("\n".join([note[0], note[1], "A" * 43 + "=", *note[3:]]), "utf-8")

    code, told = verified(unpacked(tmp_path / "bundle.zip"), "--checkpoint", str(held))

    assert (code, "the checkpoint that you hold" in told) == (1, True)


def test_a_message_whose_log_was_forged_cannot_be_proved(run, read, sql, tmp_path):
    run("checkpoint")
    position = read["message_id"] // 256
    sql("UPDATE events SET state = state || '\\x00'::bytea WHERE position = %s", position)
    try:
        ended = run("prove", read["message_id"], "-o", tmp_path / "bundle.zip")
    finally:
        sql("UPDATE events SET state = substr(state, 1, length(state) - 1) WHERE position = %s", position)

    assert (ended.code, (tmp_path / "bundle.zip").exists()) == (3, False)
    assert "cannot be proved" in ended.err


def test_a_proof_is_written_whole_or_not_at_all(run, read, tmp_path):
    ended = run("prove", read["message_id"], "-o", tmp_path / "none" / "bundle.zip")

    assert ended.code == 1
    assert "cannot be written" in ended.err


# Access ---------------------------------------------------------------------------------------------------------------


def test_who_read_a_message_is_on_record(run, read, api, ledger_service, tmp_path):
    key, secret = ledger_service.new_key("meta-main", "whatsapp")
    ledger_service.client(secret).get(f"/v1/messages/{read['message_id']}/history")
    run("history", read["message_id"])
    run("prove", read["message_id"], "-o", tmp_path / "bundle.zip")

    ended = run("access", "--message", read["message_id"], "--json")

    (by_key, by_command, proof, looked) = ended.json["items"]
    assert (by_key["who"], by_key["did"], by_key["account"]) == (key.id, "history", "meta-main")
    assert "@" in by_command["who"]
    assert [by_command["did"], proof["did"], looked["did"]] == ["history", "proof", "access"]
    assert {item["message_id"] for item in ended.json["items"]} == {read["message_id"]}
    assert [item["who"] for item in run("access", "--who", key.id, "--json").json["items"]] == [key.id]
    assert read["recipient"] not in run("access").out


def test_corrections_are_on_record(run, ledger_service, api):
    wamid = new_wamid()
    send(ledger_service, meta(meta_status(wamid, "delivered", 0), meta_failure(wamid, 5)))
    message = only(api, wamid)
    key, secret = ledger_service.new_key("meta-main", "whatsapp")
    body = {"to": "failed", "by": "operator-1", "why": "The recipient called."}
    ledger_service.client(secret).post(f"/v1/messages/{message['message_id']}/corrections", json=body)

    items = run("access", "--message", message["message_id"], "--json").json["items"]

    assert [(item["who"], item["did"]) for item in items][:1] == [(key.id, "correct")]


def test_the_log_is_narrowed_by_time(run, read):
    run("history", read["message_id"])
    at = run("access", "--message", read["message_id"], "--json").json["items"][0]["at"]

    def count(*options):
        return len(run("access", "--message", read["message_id"], "--json", *options).json["items"])

    assert count("--until", at) == 0
    assert count("--since", at) >= 1


def test_a_history_is_rewound_by_what_happened_as_well(run, api, ledger_service):
    """The report of 12:00:09 came in first: at that time it was not known that anything had happened before."""
    wamid = new_wamid()
    send(ledger_service, meta(meta_status(wamid, "read", -10)))
    send(ledger_service, meta(meta_status(wamid, "delivered", -40)))
    message = only(api, wamid)
    first, second = run("history", message["message_id"], "--json").json["items"]

    known = run("history", message["message_id"], "--json", "--as-of", first["recorded_at"]).json
    happened = run(
        "history", message["message_id"], "--json", "--as-of", second["occurred_at"], "--clock", "occurred"
    ).json

    assert ([item["provider_status"] for item in known["items"]], known["status"]) == (["read"], "READ")
    assert ([item["provider_status"] for item in happened["items"]], happened["status"]) == (["delivered"], "DELIVERED")
    path = f"/v1/messages/{message['message_id']}/history"
    asked = api.get(path, params={"as_of": second["occurred_at"], "clock": "occurred"}).json()
    assert asked == happened
    assert api.get(path, params={"clock": "tomorrow"}).json()["detail"] == "clock: must be one of recorded, occurred"
